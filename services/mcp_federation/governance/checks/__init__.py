"""The checks: small pure functions over a registration, each in a catalogue under its rule."""
