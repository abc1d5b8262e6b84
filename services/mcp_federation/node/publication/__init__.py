"""How what a node has becomes what the mesh sees, and how the node tells of itself."""
