"""The `text_processing_mcp` toolbox: measure, search, change and compare text that comes with the call."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Required, cast

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field
from typing_extensions import TypedDict

Operation = Literal[
    "statistics", "search", "replace", "extract", "diff", "case", "truncate", "hash", "keywords", "json"
]
Case = Literal["lower", "upper", "title", "sentence", "snake", "kebab", "camel"]
Kind = Literal["emails", "urls", "numbers", "dates"]
Algorithm = Literal["sha256", "sha512", "sha1", "md5", "blake2b"]

NAME = "text_processing_mcp"
MAX_TEXT = 1_000_000
DESCRIPTION = """\
Text processing tool for text given in the call; it touches no files and no network. Use it instead of \
reckoning by hand: count characters, words, lines and sentences (`statistics`), find literal text or regular \
expressions with line numbers (`search`), substitute (`replace`), pull out emails, urls, numbers or dates \
(`extract`), compare two texts (`diff`, unified), change letter case (`case`), shorten (`truncate`), digest \
(`hash`), rank words by frequency (`keywords`), or validate and pretty-print JSON (`json`)."""

_WORKER = Path(__file__).with_name("text_worker.py")
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?\u2026\u3002])[\"'\u201d\u2019)\]]*\s+")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """a about after all also an and any are as at be because been but by can could did do does for from
        had has have he her his how i if in into is it its just me more most my no not of on one only or other
        our out over she so some such than that the their them then there these they this to too up us was we
        were what when which who will with would you your""",
    )
)


class Match(TypedDict):
    """One place where the pattern was found."""

    text: Annotated[str, Field(description="What was found")]
    start: Annotated[int, Field(description="Its first character's index, from 0")]
    end: Annotated[int, Field(description="The index after its last character")]
    line: Annotated[int, Field(description="The line it begins on, from 1")]
    column: Annotated[int, Field(description="Its first character in that line, from 1")]
    groups: Annotated[list[str | None], Field(description="What the pattern's groups caught")]


class Keyword(TypedDict):
    """A word and how often it occurs."""

    word: Annotated[str, Field(description="The word, in lower case")]
    count: Annotated[int, Field(description="How often it occurs")]


class TextResult(TypedDict, total=False):
    """What an operation found or made; each operation fills its own fields."""

    operation: Required[Annotated[Operation, Field(description="The operation done")]]
    text: Annotated[str, Field(description="replace, case, truncate, json: the new text. diff: unified diff")]
    characters: Annotated[int, Field(description="statistics: Unicode code points")]
    bytes: Annotated[int, Field(description="statistics: bytes in UTF-8")]
    words: Annotated[int, Field(description="statistics, keywords: words")]
    lines: Annotated[int, Field(description="statistics: lines")]
    sentences: Annotated[int, Field(description="statistics: sentences, by their closing marks")]
    paragraphs: Annotated[int, Field(description="statistics: blocks between blank lines")]
    matches: Annotated[list[Match], Field(description="search: the places found, in order")]
    items: Annotated[list[str], Field(description="extract: what was found, each once, in order")]
    keywords: Annotated[list[Keyword], Field(description="keywords: the most frequent words first")]
    truncated: Annotated[
        bool, Field(description="search, extract: there is more. truncate: the text was shortened")
    ]
    count: Annotated[int, Field(description="replace: replacements made. keywords: different words")]
    added: Annotated[int, Field(description="diff: lines only in other_text")]
    removed: Annotated[int, Field(description="diff: lines only in text")]
    identical: Annotated[bool, Field(description="diff: whether both are the same to the last character")]
    digest: Annotated[str, Field(description="hash: hexadecimal digest of the text in UTF-8")]
    valid: Annotated[bool, Field(description="json: whether the text is JSON")]
    problem: Annotated[str, Field(description="json: what is wrong with it, and where")]


def statistics(text: str) -> TextResult:
    """Count what the text is made of."""
    return TextResult(
        operation="statistics",
        characters=len(text),
        bytes=len(text.encode()),
        words=sum(1 for _ in _WORD.finditer(text)),
        lines=len(text.splitlines()),
        sentences=sum(1 for piece in _SENTENCE_END.split(text) if _WORD.search(piece)),
        paragraphs=len([block for block in re.split(r"\n[ \t]*\n", text) if block.strip()]),
    )


def change_case(text: str, case: Case) -> str:
    """The text in another case; snake, kebab and camel make one identifier of each line."""
    match case:
        case "lower":
            return text.lower()
        case "upper":
            return text.upper()
        case "title":
            return _WORD.sub(lambda word: word[0][:1].upper() + word[0][1:].lower(), text)
        case "sentence":
            return re.sub(r"(^|[.!?]\s+)(\w)", lambda start: start[1] + start[2].upper(), text.lower())
    return "\n".join(_identifier(line, case) for line in text.split("\n"))


def _identifier(line: str, case: Case) -> str:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W_A-Z]+", line)
    if case == "camel":
        return "".join(word.lower() if index == 0 else word.capitalize() for index, word in enumerate(words))
    return ("_" if case == "snake" else "-").join(word.lower() for word in words)


def truncate(text: str, length: int) -> TextResult:
    """At most `length` characters, cut after a whole word where there is one, with an ellipsis."""
    if len(text) <= length:
        return TextResult(operation="truncate", text=text, truncated=False)
    kept = text[: length - 1]
    if not text[length - 1].isspace() and (space := re.search(r"\s+\S*$", kept[-100:])):
        kept = kept[: len(kept) - len(space[0])]
    return TextResult(operation="truncate", text=kept.rstrip() + "…", truncated=True)


def keywords(text: str, limit: int) -> TextResult:
    """The most frequent words, without the commonest English ones and single letters."""
    words = [word[0].casefold() for word in _WORD.finditer(text)]
    counts = Counter(word for word in words if len(word) > 1 and word not in _COMMON)
    ranked = [Keyword(word=word, count=count) for word, count in counts.most_common(limit)]
    return TextResult(operation="keywords", words=len(words), count=len(counts), keywords=ranked)


def check_json(text: str, indent: int) -> TextResult:
    """Whether the text is JSON, and if so, laid out; with `indent` 0 on one line."""
    layout: dict[str, Any] = {"indent": indent} if indent else {"separators": (",", ":")}
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, **layout)
    pieces, left = list[str](), 2 * MAX_TEXT
    try:
        for piece in encoder.iterencode(json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)):
            pieces.append(piece)
            left -= len(piece)
            if left < 0:  # indentation can make a thousand characters of each one
                raise ToolError(f"Valid, but laid out it is longer than {2 * MAX_TEXT} characters")
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        return TextResult(operation="json", valid=False, problem=f"{error.msg} at {where}")
    except RecursionError:
        return TextResult(operation="json", valid=False, problem="nested too deeply")
    except ValueError as error:
        return TextResult(operation="json", valid=False, problem=str(error))
    return TextResult(operation="json", valid=True, text="".join(pieces))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:100]!r} occurs twice in one object")
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def delegate(request: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Have the worker process do a request; ToolError when it cannot, or not within `deadline` seconds."""
    command = [sys.executable, "-I", "-S", str(_WORKER), str(int(deadline) + 1)]
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and file; the input goes to stdin
            command, input=json.dumps(request).encode(), capture_output=True, timeout=deadline, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(
            f"This took longer than {deadline:g} s: use a simpler pattern or less text"
        ) from error
    except (subprocess.CalledProcessError, OSError) as error:
        raise ToolError("This needs more memory than is allowed: use less text") from error
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise ToolError(answer["error"])
    return cast(dict[str, Any], answer["result"])


