"""Operations of the REST API: what each takes, answers and refuses, said once for routing and for OpenAPI."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_federation.errors import FederationError

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Parameter:
    """A parameter beside the body, with its JSON Schema."""

    name: str
    description: str
    schema: Mapping[str, Any]
    place: Literal["query", "header"] = "query"


@dataclass(frozen=True, eq=False)
class Operation:
    """One method on one path.

    `body` and the values of `answers` are types that msgspec knows; None stands for no content.
    `errors` are those beyond what follows from the rest: from having a body, parameters, or a token to
    check. `public` needs no token. With `events` an answer may come as a stream of server-sent events.
    """

    method: Literal["GET", "POST"]
    path: str
    summary: str
    description: str
    answers: Mapping[int, Any]
    body: Any = None
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[type[FederationError], ...] = ()
    public: bool = False
    events: bool = False


@dataclass(frozen=True)
class Direct:
    """Handles an operation as an ASGI application of its own, errors included: for the hot path."""

    app: ASGIApp


class _Endpoint:
    """The ASGI application of one path. It spares each request FastAPI's dependency machinery."""

    def __init__(self, handlers: Mapping[str, Handler | Direct]) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        handler = self._handlers["GET" if method == "HEAD" else method]
        if isinstance(handler, Direct):
            await handler.app(scope, receive, send)
            return
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)


def routes(handlers: Mapping[Operation, Handler | Direct]) -> list[BaseRoute]:
    """One route a path, so that a wrong method is told all that the path has."""
    by_path: defaultdict[str, dict[str, Handler | Direct]] = defaultdict(dict)
    for operation, handler in handlers.items():
        by_path[operation.path][operation.method] = handler
    return [
        Route(path, _Endpoint(methods), methods=sorted(methods), name=path, include_in_schema=False)
        for path, methods in by_path.items()
    ]


def json_response(value: Any, status: int = 200) -> Response:
    """An answer in JSON; `value` is whatever msgspec encodes."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")
