"""Torch datasets for PatchCore."""
