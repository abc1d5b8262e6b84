"""Security: texts that steer the tools that others publish. Pure."""

import re
from collections.abc import Iterator
from functools import cache

from mcp_federation.contract.messages import Registration
from mcp_federation.governance.checks.check import Check, Sighting, check
from mcp_federation.governance.checks.context import MIN_SAME_TOOL, Published, bare_name, resemblance
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Reading
from mcp_federation.governance.detector.lexicon import lexicon
from mcp_federation.governance.detector.passages import concepts
from mcp_federation.governance.detector.patterns import Patterns, patterns
from mcp_federation.governance.detector.plain import plain
from mcp_federation.governance.detector.tokens import is_identifier, tokens

_ORDERS = (
    "order_call",
    "other_then_order",
    "set_value",
    "other_modified",
    "take_secret",
    "take_context",
    "send_away",
    "tagged_order",
    "falsify_answer",
    "call",
    "send",
    "include",
    "collect",
    "modify",
)
_STEERS = (*_ORDERS, "about_other_tool", "over_others", "before_then_call")
_NAME = re.compile(
    r"(?<![\w.-])[A-Za-z][\w.-]{0,127}@[a-z0-9-]+|[A-Za-z][A-Za-z0-9]*(?:[_.-][A-Za-z0-9]+)+|[a-z]+[A-Z]\w+"
)
_OTHER = "other_tool"
_RANKS_OVER = (
    "before .. <name> ... (callthis|call|use)",
    "(callthis|call|use) .. (before|instead) .. <name>",
    "<name> .. inferior",
    "instead .. <name>",
)
"""What says so of another tool, which is told by its name; too common to be told without."""


@check(
    "steers-published-tool",
    "medium",
    rationale="A tool that says how another organisation's tool is to be used can turn it against its users.",
    remedy="Describe your own tool only; name no tool of another server or organisation.",
)
def steers_published(reading: Reading) -> Iterator[Sighting]:
    """Orders about tools that other servers publish, and texts that rank themselves over one of those."""
    if not len(reading.catalog):
        return
    numbers = {place for place, name in enumerate(patterns().names) if name in _STEERS}
    gives_orders = not concepts(reading).isdisjoint(numbers)
    for text in reading.texts:
        if text.is_key or text.path[0] not in ("description", "title", "inputSchema", "outputSchema"):
            continue
        for name in dict.fromkeys(_NAME.findall(text.text)):
            owner = _owner(name, reading)
            if owner and (gives_orders or _ranks_over(name, text.text)):
                yield Sighting(
                    text.where, f"it gives orders about “{quote(name)}”, which {quote(owner)} publishes"
                )


def _owner(name: str, reading: Reading) -> str:
    """The node of a stranger's tool that goes by this name: `tool`, `server.tool`, either with `@node`."""
    registration, catalog = reading.registration, reading.catalog
    name, _, node = name.partition("@")
    own = (registration.tool.name, bare_name(registration.tool.name, registration.server))
    if not node and (name in own or not is_identifier(name)):
        return ""
    tools = dict.fromkeys((*catalog.named(name), *catalog.called(name)))
    strangers = [tool for tool in tools if _server(tool) != _server(registration) and node in ("", tool.node)]
    siblings = [tool for tool in tools if _server(tool) == _server(registration)]
    is_own = not node and any(
        _is_twin(tool, siblings) or _says_so_itself(tool, name, reading) for tool in strangers
    )
    return strangers[0].node if strangers and not is_own else ""


def _is_twin(stranger: Published, siblings: list[Published]) -> bool:
    """Whether a tool of the server itself is the same one: both run the same public server."""
    return any(resemblance(stranger.description, each.description) >= MIN_SAME_TOOL for each in siblings)


def _server(tool: Published | Registration) -> tuple[str, str]:
    return tool.node, tool.server


def _says_so_itself(owner: Published, name: str, reading: Reading) -> bool:
    """Whether the owner publishes this tool too, which speaks of its other one there as it does here."""
    tool, server = reading.registration.tool, reading.registration.server
    return any(
        name in theirs.description and resemblance(tool.description, theirs.description) >= MIN_SAME_TOOL
        for theirs in reading.catalog.called(bare_name(tool.name, server))
        if _server(theirs) == _server(owner)
    )


def _ranks_over(name: str, text: str) -> bool:
    """Whether the text has itself called in the place of this tool, or before it."""
    ranking = _ranking()
    hits = lexicon().hits(tokens(plain(text.replace(name, _OTHER)))[0])
    return len(ranking.extended(hits)) > len(hits)


@cache
def _ranking() -> Patterns:
    return Patterns(lexicon(), {"ranks_over": _RANKS_OVER})


CHECKS: tuple[Check, ...] = (steers_published,)
