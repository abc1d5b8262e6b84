"""Whether a change lets a tool do more than what was approved, or addresses somebody else. Pure.

A server that is harmless when it is checked and says something else later is the attack that no check of
a single text can see. So a change is judged by what it adds, however little that is: by the rules here it
waits for a person, whatever else is found.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgspec

from mcp_federation.contract.messages import Finding, Registration, Tool
from mcp_federation.governance.checks.check import MAX_FINDINGS, Sighting
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Path, Reading, Text, read, render_path
from mcp_federation.governance.detector.plain import decoded, plain
from mcp_federation.governance.loosening import is_bounded, loosened, properties, schemas
from mcp_federation.trust.policy import WIDENING

_SENSITIVE = re.compile(
    r"passw(?:or)?d|passphrase|secret|token|api.?key|private.?key|credential|cookie|session|auth"
    r"|path|file|folder|director|\burl|\buri|endpoint|host|webhook|callback"
    r"|command|\bcmd|shell|script|\bsql|\bcode\b|\beval|\bexec"
    r"|context|conversation|history|prompt|message|memory|notes?\b|reasoning|sidenote|feedback"
    r"|e-?mail|recipient|\bbcc|\bcc\b|wallet|account|card",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(
    r"\b(?:you|the (?:model|assistant|agent|llm|ai)|assistants?|agents?|models?)\b[^.]{0,40}"
    r"\b(?:must|should|shall|need to|have to|are to|will|always|never)\b"
    r"|\b(?:must|always|never|do not|don't|make sure|ensure|remember|instead of|prefer|first|before|prior to"
    r"|after)\b[^.]{0,60}\b(?:calls?|calling|uses?|using|invok\w+|run|running|read|send|pass|includ\w+"
    r"|mention\w*|tell|telling|inform\w*|reveal\w*|ask|answer\w*|respond\w*|reply\w*|instructions?|tools?"
    r"|prompts?)\b"
    r"|\b(?:ignore|disregard|forget|silently|secretly)\b|\boverrid\w+|\bsystem prompt\b"
    r"|\bimportant\s{0,3}[:!]"
    r"|<\s{0,3}/?\s{0,3}\w{1,40}\s{0,3}>|\[\s{0,3}/?(?:inst|system)\b"
    r"|\bwithout (?:asking|telling|mentioning|informing|confirm\w*)\b"
    r"|\b(?:only|best|official|mandatory|required) tool\b",
    re.IGNORECASE,
)
_CAPABILITIES: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for name, words in {
        "to delete": r"delet\w+|remov(?:e|es|ing)|eras\w+|wip(?:e|es|ing)|drop(?:s|ping)?|destroy\w*|purg\w+"
        r"|truncat\w+",
        "to write": r"writ(?:e|es|ing)|overwrit\w+|modif\w+|updat(?:e|es|ing)|edit(?:s|ing)?"
        r"|creat(?:e|es|ing)|sav(?:e|es|ing)|insert\w*|append\w*|renam\w+|mov(?:e|es|ing)",
        "to execute": r"execut\w+|run(?:s|ning)?|eval\w*|shell|subprocess|spawn\w*|install\w*|compil\w+",
        "to send": r"send(?:s|ing)?|upload\w*|post(?:s|ing)?|transmit\w*|forward\w*|e-?mail\w*"
        r"|shar(?:e|es|ing)|publish\w*|export\w*|sync\w*|webhooks?|exfiltrat\w+|report(?:s|ing)? to"
        r"|log(?:s|ging)? to",
        "to reach the network": r"download\w*|fetch\w*|request(?:s|ing)?|http\w*|connect(?:s|ing)?|proxy"
        r"|network|internet",
        "to read what it did not": r"read(?:s|ing)?|files?|folders?|director(?:y|ies)|clipboard|screen\w*"
        r"|environment|env|conversations?|history|memory|context|databases?|inbox|contacts",
        "to use secrets": r"secrets?|passwords?|passphrases?|tokens?|credentials?|api.?keys?|private keys?"
        r"|ssh|cookies?",
        "to spend": r"pay\w*|transfer\w*|purchas\w+|buy(?:s|ing)?|order(?:s|ing)?|refund\w*|wallets?"
        r"|charg(?:e|es|ing)",
        "to administer": r"admin\w*|root|sudo|privileg\w+|permissions?|grant\w*|users?|roles?|firewall"
        r"|disabl\w+",
    }.items()
}
# Every repetition that something must follow has a bound: a stranger writes what these read.
_TARGET = re.compile(
    r"\b(?:https?|wss?|ftp|file)://[^\s\"'<>)\]]+|\b[\w+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}"
    r"|\b(?:\d{1,3}\.){3}\d{1,3}\b|\b(?:[a-z0-9-]{1,63}\.){1,6}"
    r"(?:com|net|org|io|dev|app|ai|co|xyz|sh|me|info|cloud|site|online|top|ru|cn)\b"
    r"|(?<![\w.])~?/(?:etc|home|root|var|usr|tmp|proc|\.ssh|\.aws)\b[\w./-]*"
    r"|\B\.(?:ssh|aws|env|netrc|npmrc)\b",
    re.IGNORECASE,
)
_HINTS: Final[Mapping[str, bool]] = {
    "readOnlyHint": True,
    "destructiveHint": False,
    "idempotentHint": True,
    "openWorldHint": False,
}
"""The value of each hint that promises something; without it, nothing is promised."""

_SENTENCE = re.compile(r"(?<=[.!?;:])\s+|\n+")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_FEW_WORDS: Final = 8
_REWRITTEN: Final = 0.2
"""Of the words of two descriptions that are hardly the same tool's, so few at most are common."""

