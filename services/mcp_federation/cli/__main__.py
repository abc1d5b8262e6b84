"""`python -m mcp_federation.cli`: the same as `mcp-federation`."""

from mcp_federation.cli.main import main

if __name__ == "__main__":
    main()
