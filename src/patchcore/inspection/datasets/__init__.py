"""Data sets that give what PatchCore takes."""
