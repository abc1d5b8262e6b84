"""The streams that somebody counts on: made with their configuration, and made again where they are gone."""

import asyncio
from collections.abc import Callable
from typing import Any

import nats.errors
import nats.js.errors
from nats.js.api import DiscardPolicy, StreamConfig
from nats.js.client import JetStreamContext

from mcp_federation.bus.handling import Tasks
from mcp_federation.contract.subjects import StreamSpec
from mcp_federation.errors import BusUnavailable
from mcp_federation.logs import get_logger

log = get_logger("bus")

RESTORE_PAUSE = 0.5

_STREAM_EXISTS_OTHERWISE = 10058


class EnsuredStreams:
    """Those of one connection; `connected` tells whether a server is reached."""

    def __init__(self, js: JetStreamContext, connected: Callable[[], bool]) -> None:
        self._js = js
        self._connected = connected
        self._specs: dict[str, StreamSpec] = {}
        self._restoring = Tasks(1)

    async def ensure(self, spec: StreamSpec) -> None:
        """Have a stream with that configuration, and from now on make it again where it is missing.

        Raises:
            BusUnavailable: it cannot be made.
        """
        await self._make(spec)
        self._specs[spec.name] = spec

    def restore(self) -> None:
        """Have every stream again that was ensured: the server lost it, or somebody removed it."""
        if not self._restoring.full:
            self._restoring.spawn(self._restore())

    async def close(self) -> None:
        """Make none again any more."""
        await self._restoring.finish(0)

    async def _restore(self) -> None:
        for spec in list(self._specs.values()):
            while self._connected():
                try:
                    await self._make(spec)
                    break
                except BusUnavailable as error:  # JetStream may still be starting
                    log.debug("stream_retry", stream=spec.name, reason=error.message)
                    await asyncio.sleep(RESTORE_PAUSE)

    async def _make(self, spec: StreamSpec) -> None:
        ours: dict[str, Any] = {
            "name": spec.name,
            "subjects": [spec.template.every()],
            "max_msgs_per_subject": 1 if spec.last_per_subject else -1,
            "max_age": spec.max_age.total_seconds() if spec.max_age else None,
            "max_bytes": spec.max_bytes,
            "discard": DiscardPolicy.OLD,
            "allow_direct": True,
            "deny_delete": spec.append_only,
            "deny_purge": spec.append_only,
        }
        try:
            try:
                await self._js.add_stream(StreamConfig(**ours))
            except nats.js.errors.APIError as error:
                if error.err_code != _STREAM_EXISTS_OTHERWISE:
                    raise
                # All else is its operator's, as how many servers of a cluster keep it.
                theirs = (await self._js.stream_info(spec.name)).config
                await self._js.update_stream(theirs.evolve(**ours))
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"the stream {spec.name} cannot be made") from error
