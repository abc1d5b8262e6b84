"""Quality and security of a tool beside what is published: look-alikes and duplicates. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from mcp_federation.governance.checks.check import Check, Sighting, check
from mcp_federation.governance.checks.context import MIN_SAME_TOOL, Owned, bare_name, resemblance
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Reading
from mcp_federation.governance.detector.plain import is_slip, spelling

MIN_SIMILARITY: Final = 0.8
MIN_LENGTH: Final = 40
"""Characters of a description that two tools do not have in common by chance."""


@check(
    "look-alike-name",
    "medium",
    rationale="A name that looks like a published one is called in its place, by people and by models.",
    remedy="Choose a name that cannot be taken for the published one.",
)
def look_alike_name(reading: Reading) -> Iterator[Sighting]:
    """Names with the look of another node's tool and other letters; case and separators do not count."""
    registration = reading.registration
    name = bare_name(registration.tool.name, registration.server)
    if rival := _rival(name, registration.node, reading.catalog.names_like(name)):
        node, other = map(quote, rival)
        yield Sighting("name", f"“{quote(name)}” looks like “{other}”, which {node} publishes")


@check(
    "look-alike-server",
    "medium",
    rationale="A server that looks like another organisation's is trusted in its place.",
    remedy="Give the server a name that cannot be taken for the other one.",
)
def look_alike_server(reading: Reading) -> Iterator[Sighting]:
    """Servers with the look of another node's, or a letter off one with a tool of the same name."""
    registration = reading.registration
    server, own_node = registration.server, registration.node
    namesakes = reading.catalog.called(bare_name(registration.tool.name, server))
    servers = {(tool.node, tool.server) for tool in namesakes}
    slips = {owned for owned in servers if is_slip(server, owned[1])}
    if rival := _rival(server, own_node, slips | reading.catalog.servers_like(server)):
        node, other = map(quote, rival)
        yield Sighting("server", f"“{quote(server)}” looks like “{other}”, a server of {node}")


@check(
    "look-alike-node",
    "medium",
    rationale="An organisation that looks like another one is trusted in its place.",
    remedy="Give the node a name that cannot be taken for the other one.",
)
def look_alike_node(reading: Reading) -> Iterator[Sighting]:
    """Nodes with the look of another node that publishes tools, and other letters."""
    own = reading.registration.node
    if rival := _rival(own, own, reading.catalog.nodes_like(own)):
        yield Sighting("node", f"“{quote(own)}” looks like “{quote(rival[0])}”, another node")


@check(
    "name-taken",
    "medium",
    rationale="Of two tools with one name each is taken for the other, whatever the case and the separators.",
    remedy="Choose a name of your own; keep the name only for the same tool, described as it is there.",
)
def name_taken(reading: Reading) -> Iterator[Sighting]:
    """Names that a tool of another node has, which is described as another tool."""
    registration = reading.registration
    tool = registration.tool
    for other in reading.catalog.spelled_like(tool.name) if len(reading.catalog) else ():
        if other.node == registration.node:
            continue
        alike = resemblance(tool.description, other.description)
        if alike < MIN_SAME_TOOL:
            shown = f"{quote(other.node)} publishes another tool as “{quote(other.name)}”"
            yield Sighting("name", f"{shown}: the descriptions have {alike:.0%} in common")
            return


@check(
    "near-duplicate",
    "low",
    rationale="Two tools that say the same make an agent choose blindly, and cost their description twice.",
    remedy="Publish one of them, or say in each description what sets it apart.",
)
def near_duplicate(reading: Reading) -> Iterator[Sighting]:
    """Descriptions that another tool of the same node has nearly word for word."""
    registration = reading.registration
    tool = registration.tool
    if len(tool.description) < MIN_LENGTH or not len(reading.catalog):
        return
    for other, similarity in reading.catalog.described_like(tool.description):
        if other.node == registration.node and other.name != tool.name and similarity >= MIN_SIMILARITY:
            yield Sighting("description", f"{similarity:.0%} of it is that of “{quote(other.name)}”")
            return


def _rival(name: str, own_node: str, alike: Iterable[Owned]) -> Owned | None:
    """The first of the names that look like this one which another node has, and spells otherwise."""
    rivals = (owned for owned in alike if owned[0] != own_node and spelling(owned[1]) != spelling(name))
    return min(rivals, default=None)


SECURITY: tuple[Check, ...] = (look_alike_name, look_alike_server, look_alike_node, name_taken)
QUALITY: tuple[Check, ...] = (near_duplicate,)
