"""A plain folder of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from patchcore.data.layouts import layout_of
from patchcore.data.sample import GOOD, Dataset, Sample, folders_in, holds_good, images_in
from patchcore.errors import DataError, counted


def read(path: Path, *, all_good: bool = True) -> Dataset:
    """The images of a folder and its sub-folders; as good ones, unless nobody says so.

    Errors: DataError if there are none, or not all of them can be good.
    """
    found = images_in(path, recursive=True)
    names = [one.relative_to(path) for one in found]
    if not all_good:
        where, kind = counted(len(found), "image"), None
    else:
        where, kind = f"{_where(path, names)} taken as good", GOOD
    samples = [Sample(name.as_posix(), one, kind) for name, one in zip(names, found, strict=True)]
    return Dataset(f"folder, {where}", samples)


def _where(root: Path, images: list[Path]) -> str:
    """How many images there are, and in which sub-folders. DataError if not all of them can be good ones."""
    places: dict[Path, Counter[str]] = {}  # folder: how many in each of its sub-folders; "": in none of them
    for image in images:
        parts = (*image.parts[:-1], "")
        for depth, part in enumerate(parts):
            places.setdefault(root.joinpath(*parts[:depth]), Counter())[part] += 1
    for folder, found in places.items():
        if any(map(holds_good, folder.relative_to(root).parts)):  # good, whatever its own sub-folders are called
            continue
        good = [one for one in folders_in(folder) if holds_good(one.name)]  # also a link, which is not followed
        if good and not all(map(holds_good, found)):
            kinds = _some(f"{n} {f'in {name}' if name else 'in no sub-folder'}" for name, n in found.items())
            whole = f", or {folder.parent}, the dataset that holds it" * bool(layout_of(folder.parent))
            raise DataError(
                f"{folder} has a sub-folder {good[0].name}, and other images beside it ({kinds}): they cannot all be "
                f"taken as good. Give the good ones alone, {good[0]}{whole}."
            )
    direct = places[root].pop("", 0)
    total, within = counted(len(images), "image"), places[root]
    if not within:
        return total
    names = f"{counted(len(within), 'sub-folder')} ({_some(within)})"
    return f"{total}, {len(images) - direct} of them in {names}," if direct else f"{total} in {names}"


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most] + ["..."] * (len(names) > most))
