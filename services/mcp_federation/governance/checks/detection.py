"""Security: what the detector makes of all the text of a tool. Pure."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from mcp_federation.governance.checks.check import Check, Sighting, check
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Reading
from mcp_federation.governance.detector.model import (
    CAPABILITY,
    INSTRUCTIONS,
    Head,
    Opinion,
    opinions,
)
from mcp_federation.governance.detector.passages import passages

_KEPT = 16  # readings whose opinions are kept for the next check


def detector_checks(heads: Mapping[str, Head]) -> tuple[Check, ...]:
    """The checks that ask these heads of the model."""
    certain, bound = heads[INSTRUCTIONS].reject, heads[INSTRUCTIONS].quarantine
    orders, may_order = (
        "gives the model instructions of its own",
        "may give the model instructions of its own",
    )

    @lru_cache(maxsize=_KEPT)
    def ask(reading: Reading) -> dict[str, Opinion]:
        return opinions(heads, passages(reading))

    def search(name: str, least: float, below: float, what: str) -> Callable[[Reading], Iterator[Sighting]]:
        """One sighting, of the worst passage, where its probability is in [least, below)."""

        def found(reading: Reading) -> Iterator[Sighting]:
            opinion = ask(reading).get(name)
            if opinion is not None and least <= opinion.probability < below:
                yield _sighting(opinion, heads[name], what)

        return found

    return (
        check(
            "likely-instructions",
            "high",
            rationale="What steers a model is obeyed wherever the tool is offered, called or not.",
            remedy="Describe what this tool does and takes, and nothing that a model is to do besides.",
        )(search(INSTRUCTIONS, certain, 2.0, orders)),
        check(
            "suspected-instructions",
            "medium",
            rationale="What steers a model can be worded in any way; a person tells it from documentation.",
            remedy="Describe this tool only: give no orders about other tools, files, secrets or the user.",
        )(search(INSTRUCTIONS, bound, certain, may_order)),
        check(
            "suspected-harmful-capability",
            "medium",
            rationale="A tool whose stated purpose is an attack is for a person to admit, not for a machine.",
            remedy="Say whose systems it is for and with whose consent, and ask a person to review it.",
        )(search(CAPABILITY, heads[CAPABILITY].quarantine, 2.0, "may state a harmful purpose")),
    )


def _sighting(opinion: Opinion, head: Head, what: str) -> Sighting:
    words = head.words(opinion.passage)
    shown = ", ".join(f"“{quote(word, 40)}”" for word in words)
    why = f"with a probability of {opinion.probability:.0%} the text {what}, by the words {shown}"
    return Sighting(opinion.passage.text.where, why, round(opinion.probability, 4), words)
