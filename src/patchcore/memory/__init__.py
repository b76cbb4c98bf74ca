"""What is remembered of the training images."""