_REMEDY: Final = "Have a person compare the change with what the tool is for, and approve or reject it."


@dataclass(frozen=True)
class _Side:
    """One of the two texts, read for comparison."""

    reading: Reading

    @cached_property
    def texts(self) -> list[tuple[Text, str]]:
        """The strings that a model sees, as it reads them."""
        own = ("name", "version", "server", "source_repo", "server_url")
        return [
            (text, plain(text.text))
            for text in self.reading.texts
            if text.path[0] not in own and not (text.is_key and text.path[0] == "annotations")
        ]

    @cached_property
    def whole(self) -> str:
        return "\n".join(plain_text for _, plain_text in self.texts)

    @cached_property
    def sentences(self) -> frozenset[str]:
        return frozenset(_normal(part) for _, text in self.texts for part in _SENTENCE.split(text))

    def schemas(self, field: str) -> dict[Path, dict[str, Any]]:
        """A schema and every schema in it, by its path."""
        document = self.reading.document(field)
        return {} if document is None else dict(schemas(document))

    def properties(self, field: str) -> dict[Path, Any]:
        """Every property of a schema, at any depth, by its path."""
        document = self.reading.document(field)
        return {} if document is None else dict(properties(document))


Compare = Callable[[_Side, _Side], Iterable[Sighting]]


def widened(before: Tool, after: Registration) -> list[Finding]:
    """What of a change lets the tool do more, or addresses somebody else; nothing where nothing does."""
    old = _Side(read(msgspec.structs.replace(after, tool=before)))
    new = _Side(read(after))
    return [
        Finding(rule=rule, severity="medium", where=seen.where, why=seen.why, remedy=_REMEDY)
        for rule, compare in RULES.items()
        for seen in list(compare(old, new))[:MAX_FINDINGS]
    ]


TOO_LARGE: Final = "was too large to be kept"
NOT_BELIEVED: Final = "is in a record that is not believed here (of an earlier key, which --trust can name?)"


def unknown_predecessor(why: str) -> Finding:
    """The finding on a text that cannot be compared with the one that was approved before."""
    return Finding(
        rule=f"{WIDENING}unknown",
        severity="medium",
        where="",
        why=f"the text that was approved before {why}, so nobody can say what changed",
        remedy=_REMEDY,
    )


def _parameters(old: _Side, new: _Side) -> Iterator[Sighting]:
    known = old.properties("inputSchema")
    for path, schema in new.properties("inputSchema").items():
        text = _asked(path, schema)
        if path in known:
            told = _SENSITIVE.findall(_asked(path, known[path]).lower())
            if more := [word for word in _SENSITIVE.findall(text) if word.lower() not in told]:
                yield Sighting(render_path(path), f"its text now speaks of “{quote(more[0])}”")
        elif match := _SENSITIVE.search(text):
            yield Sighting(render_path(path), f"a new parameter takes “{quote(match[0])}”")
        elif not is_bounded(schema):
            yield Sighting(render_path(path), "a new parameter takes text of any kind")


def _bounds(old: _Side, new: _Side) -> Iterator[Sighting]:
    now = new.schemas("inputSchema")
    for path, was in old.schemas("inputSchema").items():
        if (schema := now.get(path)) is not None:
            for bound, why in loosened(was, schema):
                yield Sighting(render_path((*path, bound) if bound in schema else path), why)


