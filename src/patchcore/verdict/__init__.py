"""Verdict: from a score to a decision."""
