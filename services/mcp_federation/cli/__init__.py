"""The `mcp-federation` command."""
