"""Datasets: torch datasets for PatchCore."""
