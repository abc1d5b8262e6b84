"""The RAG-MCP engine: which tool serves a request, and calling it wherever it runs. A library."""
