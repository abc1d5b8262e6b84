"""A tool that carries so much load and no more, however quick the machine is: it takes its time."""

import asyncio

from mcp.server.mcpserver import MCPServer

server: MCPServer = MCPServer("slow", version="1.0.0")


@server.tool(structured_output=False)
async def pause(seconds: float) -> str:
    """Answers after so many seconds."""
    await asyncio.sleep(seconds)
    return "done"


if __name__ == "__main__":
    server.run("stdio")
