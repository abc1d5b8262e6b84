"""Hybrid search over tools: fielded words, learned vectors, and a learned order of the best of both."""
