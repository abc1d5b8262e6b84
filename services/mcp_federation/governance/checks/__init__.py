"""The checks: small pure functions over a registration, each in a suite under its rule."""
