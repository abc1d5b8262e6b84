"""Reads the whole tool list of a connected MCP server, page by page."""

import mcp_types
from mcp import Client, MCPError

from mcp_federation.node.servers.calls.sdk import Sent, watch_sent
from mcp_federation.node.servers.faults import Ended

MAX_PAGES = 1000
MAX_TOOLS = 10_000


async def list_tools(client: Client) -> list[mcp_types.Tool]:
    """All tools that the server lists.

    Raises:
        Ended: it is refused, or has no end that we wait for.
        httpx2.RequestError: it got lost; the connection holds, and the calls on it.
        Exception: what the SDK raises.
    """
    sent = Sent()
    try:
        with watch_sent(sent):
            return await _pages(client)
    except MCPError as error:
        if sent.lost is not None:
            raise sent.lost from error
        if sent.statuses:
            raise Ended(f"it answers with HTTP status {sent.statuses[-1]}") from error
        raise


async def _pages(client: Client) -> list[mcp_types.Tool]:
    if client.server_capabilities.tools is None:
        return []
    tools: list[mcp_types.Tool] = []
    names: set[str] = set()
    cursors: set[str | None] = set()
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        cursor = page.next_cursor
        if cursor in cursors and names.issuperset(tool.name for tool in page.tools):
            return tools  # it heeds no cursor, and always has another
        tools += page.tools
        if len(tools) > MAX_TOOLS:
            raise Ended(f"it lists more than {MAX_TOOLS} tools")
        if cursor is None:
            return tools
        cursors.add(cursor)
        names.update(tool.name for tool in page.tools)
    raise Ended(f"its list has more than {MAX_PAGES} pages")
