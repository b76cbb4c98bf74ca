"""Changes: what a fitted detector learns and forgets afterwards, version by version."""
