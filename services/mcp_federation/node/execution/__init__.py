"""Calls from the bus: each runs once at most, within its deadline, and is told how it goes."""
