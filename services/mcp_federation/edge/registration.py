"""`POST /register`: a new tool, or a new MCP server, for the home node to have published."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mcp_federation.bus.protocol import Bus
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.contract.messages import (
    Submission,
    SubmissionAnswer,
    decode,
    encode,
    raise_error_reply,
)
from mcp_federation.contract.subjects import SUBMIT, Header
from mcp_federation.edge.incoming import BodyReader
from mcp_federation.edge.operations import Operation, json_response
from mcp_federation.edge.wire import RegisterRequest, RegisterResponse, register_decoder
from mcp_federation.errors import (
    BusUnavailable,
    Conflict,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    NodeUnavailable,
    Overloaded,
    RegistrationRefused,
    ServerUnavailable,
)
from mcp_federation.logs import get_logger
from mcp_federation.settings import Settings

log = get_logger("edge")

REVIEW_TIMEOUT = 30.0
"""Seconds that a registration may take beyond the start of the MCP server it names."""

ECHO_TIMEOUT = 5.0
"""Seconds that a registration waits to see what was published come back through the catalog."""

REGISTER = Operation(
    method="POST",
    path="/register",
    summary="Register a tool or an MCP server",
    description=(
        "The home node submits it to governance, and publishes what is approved; then `/discover` shows it. "
        "With `server`, all tools of that MCP server are registered. 202: nothing is published yet; a person "
        "decides on what is quarantined, and what is approved then is published by itself."
    ),
    body=RegisterRequest,
    answers={201: RegisterResponse, 202: RegisterResponse},
    errors=(
        Conflict,
        RegistrationRefused,
        Overloaded,
        ServerUnavailable,
        NodeUnavailable,
        BusUnavailable,
        DeadlineExceeded,
    ),
)


class Register:
    """Hands a submission to the home node."""

    def __init__(self, bus: Bus, catalog: CatalogReplica, settings: Settings, reader: BodyReader) -> None:
        self._bus = bus
        self._catalog = catalog
        self._home = settings.node
        self._timeout = settings.start_timeout + REVIEW_TIMEOUT
        self._reader = reader

    async def __call__(self, request: Request) -> Response:
        """Answer `POST /register`."""
        wanted = await self._reader.read(request, register_decoder)
        answer = await self._submit(_submission(wanted))
        findings = tuple(finding for verdict in answer.verdicts for finding in verdict.findings)
        pending = tuple(verdict.name for verdict in answer.verdicts if verdict.decision == "quarantined")
        refused = any(verdict.decision == "rejected" for verdict in answer.verdicts)
        if refused and not answer.published and not pending:
            raise RegistrationRefused(
                "governance did not approve it", {"findings": msgspec.to_builtins(findings)}
            )
        await self._shown(answer)
        response = RegisterResponse(
            status="registered" if answer.published or not pending else "quarantined",
            name=wanted.name,
            published=answer.published,
            quarantined=pending,
            findings=findings,
        )
        return json_response(response, 201 if response.status == "registered" else 202)

    async def _submit(self, submission: Submission) -> SubmissionAnswer:
        try:
            reply = await self._bus.request(SUBMIT.of(self._home), encode(submission), timeout=self._timeout)
        except NodeUnavailable:
            raise NodeUnavailable(
                f"the home node {self._home!r} does not answer", {"node": self._home}
            ) from None
        if Header.ERROR_CODE in reply.headers:
            raise_error_reply(reply.payload)
        try:
            return decode(reply.payload, SubmissionAnswer)
        except InvalidRequest as error:
            log.error("answer_refused", node=self._home, reason=error.message)
            raise InternalError("the home node gave an answer that makes no sense") from error

    async def _shown(self, answer: SubmissionAnswer) -> None:
        """Wait until this edge itself shows what was published."""
        digests = {verdict.name: verdict.digest for verdict in answer.verdicts}
        state = self._catalog.state

        def shown() -> bool:
            tools = {name: state.get(self._home, name) for name in answer.published}
            return all(
                tool is not None and tool.entry.digest == digests.get(name, tool.entry.digest)
                for name, tool in tools.items()
            )

        if not await self._catalog.wait_until(shown, ECHO_TIMEOUT):
            log.warn("publication_not_seen", tools=list(answer.published), seconds=ECHO_TIMEOUT)


def _submission(wanted: RegisterRequest) -> Submission:
    schema = wanted.mcp_input_schema if wanted.input_schema is None else wanted.input_schema
    return Submission(
        name=wanted.name,
        description=wanted.description,
        version=wanted.version,
        source_repo=wanted.source_repo,
        # Encoded in the order it came: positional arguments are mapped by it.
        input_schema=None if schema is None else msgspec.Raw(msgspec.json.encode(schema)),
        server_url=None if wanted.server is None else wanted.server.url,
    )
