"""Quality: whether an agent can tell when to use a tool, with what, and at what price. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mcp_federation.governance.checks.check import Check, Sighting, check
from mcp_federation.governance.checks.descriptions import MAX_DESCRIPTION
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Reading
from mcp_federation.governance.checks.schemas import LARGE_SCHEMA
from mcp_federation.governance.detector.lexicon import lexicon
from mcp_federation.governance.detector.plain import plain
from mcp_federation.governance.detector.tokens import tokens

MAX_TOKENS: Final = 2_000
CHARACTERS_A_TOKEN: Final = 4
"""About what tokenizers make of English and JSON."""

MIN_USE_WORDS: Final = 6
_SHOWN_NAMES = 5

_VERB = re.compile(r"[A-Za-z]+")
_DESTROYS = re.compile(
    r"(?:delete|remove|drop|erase|wipe|destroy|purge|truncate|overwrite|uninstall|terminate)s?", re.IGNORECASE
)
_WRITES = re.compile(
    r"(?:create|write|update|insert|send|post|upload|edit|modify|rename|move|append|publish|install|execute|merge|push)(?:e?s)?"
    r"|modifies",
    re.IGNORECASE,
)
_READS = re.compile(
    r"(?:get|list|read|show|search|find|fetch|describe|count|view|query|lookup|retrieve)(?:e?s)?",
    re.IGNORECASE,
)
_MEANINGLESS = re.compile(
    r"(?:arg|param|var|x|y|foo|bar|tmp|temp)_?\d+|foo|bar|asdf|xxx+",
    re.IGNORECASE,
)
_COMMAND = re.compile(r"(?:shell_?|bash_?|os_?|system_?)?(?:command|cmd)s?|shell|exec|eval", re.IGNORECASE)
_RUNS = re.compile(
    r"command|shell|exec|terminal|bash|run|script|cli\b|eval|process|program|console", re.IGNORECASE
)
_CONTEXT = re.compile(
    r"(?:full_?|entire_?|complete_?|whole_?|current_?|previous_?|user_?)?(?:conversation|chat|messages?|dialog(?:ue)?|session)_?"
    r"(?:history|context|log|transcript|so_?far)|(?:full_?|entire_?|whole_?|user_?)?(?:conversation|transcript)|system_?(?:prompt|message|instructions)"
    r"|side_?note|(?:model|assistant|llm|agent)_?(?:context|instructions|reasoning|memory|thoughts?)|chain_?of_?thoughts?"
    r"|(?:(?:all|previous|prior|past|other)_?)+(?:messages|tool_?(?:calls?|results?|outputs?)).*|(?:all_?|available_?|other_?|list_?of_?)?tools?_?(?:list|available)"
    r"|.*environment_details|contents?_of_\w*(?:keys?|secrets?|passwords?|tokens?|env|credentials?|history)",
    re.IGNORECASE,
)
_CONVERSES = re.compile(
    r"conversation|chat|dialog|messag|prompt|llm|language model|assistant|agent|thought|thinking|reasoning"
    r"|transcript|memor|completion|summar|generat",
    re.IGNORECASE,
)
"""Of which a tool speaks that has a use for what was said."""

_SPEAKS = ("onversation", "hat ", "ialog", "essage", "rompt", "easoning", "so far", "tools", " said")
"""Of which a text about the conversation has one: cheaper to look for."""


@check(
    "description-without-use",
    "info",
    rationale="An agent that sees a hundred tools needs to know when to use this one, not only its name.",
    remedy="Add what goes in, what comes out, and when to use the tool rather than another.",
)
def without_use(reading: Reading) -> Iterator[Sighting]:
    """Descriptions of a few words, of tools that take parameters which are not described either."""
    registration = reading.registration
    words = registration.tool.description.split()
    described = any(
        isinstance(each, dict) and each.get("description") for each in _properties(reading).values()
    )
    if (
        registration.executable
        and 1 < len(words) < MIN_USE_WORDS
        and registration.tool.description.isascii()
        and not described
    ):
        yield Sighting("description", f"{len(words)} words do not say when to use the tool")


@check(
    "parameter-name-meaningless",
    "info",
    rationale="An agent fills a parameter by its name first; arg1 and foo tell it nothing.",
    remedy="Name the parameter after what it holds, such as city or max_results.",
)
def meaningless_parameter(reading: Reading) -> Iterator[Sighting]:
    """Parameters such as arg1, foo or a blank."""
    names = [name for name in _properties(reading) if not name.strip() or _MEANINGLESS.fullmatch(name)]
    if names:
        shown = ", ".join(f"“{quote(name, 40)}”" for name in names[:_SHOWN_NAMES])
        yield Sighting("inputSchema/properties", f"{shown}: nothing tells what it holds")


@check(
    "token-cost",
    "info",
    rationale="Every conversation in which the tool is offered pays for all of its text, called or not.",
    remedy="Shorten descriptions and schemas; move what is seldom needed into a tool of its own.",
)
def token_cost(reading: Reading) -> Iterator[Sighting]:
    """Tools that take thousands of tokens to offer, where no other check tells which part is too long."""
    tool = reading.registration.tool
    size = len(tool.description) + len(tool.title or "") + len(bytes(tool.input_schema))
    tokens = size // CHARACTERS_A_TOKEN
    is_told = len(tool.description) > MAX_DESCRIPTION or len(bytes(tool.input_schema)) > LARGE_SCHEMA
    if tokens > MAX_TOKENS and not is_told:
        yield Sighting("tool", f"to offer it takes about {tokens:,} tokens")


@check(
    "annotations-contradict-text",
    "medium",
    rationale="Consumers let a read-only tool run without asking; one that deletes must not pass for it.",
    remedy="Set readOnlyHint and destructiveHint to what the tool does, or mend the description.",
)
def contradicted(reading: Reading) -> Iterator[Sighting]:
    """A hint that name or description deny."""
    document = reading.document("annotations")
    if document is None or not isinstance(document.value, dict):
        return
    verbs = [verb for verb in _first_verbs(reading) if verb]
    destroys = next((verb for verb in verbs if _DESTROYS.fullmatch(verb)), "")
    writes = next((verb for verb in verbs if _WRITES.fullmatch(verb)), "")
    reads = any(_READS.fullmatch(verb) for verb in verbs)
    if document.value.get("readOnlyHint") is True and (destroys or (writes and not reads)):
        yield Sighting(
            "annotations/readOnlyHint", f"a tool that “{quote(destroys or writes)}” is not read-only"
        )
    elif (
        document.value.get("destructiveHint") is False and destroys and not document.value.get("readOnlyHint")
    ):
        yield Sighting("annotations/destructiveHint", f"a tool that “{quote(destroys)}” is destructive")


@check(
    "command-parameter-unexplained",
    "low",
    rationale="A parameter that takes a command can do anything; who approves the tool has to know it.",
    remedy="Say in the description what may be run and as whom, or take parameters of their own instead.",
)
def unexplained_command(reading: Reading) -> Iterator[Sighting]:
    """Parameters for commands, of tools whose name and description speak of none."""
    tool = reading.registration.tool
    for name, schema in _properties(reading).items():
        is_text = (
            isinstance(schema, dict) and schema.get("type", "string") == "string" and "enum" not in schema
        )
        if is_text and _COMMAND.fullmatch(name) and not _RUNS.search(f"{tool.name} {tool.description}"):
            yield Sighting(
                "inputSchema/properties", f"“{quote(name, 40)}” takes any command, and the text tells of none"
            )


@check(
    "context-parameter",
    "medium",
    rationale="A parameter for the conversation or the model's instructions sends them to a stranger.",
    remedy="Ask for what the tool needs to know; say in the description what a conversation is for.",
)
def context_parameter(reading: Reading) -> Iterator[Sighting]:
    """Parameters for what only the model and its user know, of tools that have no use for it."""
    tool = reading.registration.tool
    asking = [name for name, schema in _properties(reading).items() if _asks_for_what_was_said(name, schema)]
    if asking and not _CONVERSES.search(f"{tool.name} {tool.title} {tool.description}"):
        for name in asking:
            yield Sighting(
                "inputSchema/properties", f"“{quote(name, 40)}” asks for what was said, not for an argument"
            )


def _asks_for_what_was_said(name: str, schema: Any) -> bool:
    """Whether a parameter is named after it, or is to hold all that was said or that the model was told."""
    if _CONTEXT.fullmatch(name):
        return True
    text = schema.get("description") if isinstance(schema, dict) else None
    if not isinstance(text, str) or not any(word in text for word in _SPEAKS):
        return False
    known = lexicon()
    found = {known.names[concept] for _, concept in known.hits(tokens(plain(text))[0])}
    return "thischat" in found or {"context", "all"} <= found


def _first_verbs(reading: Reading) -> Iterator[str]:
    """The word that the name begins with, and the one that the description begins with."""
    tool = reading.registration.tool
    own = tool.name.rpartition(".")[2]
    for text in (re.sub(r"([a-z])([A-Z])", r"\1 \2", own).replace("_", " "), tool.description):
        match = _VERB.match(text.strip())
        yield match[0] if match else ""


def _properties(reading: Reading) -> Mapping[str, Any]:
    document = reading.document("inputSchema")
    properties = document.value.get("properties") if document and isinstance(document.value, dict) else None
    return properties if isinstance(properties, dict) else {}


QUALITY: tuple[Check, ...] = (without_use, meaningless_parameter, token_cost, contradicted)
SECURITY: tuple[Check, ...] = (unexplained_command, context_parameter)
