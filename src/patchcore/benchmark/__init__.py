"""Benchmarks: every dataset x category x recipe x shots x seed in a process of its own, then tables and plots."""
