"""Benchmarks: every dataset x category x recipe x shots x seed, each in its own process; then tables and plots."""
