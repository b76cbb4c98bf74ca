"""The images of a cross-validation: which are good, which are defective, and which must stay together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from patchcore.data.layouts import layout_of
from patchcore.data.reading import Reading
from patchcore.data.resolve import detect
from patchcore.data.sample import GOOD, Dataset, Sample, holds_good, images_in, uniform
from patchcore.errors import DataError, UsageError, counted
from patchcore.pipeline.copies import digests

TEST = "test"  # instead of a folder of defects: the dataset's own test split


@dataclass(frozen=True)
class Images:
    """Good and defective images, all of them readable.

    Attributes:
        good, defective: The images.
        units, defective_units: The part that each image shows, as a number; copies of an image share a number.
        copies: Number of good images that are copies of another one.
    """

    good: list[Sample]
    units: list[int]
    defective: list[Sample]
    defective_units: list[int]
    copies: int = 0

    def folds(self, count: int, seed: int) -> NDArray[np.int_]:
        """The fold of each good image (n,), drawn by seed: about equal folds that share no part. Errors: DataError."""
        sizes = np.bincount(self.units)
        if len(sizes) < count:
            raise DataError(
                f"{counted(len(self.good), 'good image')} of {counted(len(sizes), 'part')} for {count} folds; each "
                "fold needs at least one part. Give more good images, or fewer folds."
            )
        filled, fold_of = np.zeros(count, int), np.zeros(len(sizes), int)
        for unit in sorted(range(len(sizes)), key=lambda one: (-sizes[one], uniform(seed, one, "fold"))):
            fold_of[unit] = filled.argmin()
            filled[fold_of[unit]] += sizes[unit]
        return fold_of[self.units]


def defects_at(where: str, data: Path, found: Dataset) -> tuple[list[Sample], list[str]]:
    """The defective images at a path (or, for `test`, in the test split of `found`), and notes about them, in words.

    Folders called `good` or `ok` within a folder of defects are left out. Errors: DataError, UsageError.
    """
    notes = []
    left_out = 0
    if where == TEST:
        defects = [sample for sample in found.test if sample.kind not in (GOOD, None)]
        if not defects:
            raise DataError(f"{data}: {found.description}; there are no defective images to test on.")
    elif layout_of(Path(where)):
        there = detect(where)
        defects = [replace(sample, name=f"{where}/{sample.name}") for sample in there.test if sample.kind != GOOD]
        if not defects:
            raise DataError(f"{where}: {there.description}; expected defective images.")
    elif Path(where).is_dir():
        root = Path(where)
        paths = images_in(root, recursive=True)
        shown = [path for path in paths if not any(map(holds_good, path.relative_to(root).parts[:-1]))]
        left_out = len(paths) - len(shown)
        defects = [Sample(str(path), path, _kind(path.relative_to(root))) for path in shown]
        if not defects or holds_good(root.name):
            raise DataError(f"{where}: all of its images are in folders of good ones; expected defective images.")
    else:
        raise UsageError(
            f"--defects is {where!r}, but there is no such folder or table. Expected a folder of defective images, a "
            f"table that labels them, or `{TEST}` for the test split of DATA."
        )
    if left_out:
        notes.append(f"{where}: left out {counted(left_out, 'image')} in folders of good ones.")
    tested = {path for sample in found.test if (path := _resolved(sample)) is not None}
    spent = [sample for sample in defects if where == TEST or _resolved(sample) in tested]
    if spent:
        notes.append(
            f"{counted(len(spent), 'defective image')} of the test split of {data} took part in this choice, so "
            "results on them are no longer an independent test. Use other images for that."
        )
    return defects, notes


def _kind(relative: Path) -> str:
    return relative.parts[0] if len(relative.parts) > 1 else "defect"


def _resolved(sample: Sample) -> Path | None:
    return sample.image.resolve() if isinstance(sample.image, Path) else None


def gather(good: Iterable[Sample], defective: Iterable[Sample], part: str | None = None, *, reading: Reading) -> Images:
    """Read all images once, to find unreadable ones and copies. Errors: ImageError, DataError, UsageError.

    Args:
        good: Good images.
        defective: Defective images.
        part: Regular expression for image names; its group (or, without one, its match) names the part that an image
            shows. A defective image without a match is a part of its own. None: as the dataset says.
        reading: How to read images, and what to do with unreadable ones.
    """
    good, good_digests = _readable(good, reading)
    defective, bad_digests = _readable([replace(one, mask=None) for one in defective], reading)
    known = dict(zip(good_digests, good, strict=True))
    for sample, digest in zip(defective, bad_digests, strict=True):
        if digest in known:
            raise DataError(
                f"{sample.name} is given as defective, but has the same pixels as the good image "
                f"{known[digest].name}. Remove one of the two."
            )
    return Images(
        good,
        _units(good, good_digests, part),
        defective,
        _units(defective, bad_digests, part),
        len(good) - len(set(good_digests)),
    )


def _readable(samples: Iterable[Sample], reading: Reading) -> tuple[list[Sample], list[bytes]]:
    """The readable samples, and the digests of their pixels."""
    samples = list(samples)
    kept, found = [], []
    for sample, one in zip(samples, digests(samples, reading), strict=True):
        if isinstance(one, bytes):
            kept.append(sample)
            found.append(one)
        elif reading.on_bad is None:
            raise one
        else:
            reading.on_bad(one)
    return kept, found


def _units(samples: Sequence[Sample], digests: Sequence[bytes], part: str | None) -> list[int]:
    """Part numbers from 0; images of the same part, or with the same pixels, share one."""
    if not samples:
        return []
    names = _parts(samples, part)
    first: dict[str | bytes | None, int] = {}
    pairs = [
        (number, first.setdefault(key, number))
        for number, (name, digest) in enumerate(zip(names, digests, strict=True))
        for key in ((digest,) if name is None else (digest, name))
    ]
    rows, columns = zip(*pairs, strict=True)
    same = sparse.coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(names), len(names)))
    return [int(unit) for unit in sparse.csgraph.connected_components(same, directed=False)[1]]


def _parts(samples: Sequence[Sample], part: str | None) -> list[str | None]:
    if part is None:
        return [sample.part for sample in samples]
    try:
        pattern = re.compile(part)
    except re.error as error:
        raise UsageError(
            f"--part is {part!r}; expected a regular expression, such as 'part(\\d+)_': {error}."
        ) from None
    found: list[str | None] = []
    for sample in samples:
        match = pattern.search(sample.name)
        if not match and sample.kind == GOOD:
            raise UsageError(
                f"--part is {part!r}, which matches nothing in {sample.name}. Expected a match in the name of every "
                "good image."
            )
        found.append(match.group(1 if pattern.groups else 0) if match else None)
    return found
