"""The OpenAPI document, made of the operations and of the types they name. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from mcp_federation.edge.operations import Operation
from mcp_federation.edge.problems import MEDIA_TYPE, Problem, http_title_and_code
from mcp_federation.errors import (
    FederationError,
    InternalError,
    InvalidRequest,
    PayloadTooLarge,
    Unauthorized,
)
from mcp_federation.version import VERSION

_REF = "#/components/schemas/{name}"
_SCHEME = "bearer"
_BODY_STATUSES = (408, 415)


def openapi_document(operations: Iterable[Operation], *, token_needed: bool) -> dict[str, Any]:
    """The document, OpenAPI 3.1. Without `token_needed` the bearer token is optional everywhere."""
    operations = list(operations)
    types = [Problem, *(kind for operation in operations for kind in _types(operation))]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for operation in operations:
        described = _operation(operation, by_type, token_needed=token_needed)
        paths[operation.path][operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MCP Federation",
            "summary": "Discover, register and execute MCP tools across organisations.",
            "version": VERSION,
        },
        "paths": dict(paths),
        "components": {
            "schemas": _unindented(components),
            "securitySchemes": {_SCHEME: {"type": "http", "scheme": "bearer"}},
        },
    }


def _types(operation: Operation) -> list[Any]:
    return [kind for kind in (operation.body, *operation.answers.values()) if kind is not None]


def _operation(operation: Operation, schemas: dict[int, Any], *, token_needed: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}_{operation.path.strip('/')}",
        "summary": operation.summary,
        "description": operation.description,
        "security": [{_SCHEME: []}] if token_needed and not operation.public else [{}, {_SCHEME: []}],
        "responses": {
            **{
                str(status): _answer(status, schemas.get(id(kind)), events=operation.events)
                for status, kind in _sorted(operation)
            },
            **_problems(operation),
        },
    }
    if operation.parameters:
        described["parameters"] = [
            {
                "name": known.name,
                "in": known.place,
                "description": known.description,
                "schema": dict(known.schema),
            }
            for known in operation.parameters
        ]
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[id(operation.body)]}},
        }
    return described


def _sorted(operation: Operation) -> list[tuple[int, Any]]:
    return sorted(operation.answers.items())


def _answer(status: int, schema: Any, *, events: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"description": http_title_and_code(status)[0]}
    if schema is not None:
        described["content"] = {"application/json": {"schema": schema}}
    if events:
        described["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    return described


def _problems(operation: Operation) -> dict[str, Any]:
    """The errors by status, each with the codes that it may have."""
    codes: defaultdict[int, list[str]] = defaultdict(list)
    errors: list[type[FederationError]] = [*operation.errors, InternalError]
    if operation.body is not None:
        errors += [InvalidRequest, PayloadTooLarge]
    elif operation.parameters:
        errors.append(InvalidRequest)
    if not operation.public:
        errors.append(Unauthorized)
    for error in errors:
        codes[error.status].append(f"`{error.code}`: {error.title}")
    if operation.body is not None:
        for status in _BODY_STATUSES:
            title, code = http_title_and_code(status)
            codes[status].append(f"`{code}`: {title}")
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name=Problem.__name__)}}}
    return {
        str(status): {"description": "; ".join(codes[status]), "content": content} for status in sorted(codes)
    }


def _unindented(components: dict[str, Any]) -> dict[str, Any]:
    """The schemas with their descriptions, which are docstrings, as running text."""
    for schema in components.values():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
    return dict(components)
