"""What is on the wire: messages, subjects, names, the digest. Pure; the subjects' root is its version."""
