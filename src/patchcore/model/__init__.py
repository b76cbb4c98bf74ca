"""Model: what a fit has learned, as a value and as a file."""
