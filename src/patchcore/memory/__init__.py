"""What is remembered of the training pictures."""
