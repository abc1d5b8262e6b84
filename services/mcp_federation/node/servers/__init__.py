"""The MCP servers of a node: started or reached, listed, watched, and called."""
