"""Memory: what is remembered of the training images."""
