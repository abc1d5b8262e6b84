"""The tool of every comparison: it gives a text back, as unstructured MCP content."""

from mcp.server.mcpserver import MCPServer

server: MCPServer = MCPServer("echo", version="1.0.0")


@server.tool(structured_output=False)
async def echo(text: str) -> str:
    """Gives the text back as it came."""
    return text
