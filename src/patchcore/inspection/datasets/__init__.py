"""Datasets: what PatchCore takes, as torch datasets."""
