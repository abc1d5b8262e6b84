"""A language model behind an OpenAI-compatible chat endpoint, asked for JSON."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from mcp_federation.engine.http import bearer, exchange
from mcp_federation.engine.text import well_formed
from mcp_federation.errors import ServerUnavailable

OPENROUTER = "https://openrouter.ai/"
OPENROUTER_URL = f"{OPENROUTER}api/v1"
DEFAULT_MODEL = "openrouter/auto"
DEFAULT_TIMEOUT = 10.0

_MAX_ANSWER = 1024 * 1024

T = TypeVar("T")


class _Message(Struct):
    content: str


class _Choice(Struct):
    message: _Message


class _Completion(Struct):
    choices: Annotated[list[_Choice], Meta(min_length=1)]


class ChatEndpoint:
    """A chat model behind an OpenAI-compatible endpoint, asked for JSON about JSON. `timeout` in seconds.

    An endpoint that refuses to be asked by a JSON schema (400 or 422) is asked for plain JSON from then on.
    """

    def __init__(
        self,
        api_key: str | None,
        *,
        base_url: str = OPENROUTER_URL,
        model: str = DEFAULT_MODEL,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self._api_key = api_key
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._model = model
        self._timeout = timeout
        self._takes_schemas = True

    async def ask(
        self, instructions: str, data: Any, kind: type[T], schema: Mapping[str, Any] | None = None
    ) -> T:
        """The JSON object that the model answers, of that type, and by the schema where one is given.

        Raises:
            FederationError: the endpoint is down, slow, refuses, or answers no such object.
        """
        if not self._takes_schemas:
            schema = None
        status, body = await self._post(instructions, data, schema)
        if schema and status in (400, 422):
            self._takes_schemas = False
            status, body = await self._post(instructions, data, None)
        if status != 200:
            raise ServerUnavailable(f"the chat endpoint answered {status}")
        try:
            content = msgspec.json.decode(body, type=_Completion).choices[0].message.content
            # Models like to put a fence or a sentence around their JSON.
            answer = content[content.index("{") : content.rindex("}") + 1]
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise ServerUnavailable(
                "the chat endpoint answered something else than it was asked for"
            ) from error

    async def _post(
        self, instructions: str, data: Any, schema: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        plain = {"type": "json_object"}
        strict = {"name": "answer", "strict": True, "schema": schema}
        return await exchange(
            "POST",
            self._url,
            headers=bearer(self._api_key),
            timeout=self._timeout,
            max_bytes=_MAX_ANSWER,
            body={
                "model": self._model,
                "temperature": 0,
                "response_format": {"type": "json_schema", "json_schema": strict} if schema else plain,
                "messages": [
                    {"role": "system", "content": instructions},
                    {"role": "user", "content": well_formed(json.dumps(data, ensure_ascii=False))},
                ],
            },
            peer="the chat endpoint",
        )
