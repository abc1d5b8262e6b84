"""The edge: the HTTP face of the mesh. It translates between REST and the bus, and decides nothing."""
