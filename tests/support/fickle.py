"""A toolbox whose tool fails while a file is there: `tests.support.fickle:server`.

The file is named by the variable FICKLE, the seconds that the tool takes by FICKLE_SECONDS.
"""

import asyncio
import os
from pathlib import Path

from mcp.server.mcpserver import MCPServer

BROKEN = "FICKLE"
SECONDS = "FICKLE_SECONDS"

server: MCPServer = MCPServer("fickle", version="1.0.0")


def is_broken() -> bool:
    return Path(os.environ[BROKEN]).exists()


@server.tool(structured_output=False)
async def translate(text: str) -> str:
    """Translates a text from one language into another."""
    await asyncio.sleep(float(os.environ.get(SECONDS, "0")))
    if is_broken():
        raise ValueError(f"cannot translate {text}")
    return f"translated {text}"
