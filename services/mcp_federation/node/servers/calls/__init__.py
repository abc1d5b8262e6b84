"""How the tools of one connected MCP server are called, by the kind of its connection."""
