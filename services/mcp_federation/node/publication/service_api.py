"""ADR-32 of NATS: answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, so that `nats micro` sees the node."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from mcp_federation.bus.protocol import Bus, Delivery, Reply, Subscription
from mcp_federation.contract.subjects import EXECUTE, SERVICE_NAME, node_queue, service_subjects
from mcp_federation.version import VERSION

_TYPE = "io.nats.micro.v1."


class ServiceApi:
    """One instance of the service: the node process of that id.

    `stats` is None where no single execution may leave the organisation: whoever asked before and after one
    would have its outcome and its latency, to the nanosecond.
    """

    def __init__(
        self, bus: Bus, node: str, instance: str, stats: Callable[[], dict[str, int]] | None
    ) -> None:
        self._bus = bus
        self._node = node
        self._instance = instance
        self._stats = stats
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """Answer on the nine subjects of the ADR: for all services, this service, this instance."""
        for verb, content in (("PING", self._ping), ("INFO", self._info), ("STATS", self._statistics)):
            for subject in service_subjects(verb, self._instance):
                self._subscriptions.append(await self._bus.respond(subject, _responder(content)))

    async def stop(self) -> None:
        """Answer no more."""
        for subscription in self._subscriptions:
            await subscription.close()

    def _identity(self, kind: str) -> dict[str, Any]:
        return {
            "type": f"{_TYPE}{kind}_response",
            "name": SERVICE_NAME,
            "id": self._instance,
            "version": VERSION,
            "metadata": {"node": self._node},
        }

    def _ping(self) -> dict[str, Any]:
        return self._identity("ping")

    def _endpoint(self) -> dict[str, Any]:
        return {
            "name": "execute",
            "subject": EXECUTE.every(self._node),
            "queue_group": node_queue(self._node),
        }

    def _info(self) -> dict[str, Any]:
        return self._identity("info") | {
            "description": f"Executes the MCP tools of {self._node}",
            "endpoints": [self._endpoint() | {"metadata": {}}],
        }

    def _statistics(self) -> dict[str, Any]:
        endpoints = [] if self._stats is None else [self._endpoint() | _measured(self._stats())]
        return self._identity("stats") | {"started": self._started, "endpoints": endpoints}


def _measured(stats: dict[str, int]) -> dict[str, Any]:
    return {
        "num_requests": stats["requests"],
        "num_errors": stats["errors"],
        "last_error": "",
        "processing_time": stats["nanoseconds"],
        "average_processing_time": stats["nanoseconds"] // max(1, stats["requests"]),
    }


def _responder(content: Callable[[], dict[str, Any]]) -> Any:
    async def respond(_: Delivery) -> Reply:
        return Reply(msgspec.json.encode(content()))

    return respond
