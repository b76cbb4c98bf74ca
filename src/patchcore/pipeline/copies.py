"""Copies: images that are the same, pixel for pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from patchcore.data.reading import Reading
from patchcore.data.sample import Sample
from patchcore.errors import ImageError
from patchcore.pipeline.workers import in_order, load, say_copies


def digests(samples: Iterable[Sample], reading: Reading) -> Iterator[bytes | ImageError]:
    """Of each image the digest of its pixels, which copies share, or why it cannot be used."""

    def digest(sample: Sample) -> bytes | ImageError:
        try:
            return load(sample, reading.max_pixels, colour=reading.colour).digest
        except ImageError as error:
            return error

    return in_order(digest, samples, reading.threads)


def distinct(samples: Iterable[Sample], reading: Reading) -> dict[bytes, Sample]:
    """The images by their digests, without copies of earlier ones; says how many those are. Errors: ImageError."""
    samples, first = list(samples), dict[bytes, Sample]()
    for sample, digest in zip(samples, digests(samples, reading), strict=True):
        if isinstance(digest, ImageError):
            raise digest
        first.setdefault(digest, sample)
    say_copies(len(samples) - len(first), len(samples))
    return first
