"""The process beside an organisation's tools: runs MCP servers, registers, publishes and executes."""
