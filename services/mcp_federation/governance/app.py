"""The composition root of the governance worker."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_federation.bus.protocol import Bus, Subscription
from mcp_federation.contract.subjects import (
    AUDIT_STREAM,
    CATALOG_STREAM,
    GOVERNANCE_QUEUE,
    REGISTER,
    SUBMISSION_STREAM,
)
from mcp_federation.errors import FederationError, InvalidRequest
from mcp_federation.governance.worker import RegistrationDesk
from mcp_federation.logs import get_logger
from mcp_federation.process import connected
from mcp_federation.settings import Settings
from mcp_federation.trust.approvals import Approver
from mcp_federation.trust.keys import TrustedKey, load_or_create_key

log = get_logger("governance")

KEY_FILE: Final = "governance.key"
PUBLIC_KEY_FILE: Final = "governance.pub"


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set.

    Raises:
        InvalidRequest: the key files are not usable.
        BusUnavailable: NATS does not answer, or the streams cannot be made.
    """
    async with connected(settings, "governance", stop) as bus:
        worker = GovernanceWorker(
            bus,
            settings.state_dir,
            valid_for=timedelta(days=settings.approval_days),
            also_public_at=settings.public_key,
        )
        await worker.start()
        try:
            await stop.wait()
        finally:
            await worker.stop()


class GovernanceWorker:
    """One of any number of workers that judge registrations; they share a key through `state_dir`.

    Its public key is written to `state_dir` as `governance.pub`, one line, for others to trust, and to
    `also_public_at`.
    """

    def __init__(
        self,
        bus: Bus,
        state_dir: Path,
        *,
        valid_for: timedelta = timedelta(days=30),
        also_public_at: Path | None = None,
    ) -> None:
        self._bus = bus
        self._key_file = state_dir / KEY_FILE
        self._public_files = [state_dir / PUBLIC_KEY_FILE, *([also_public_at] if also_public_at else [])]
        self._valid_for = valid_for
        self._subscription: Subscription | None = None

    async def start(self) -> TrustedKey:
        """Have key and streams, and answer registrations from now on; the key that approvals are signed with.

        Raises:
            InvalidRequest: the key files are not usable.
            BusUnavailable: a stream cannot be made.
        """
        approver = Approver(await asyncio.to_thread(_load_key, self._key_file), self._valid_for)
        for stream in (CATALOG_STREAM, SUBMISSION_STREAM, AUDIT_STREAM):
            await self._bus.ensure_stream(stream)
        desk = RegistrationDesk(self._bus, approver)
        self._subscription = await self._bus.respond(REGISTER.every(), desk.answer, queue=GOVERNANCE_QUEUE)
        try:
            await self._bus.flush()
            # Last, so that who waits for the file then finds registrations answered.
            await asyncio.to_thread(_write_public, self._public_files, approver.public)
        except FederationError:
            await self.stop()
            raise
        log.info("governance_started", message="registrations are judged", key_id=approver.public.key_id)
        return approver.public

    async def stop(self) -> None:
        """Take no more registrations, and answer those that were taken."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.close()
            log.info("governance_stopped")


def _load_key(path: Path) -> Ed25519PrivateKey:
    try:
        return load_or_create_key(path)
    except OSError as error:
        raise InvalidRequest(
            f"the governance key {path.name} cannot be read or made: {error.strerror}"
        ) from error


def _write_public(paths: Iterable[Path], key: TrustedKey) -> None:
    for path in paths:
        draft = path.with_name(f".{path.name}.{token_hex(4)}")
        try:
            # Written aside and renamed: who reads it meanwhile finds the whole line, or the old one.
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(f"{key}\n")
            draft.replace(path)
        except OSError as error:
            raise InvalidRequest(f"cannot write the public key {path.name}: {error.strerror}") from error
