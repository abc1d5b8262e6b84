"""The message bus: one protocol, over NATS and in memory."""
