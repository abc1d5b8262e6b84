"""Which tool to choose: what was measured of each, what to expect of it, and what that is worth."""
