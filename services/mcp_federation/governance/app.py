"""The composition root of the governance worker."""

import asyncio
import os
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.subjects import GOVERNANCE_QUEUE, GOVERNANCE_STREAMS, REGISTER, REVIEW
from mcp_federation.errors import FederationError, InvalidRequest
from mcp_federation.files import write_whole
from mcp_federation.governance.claims import Claims
from mcp_federation.governance.helpers import Helpers, help_out
from mcp_federation.governance.model_judge import ModelJudge
from mcp_federation.governance.published import PublishedTools
from mcp_federation.governance.review import ReviewDesk
from mcp_federation.governance.trail import Trail
from mcp_federation.governance.worker import RegistrationDesk
from mcp_federation.logs import get_logger
from mcp_federation.process import connected
from mcp_federation.settings import Settings
from mcp_federation.trust.approvals import ApprovalVerifier, Approver
from mcp_federation.trust.keys import (
    KEY_FILE,
    PUBLIC_KEY_FILE,
    TrustedKey,
    load_or_create_key,
    read_trusted_keys,
)
from mcp_federation.trust.orders import OrderVerifier
from mcp_federation.trust.policy import PRESETS, Policy
from mcp_federation.trust.policy_file import load_policy
from mcp_federation.trust.seals import Sealer

if TYPE_CHECKING:
    from mcp_federation.engine.chat import ChatEndpoint

log = get_logger("governance")

REPLAY_TIMEOUT: Final = 30.0
MAX_WAITING: Final = 4096
"""Registrations that wait for their turn; what is beyond is told to come again."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set.

    Raises:
        InvalidRequest: the key files, or the policy, are not usable.
        BusUnavailable: NATS does not answer, or the streams cannot be made.
    """
    policy = load_policy(settings.policy)
    async with connected(settings, "governance", stop) as bus:
        worker = GovernanceWorker(
            bus,
            settings.state_dir,
            valid_for=timedelta(days=settings.approval_days),
            also_public_at=settings.public_key,
            policy=policy,
            operators=read_trusted_keys(settings.operators),
            earlier_keys=_earlier_keys(settings),
            model=_model(settings),
        )
        await worker.start()
        processes = settings.governance_workers or os.cpu_count() or 1
        helpers = Helpers(settings, _help, processes - 1, lambda: worker.waiting)
        helpers.start()
        try:
            await stop.wait()
        finally:
            await helpers.stop()
            await worker.stop()


def _earlier_keys(settings: Settings) -> tuple[TrustedKey, ...]:
    """The trusted keys, but for files that are not there yet: one may be the file that we write ourselves."""
    sources = [key for key in settings.trusted_keys if key.startswith("ed25519:") or Path(key).exists()]
    return read_trusted_keys(sources)


def _model(settings: Settings) -> "ChatEndpoint | None":
    if settings.judge_model is None:
        return None
    # Here, since its HTTP client takes longer to import than all else, and few need it.
    from mcp_federation.engine.chat import ChatEndpoint

    key = settings.judge_key.get_secret_value() if settings.judge_key else None
    return ChatEndpoint(
        key, base_url=settings.judge_url, model=settings.judge_model, timeout=settings.judge_timeout
    )


def _help(settings: Settings) -> None:
    help_out(run, settings)


class GovernanceWorker:
    """One of any number of workers that judge registrations; they share a key through `state_dir`.

    Its public key is written to `state_dir` as `governance.pub`, one line, for others to trust, and to
    `also_public_at`. Whoever has one of the `operators` keys, or the governance key itself, may decide on
    what is quarantined, and revoke. What `earlier_keys` sealed is believed too: the key may have changed.
    """

    def __init__(
        self,
        bus: Bus,
        state_dir: Path,
        *,
        valid_for: timedelta = timedelta(days=30),
        also_public_at: Path | None = None,
        policy: Policy = PRESETS["standard"],
        operators: Iterable[TrustedKey] = (),
        earlier_keys: Iterable[TrustedKey] = (),
        model: "ChatEndpoint | None" = None,
    ) -> None:
        self._bus = bus
        self._key_file = state_dir / KEY_FILE
        self._public_files = [state_dir / PUBLIC_KEY_FILE, *([also_public_at] if also_public_at else [])]
        self._valid_for = valid_for
        self._policy = policy
        self._operators = tuple(operators)
        self._earlier_keys = tuple(earlier_keys)
        self._model = ModelJudge(model) if model is not None else None
        self._parts = AsyncExitStack()
        self._registrations: RegistrationDesk | None = None

    @property
    def waiting(self) -> int:
        """How many registrations wait for their turn or are judged now."""
        return self._registrations.waiting if self._registrations is not None else 0

    async def start(self) -> TrustedKey:
        """Have key and streams, and answer registrations from now on; the key that approvals are signed with.

        Raises:
            InvalidRequest: the key files are not usable.
            BusUnavailable: a stream cannot be made.
        """
        key = await asyncio.to_thread(_load_key, self._key_file)
        sealer = Sealer(key, self._earlier_keys)
        for stream in GOVERNANCE_STREAMS:
            await self._bus.ensure_stream(stream)
        try:
            await self._open(key, sealer)
            # Last, so that who waits for the file then finds registrations answered.
            await asyncio.to_thread(_write_public, self._public_files, sealer.public)
        except FederationError:
            await self.stop()
            raise
        log.info(
            "governance_started",
            message="registrations are judged",
            key_id=sealer.public.key_id,
            policy=self._policy.name,
            operators=len(self._operators),
        )
        return sealer.public

    async def stop(self) -> None:
        """Take no more registrations, and answer those that were taken."""
        parts, self._parts = self._parts, AsyncExitStack()
        await parts.aclose()

    async def _open(self, key: Ed25519PrivateKey, sealer: Sealer) -> None:
        published = PublishedTools(self._bus, ApprovalVerifier([sealer.public, *self._earlier_keys]))
        self._parts.push_async_callback(published.stop)
        await published.start(REPLAY_TIMEOUT)
        claims = Claims(self._bus, sealer)
        self._parts.push_async_callback(claims.stop)
        await claims.start(REPLAY_TIMEOUT)
        trail = Trail(self._bus, sealer)
        self._parts.push_async_callback(trail.stop)
        await trail.start()
        approver = Approver(key, self._valid_for)
        if self._model is not None:
            self._parts.push_async_callback(self._model.close)
        registrations = RegistrationDesk(
            self._bus, approver, sealer, trail, self._policy, published.view, claims, self._model
        )
        self._registrations = registrations
        operators = OrderVerifier((sealer.public, *self._operators))
        review = ReviewDesk(self._bus, sealer, trail, operators)
        for template, desk in ((REGISTER, registrations), (REVIEW, review)):
            subscription = await self._bus.respond(
                template.every(), desk.answer, queue=GOVERNANCE_QUEUE, limit=MAX_WAITING
            )
            self._parts.push_async_callback(subscription.close)
        await self._bus.flush()


def _load_key(path: Path) -> Ed25519PrivateKey:
    try:
        return load_or_create_key(path)
    except OSError as error:
        raise InvalidRequest(
            f"the governance key {path.name} cannot be read or made: {error.strerror}"
        ) from error


def _write_public(paths: Iterable[Path], key: TrustedKey) -> None:
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, f"{key}\n".encode(), mode=0o644)
        except OSError as error:
            raise InvalidRequest(f"cannot write the public key {path.name}: {error.strerror}") from error
