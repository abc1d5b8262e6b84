"""Who is believed: governance keys, the approvals that they sign, and callers' tokens."""
