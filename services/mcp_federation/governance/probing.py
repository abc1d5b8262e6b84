"""The live probe: has the node look again whether a tool's server is there, and lists what was registered."""

from typing import Final

from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.messages import (
    Finding,
    Probe,
    ProbeAnswer,
    Registration,
    Severity,
    decode,
    encode,
    raise_error_reply,
)
from mcp_federation.contract.subjects import PROBE, Header
from mcp_federation.errors import FederationError
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.logs import get_logger
from mcp_federation.trust.policy import ProbePolicy

log = get_logger("governance")

SUITE: Final = "probe"
GRACE_SECONDS: Final = 2.0


class Prober:
    """Sends probes to the process of the node that registers."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def findings(self, registration: Registration, policy: ProbePolicy) -> tuple[Finding, ...] | None:
        """What a probe finds; None where the node did not answer one."""
        if not registration.executable:
            return ()  # nothing runs it
        if not registration.instance:
            return None
        probe = Probe(name=registration.tool.name, call_read_only=policy.call_read_only)
        try:
            reply = await self._bus.request(
                PROBE.of(registration.node, registration.instance),
                encode(probe),
                timeout=policy.within_ms / 1000 + GRACE_SECONDS,
            )
            if Header.ERROR_CODE in reply.headers:
                raise_error_reply(reply.payload)
            answer = decode(reply.payload, ProbeAnswer)
        except FederationError as error:
            log.warning("probe_not_answered", node=registration.node, reason=error.message)
            return None
        return tuple(_found(answer, registration, policy))


def _found(answer: ProbeAnswer, registration: Registration, policy: ProbePolicy) -> list[Finding]:
    if answer.problem:
        why = f"its server could not be asked: {quote(answer.problem, 300)}"
        return [
            _finding("probe-failed", "medium", why, "See that the server answers, and register it again.")
        ]
    found = []
    if answer.digest != registration.digest:
        why = "its server lists another text than the one registered" if answer.digest else "it is gone again"
        remedy = "List the same text to everybody, and register what is listed."
        found.append(_finding("probe-other-text", "high", why, remedy))
    if answer.list_ms > policy.within_ms:
        why = f"its server took {answer.list_ms:.0f} ms to list its tools, over {policy.within_ms:.0f}"
        found.append(_finding("probe-slow", "low", why, "Answer `tools/list` without delay."))
    if answer.call_problem:
        why = f"called with arguments by its own schema: {quote(answer.call_problem, 300)}"
        remedy = "See that it answers what its own schema allows."
        found.append(_finding("probe-call-failed", "low", why, remedy))
    return found


def _finding(rule: str, severity: Severity, why: str, remedy: str) -> Finding:
    return Finding(rule=rule, severity=severity, where="", why=why, remedy=remedy)
