"""Oversight: looks at a detector from above, and says why it decided as it did."""
