"""The metrics service: anonymised records in, performance per tool out."""
