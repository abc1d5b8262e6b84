"""Errors as the caller of the REST API sees them: RFC 9457 problem details."""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any, cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mcp_federation.errors import FederationError, Unauthorized

MEDIA_TYPE = "application/problem+json"
_TYPE = "urn:mcp-federation:error:"
_HINTS = {404: "nothing is at this path: GET /openapi.json tells what there is"}
_REALM = 'Bearer realm="mcp-federation"'


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457 problem details. `code` is stable, to branch on; an error's details stand beside it."""

    type: str
    title: str
    status: int
    detail: str
    code: str


def problem_response(error: FederationError | HTTPException) -> Response:
    """The answer that tells of an error."""
    if isinstance(error, FederationError):
        problem = _problem(error.status, error.code, error.title, error.message)
        return _response(problem, error.details, _headers(error))
    title, code = http_title_and_code(error.status_code)
    problem = _problem(error.status_code, code, title, _HINTS.get(error.status_code, error.detail))
    return _response(problem, {}, error.headers or {})


def http_title_and_code(status: int) -> tuple[str, str]:
    """The title and code of an error that HTTP itself has and the federation does not."""
    phrase = HTTPStatus(status).phrase
    return phrase.capitalize(), phrase.lower().replace(" ", "_")


async def on_error(_: Request, error: Exception) -> Response:
    """Exception handler for `mcp_federation.errors`, and for what routing refuses."""
    # Starlette gives a handler only what it is registered for, and types it as any exception.
    return problem_response(cast(FederationError | HTTPException, error))


def _problem(status: int, code: str, title: str, detail: str) -> Problem:
    return Problem(type=_TYPE + code, title=title, status=status, detail=detail, code=code)


def _response(problem: Problem, details: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    # The problem's own members win: details come from peers.
    content = msgspec.json.encode({**details, **msgspec.structs.asdict(problem)})
    return Response(content, problem.status, headers, MEDIA_TYPE)


def _headers(error: FederationError) -> dict[str, str]:
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": _REALM}
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        hint = error.details.get("retry_after_ms")
        seconds = ceil(hint / 1000) if isinstance(hint, int | float) else 1
        return {"Retry-After": str(max(1, seconds))}
    return {}
