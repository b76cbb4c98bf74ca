"""Pipeline: the way of an image to patches, scores and, for good ones, into the memory bank."""
