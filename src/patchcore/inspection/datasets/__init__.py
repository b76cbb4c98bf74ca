"""Datasets that give what PatchCore takes."""
