"""A whole mesh on one machine: nats-server and every service, as supervised child processes."""
