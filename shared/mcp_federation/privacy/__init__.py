"""What may leave an organisation of its executions, and the guarantee with which it does."""
