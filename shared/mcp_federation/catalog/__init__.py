"""The replica of the catalog that edge, engine and client share."""
