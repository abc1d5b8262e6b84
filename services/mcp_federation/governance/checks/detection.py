"""Security: what the detector makes of all the text of a tool. Pure."""

from collections.abc import Callable, Iterator, Mapping

from mcp_federation.governance.checks.catalogue import Check, Sighting, check
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Reading
from mcp_federation.governance.detector.model import CAPABILITY, INSTRUCTIONS, Head
from mcp_federation.governance.detector.passages import passages


def detector_checks(heads: Mapping[str, Head]) -> tuple[Check, ...]:
    """The checks that ask these heads of the model."""
    instructions, capability = heads[INSTRUCTIONS], heads[CAPABILITY]
    return (
        check(
            "likely-instructions",
            "high",
            rationale="What steers a model is obeyed wherever the tool is offered, called or not.",
            remedy="Describe what this tool does and takes, and nothing that a model is to do besides.",
        )(_asking(instructions, instructions.reject, 2.0, "gives the model instructions of its own")),
        check(
            "suspected-instructions",
            "medium",
            rationale="What steers a model can be worded in any way; a person tells it from documentation.",
            remedy="Describe this tool only: give no orders about other tools, files, secrets or the user.",
        )(
            _asking(
                instructions,
                instructions.quarantine,
                instructions.reject,
                "may give the model instructions of its own",
            )
        ),
        check(
            "suspected-harmful-capability",
            "medium",
            rationale="A tool whose stated purpose is an attack is for a person to admit, not for a machine.",
            remedy="Say whose systems it is for and with whose consent, and ask a person to review it.",
        )(_asking(capability, capability.quarantine, 2.0, "may state a harmful purpose")),
    )


def _asking(head: Head, least: float, below: float, what: str) -> Callable[[Reading], Iterator[Sighting]]:
    """One sighting, of the worst passage, where its probability is in [least, below)."""

    def search(reading: Reading) -> Iterator[Sighting]:
        opinion = head.opinion(passages(reading))
        if opinion is not None and least <= opinion.probability < below:
            words = head.words(opinion.passage)
            shown = ", ".join(f"“{quote(word, 40)}”" for word in words)
            why = f"with a probability of {opinion.probability:.0%} the text {what}, by the words {shown}"
            yield Sighting(opinion.passage.text.where, why, round(opinion.probability, 4), words)

    return search
