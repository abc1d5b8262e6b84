"""An MCP server that writes down what it does, so that a test can tell what ran, how often, and to what end.

As a Python toolbox: `tests.support.ledger:server`. `python -m tests.support.ledger stdio` and
`python -m tests.support.ledger http PORT` serve it. The file is named by the variable LEDGER.
"""

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations

VARIABLE = "LEDGER"
LARGE = 256 * 1024 * 1024

server: MCPServer = MCPServer("ledger", version="1.0.0")


def note(what: str, call: str) -> None:
    """One line, in one write: many processes share the file."""
    descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{what} {call}\n".encode())
    finally:
        os.close(descriptor)


class Ledger:
    """What the servers wrote down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def count(self, what: str) -> Counter[str]:
        """How often that was noted, by call."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return Counter(line.partition(" ")[2] for line in lines if line.partition(" ")[0] == what)


@server.tool(structured_output=False)
async def charge(call: str, seconds: float = 0.0) -> str:
    """Does something that must not be done twice, and takes its time for it."""
    note("charge", call)
    if seconds:
        await asyncio.sleep(seconds)
    return call


@server.tool(structured_output=False, annotations=ToolAnnotations(idempotent_hint=True))
async def put(call: str, seconds: float = 0.0) -> str:
    """Does something that may well be done twice, and takes its time for it."""
    note("put", call)
    if seconds:
        await asyncio.sleep(seconds)
    return call


@server.tool(structured_output=False)
async def hold(call: str) -> str:
    """Does not answer by itself, and notices when nobody waits any more."""
    note("hold", call)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note("cancelled", call)
        raise
    return call


@server.tool(structured_output=False)
async def climb(steps: int, context: Context) -> str:
    """Reports its progress at each step."""
    for step in range(1, steps + 1):
        await context.report_progress(step, steps, f"step {step}")
    return str(steps)


@server.tool(structured_output=False)
async def echo(text: str) -> str:
    """Gives the text back as it came."""
    return text


@server.tool(structured_output=False)
async def length(text: str) -> str:
    """Tells how long a text is."""
    return str(len(text))


@server.tool(structured_output=False)
async def fill(size: int) -> str:
    """Gives a text of so many bytes."""
    return "x" * size


@server.tool(structured_output=False)
async def process() -> str:
    """Tells the number of the process that it runs in."""
    return str(os.getpid())


def main(kind: str, port: str = "0") -> None:
    """Serve until the process is ended."""
    if kind == "stdio":
        server.run("stdio")
    else:
        app = server.streamable_http_app(max_request_body_size=LARGE)
        uvicorn.run(app, port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
