"""Verdict: from a score to pass, unsure or fail."""