def make_text_processing(deadline: float = 3.0) -> MCPServer[Any]:
    """A server whose one tool works on text; what input could make costly ends after `deadline` seconds."""
    server: MCPServer[Any] = MCPServer(
        NAME,
        title="Text processing",
        description="Measure, search, change and compare text.",
        version="1.0.0",
    )

    @server.tool(
        name=NAME,
        title="Text processing",
        description=DESCRIPTION,
        annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
    )
    def text_processing_mcp(
        operation: Annotated[Operation, Field(description="What to do with the text")],
        text: Annotated[str, Field(max_length=MAX_TEXT, description="The text to work on")],
        pattern: Annotated[
            str, Field(max_length=1000, description="search, replace: what to find, literally unless `regex`")
        ] = "",
        replacement: Annotated[
            str,
            Field(max_length=10_000, description=r"replace: what to put there; with `regex`, \1 is group 1"),
        ] = "",
        regex: Annotated[
            bool, Field(description="search, replace: the pattern is a Python regular expression")
        ] = False,
        ignore_case: Annotated[bool, Field(description="search, replace: letter case makes no odds")] = False,
        other_text: Annotated[
            str, Field(max_length=MAX_TEXT, description="diff: the newer text, compared with `text`")
        ] = "",
        kind: Annotated[Kind, Field(description="extract: what to pull out")] = "emails",
        case: Annotated[
            Case, Field(description="case: the case to give; snake, kebab and camel join each line's words")
        ] = "lower",
        algorithm: Annotated[Algorithm, Field(description="hash: the algorithm")] = "sha256",
        length: Annotated[
            int, Field(ge=1, le=MAX_TEXT, description="truncate: characters to keep, ellipsis included")
        ] = 280,
        indent: Annotated[
            int, Field(ge=0, le=8, description="json: spaces a level; 0 puts it on one line")
        ] = 2,
        limit: Annotated[
            int, Field(ge=1, le=1000, description="search, extract, keywords: most results")
        ] = 100,
    ) -> TextResult:
        match operation:
            case "statistics":
                return statistics(text)
            case "case":
                return TextResult(operation="case", text=change_case(text, case))
            case "truncate":
                return truncate(text, length)
            case "hash":
                digest = hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()
                return TextResult(operation="hash", digest=digest)
            case "keywords":
                return keywords(text, limit)
            case "json":
                return check_json(text, indent)
        if operation in ("search", "replace") and not pattern:
            raise ToolError(f"{operation} needs a pattern")
        request = {"operation": operation, "text": text, "pattern": pattern, "regex": regex, "kind": kind}
        request |= {"replacement": replacement, "ignore_case": ignore_case, "other_text": other_text}
        found = delegate(request | {"limit": limit}, deadline)
        return cast(TextResult, {"operation": operation, **found})

    return server


@cache
def _server() -> MCPServer[Any]:
    return make_text_processing()


def __getattr__(name: str) -> MCPServer[Any]:
    if name == "server":
        return _server()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
