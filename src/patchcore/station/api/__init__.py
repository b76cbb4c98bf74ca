"""API: what machines and pages ask, under /api/v1."""
