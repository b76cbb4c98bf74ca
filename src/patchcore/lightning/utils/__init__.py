"""Utils: what anomalib keeps in `anomalib.utils`, as far as it is here."""