def _annotations(old: _Side, new: _Side) -> Iterator[Sighting]:
    was, now = _hints(old), _hints(new)
    for hint, promise in _HINTS.items():
        if was.get(hint) is promise and now.get(hint) is not promise:
            shown = "gone" if hint not in now else msgspec.json.encode(now[hint]).decode()
            yield Sighting(
                f"annotations/{hint}", f"it promised {str(promise).lower()}, which is now {quote(shown)}"
            )


def _instructions(old: _Side, new: _Side) -> Iterator[Sighting]:
    for text, sentence in _added(old, new):
        if match := _INSTRUCTION.search(sentence):
            yield Sighting(
                text.where, f"new words tell the model what to do: “{quote(_around(sentence, match))}”"
            )


def _capability(old: _Side, new: _Side) -> Iterator[Sighting]:
    for name, words in _CAPABILITIES.items():
        if words.search(_words(old.whole)):
            continue
        for text, sentence in _added(old, new):
            if match := words.search(_words(sentence)):
                yield Sighting(text.where, f"it now speaks of being able {name}: “{quote(match[0])}”")
                break


def _targets(old: _Side, new: _Side) -> Iterator[Sighting]:
    known = {match[0].lower() for match in _TARGET.finditer(old.whole)}
    for text, words in new.texts:
        for match in _TARGET.finditer(words):
            if match[0].lower() not in known:
                known.add(match[0].lower())
                yield Sighting(text.where, f"it names a place that it did not: “{quote(match[0])}”")


def _output(old: _Side, new: _Side) -> Iterator[Sighting]:
    if old.reading.document("outputSchema") is None:
        return
    if new.reading.document("outputSchema") is None:
        yield Sighting("outputSchema", "it no longer says what it gives back")
    known = old.properties("outputSchema")
    for path in new.properties("outputSchema"):
        if path not in known:
            yield Sighting(render_path(path), "it gives back something that it did not")


def _script(old: _Side, new: _Side) -> Iterator[Sighting]:
    known = _scripts(old.whole)
    for text, sentence in _added(old, new):
        if more := sorted(_scripts(sentence) - known):
            known |= set(more)
            yield Sighting(text.where, f"new words are in another script: {', '.join(more).title()}")


def _encoded(old: _Side, new: _Side) -> Iterator[Sighting]:
    for text, sentence in _added(old, new):
        for hidden in decoded(sentence):
            yield Sighting(text.where, f"new words are encoded; they read “{quote(hidden)}”")
            break


def _rewritten(old: _Side, new: _Side) -> Iterator[Sighting]:
    was = set(_WORD.findall(old.reading.registration.tool.description.lower()))
    now = set(_WORD.findall(new.reading.registration.tool.description.lower()))
    if min(len(was), len(now)) >= _FEW_WORDS and len(was & now) < _REWRITTEN * min(len(was), len(now)):
        yield Sighting("description", "it is hardly the description of the same tool any more")


RULES: Final[Mapping[str, Compare]] = {
    f"{WIDENING}parameters": _parameters,
    f"{WIDENING}bounds": _bounds,
    f"{WIDENING}annotations": _annotations,
    f"{WIDENING}instructions": _instructions,
    f"{WIDENING}capability": _capability,
    f"{WIDENING}targets": _targets,
    f"{WIDENING}output": _output,
    f"{WIDENING}script": _script,
    f"{WIDENING}encoded": _encoded,
    f"{WIDENING}rewritten": _rewritten,
}


def _added(old: _Side, new: _Side) -> Iterator[tuple[Text, str]]:
    """The sentences that the new text has and the old one had nowhere."""
    for text, words in new.texts:
        for sentence in _SENTENCE.split(words):
            if sentence.strip() and _normal(sentence) not in old.sentences:
                yield text, sentence


def _normal(sentence: str) -> str:
    return " ".join(_WORD.findall(sentence.lower()))


def _words(text: str) -> str:
    """Names in snake_case and camelCase as separate words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", text)


def _around(sentence: str, match: re.Match[str]) -> str:
    return sentence[max(0, match.start() - 20) : match.end() + 40].strip()


def _hints(side: _Side) -> Mapping[str, Any]:
    document = side.reading.document("annotations")
    return document.value if document is not None and isinstance(document.value, dict) else {}


def _asked(path: Path, schema: Any) -> str:
    """What a parameter asks for: its name and its description."""
    described = schema.get("description", "") if isinstance(schema, dict) else ""
    return plain(f"{_words(str(path[-1]))} {described}")


def _scripts(text: str) -> set[str]:
    letters = {char for char in text if char.isalpha() and not char.isascii()}
    scripts = {unicodedata.name(char, "UNKNOWN").split(" ")[0] for char in letters}
    return scripts | {"LATIN"}
