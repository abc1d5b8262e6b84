"""The bare servers that the mesh is compared with: `python -m benchmarks.servers KIND WHERE PORT`."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import nats
import uvicorn
import uvloop
from fastapi import FastAPI
from nats.aio.msg import Msg

from benchmarks.clients import FRAME, frames
from benchmarks.toolbox import server as toolbox

SUBJECT = "bench.echo"
REQUEST_TIMEOUT = 30.0


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for message in frames(self._buffer):
            self._transport.write(FRAME.pack(len(message)) + message)


async def serve_tcp(port: int) -> None:
    """A raw TCP echo."""
    listening = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", port)
    await listening.serve_forever()


async def serve_nats(url: str) -> None:
    """A bare NATS responder, as anyone would write it."""
    connection = await nats.connect(url)

    async def respond(msg: Msg) -> None:
        await msg.respond(msg.data)

    await connection.subscribe(SUBJECT, cb=respond)
    await asyncio.Event().wait()


def fastapi_app(url: str) -> FastAPI:
    """The least that puts NATS behind HTTP with FastAPI and nats-py."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.nats = await nats.connect(url)
        yield
        await app.state.nats.close()

    app = FastAPI(lifespan=lifespan)

    @app.post("/execute")
    async def execute(call: dict[str, Any]) -> dict[str, Any]:
        msg = await app.state.nats.request(SUBJECT, json.dumps(call).encode(), timeout=REQUEST_TIMEOUT)
        return cast(dict[str, Any], json.loads(msg.data))

    return app


def main(kind: str, where: str = "", port: str = "0") -> None:
    """Serve until the process is ended."""
    if kind == "mcp-stdio":
        toolbox.run("stdio")
    elif kind == "mcp-http":
        uvicorn.run(toolbox.streamable_http_app(), port=int(port), log_level="warning", access_log=False)
    elif kind == "fastapi":
        uvicorn.run(fastapi_app(where), port=int(port), log_level="warning", access_log=False)
    else:
        serving = serve_tcp(int(port)) if kind == "tcp" else serve_nats(where)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serving)


if __name__ == "__main__":
    main(*sys.argv[1:])
