"""Where tools come from that the engine does not run itself: a mesh, or a partner's REST face."""
