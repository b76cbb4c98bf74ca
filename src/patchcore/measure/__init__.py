"""Measure: how good a detector is, and what it costs."""
