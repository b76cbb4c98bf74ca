"""Finding pictures: a folder, a data set in a known layout, a CSV table, or whatever a caller holds."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from patchcore.data import layouts
from patchcore.data.layouts.tree import folders_in
from patchcore.data.sample import GOOD, Dataset, Sample, holds_good, pictures_in
from patchcore.errors import DataError, UsageError, counted

__all__ = ["GOOD", "Dataset", "Sample", "detect", "draw", "is_one", "limited", "pictures_in", "relative", "samples"]


def detect(path: str | Path) -> Dataset:
    """What a path holds: a CSV table, a data set in a known layout, or a plain folder of good pictures.

    - CSV: a column `path` (relative to the file), and optionally `label` (`good` or `0`; any other
      word is a defect), `mask`, `split` (`train` or `test`; without the column every row is both
      a training picture, if good, and a test picture), and `part` (which item a picture shows).
    - MVTec AD: `train/good`, `test/<kind>`, `ground_truth/<kind>/<stem>_mask.png`.
    - The other layouts of `patchcore datasets`: one category of each.
    - Folder: its pictures, taken as good; sub-folders are searched too. Where one of them is called
      `good` or `ok`, there must be no other pictures beside it.

    Errors: DataError, also for half a data set, for several categories at once, and for a folder of
    several kinds of pictures.
    """
    path = Path(path)
    if layout := layouts.layout_of(path):
        return layout.read(path)
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder of pictures, a data set root, or a .csv table.")
    if within := layouts.within(path):
        names = ", ".join(one.path.relative_to(path).as_posix() for one in within[:5])
        raise DataError(
            f"{path} holds {counted(len(within), 'category', 'categories')} ({names}); "
            f"give one of them, for example {within[0].path}."
        )
    train = [Sample(p.relative_to(path).as_posix(), p, GOOD) for p in pictures_in(path, recursive=True)]
    return Dataset(f"folder, {_where(path, [Path(one.name) for one in train])} taken as good", train)


def _where(root: Path, pictures: list[Path]) -> str:
    """How many pictures there are, and in which sub-folders. DataError if not all of them can be good ones."""
    places: dict[Path, Counter[str]] = {}  # folder: how many in each of its sub-folders; "": in none of them
    for picture in pictures:
        parts = (*picture.parts[:-1], "")
        for depth, part in enumerate(parts):
            places.setdefault(root.joinpath(*parts[:depth]), Counter())[part] += 1
    for folder, found in places.items():
        if any(map(holds_good, folder.relative_to(root).parts)):  # good, whatever its own sub-folders are called
            continue
        good = [one for one in folders_in(folder) if holds_good(one.name)]  # also a link, which is not followed
        if good and not all(map(holds_good, found)):
            kinds = _some(f"{n} {f'in {name}' if name else 'in no sub-folder'}" for name, n in found.items())
            whole = f", or {folder.parent}, the data set that it is a part of" * bool(layouts.layout_of(folder.parent))
            raise DataError(
                f"{folder} has a sub-folder {good[0].name}, and other pictures beside it ({kinds}): they cannot all be "
                f"taken as good. Give the good ones alone, {good[0]}{whole}."
            )
    direct = places[root].pop("", 0)
    total, within = counted(len(pictures), "picture"), places[root]
    if not within:
        return total
    names = f"{counted(len(within), 'sub-folder')} ({_some(within)})"
    return f"{total}, {len(pictures) - direct} of them in {names}," if direct else f"{total} in {names}"


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most] + ["..."] * (len(names) > most))


def samples(pictures: Any) -> Iterable[Sample]:
    """Samples from whatever a caller holds: one picture, a path, a list, arrays, a DataLoader.

    A path to a folder or table means what `detect` finds there to train on. Batches (4-D arrays
    or tensors) are taken apart; of tuples the first element is the picture, of dicts `image`.
    """
    if isinstance(pictures, Dataset):
        return pictures.train
    if isinstance(pictures, str | Path) and not _is_picture_file(Path(pictures)):
        return detect(pictures).train
    if is_one(pictures):
        pictures = [pictures]
    if not isinstance(pictures, Iterable):
        raise UsageError(
            f"got {type(pictures).__name__}; expected a path, a picture, a list or generator of pictures, "
            "an array (N, H, W, C), a tensor (N, C, H, W) or a DataLoader."
        )
    # What has a length is held in memory already; as a list its progress can be shown.
    return list(_unpack(pictures)) if isinstance(pictures, list | tuple | np.ndarray | Tensor) else _unpack(pictures)


def is_one(pictures: Any) -> bool:
    """Whether this is a single picture rather than several."""
    if isinstance(pictures, str | Path):
        return _is_picture_file(Path(pictures))
    if isinstance(pictures, np.ndarray | Tensor):
        return pictures.ndim <= 3
    return isinstance(pictures, Image.Image)


def _is_picture_file(path: Path) -> bool:
    if path.is_dir() or path.suffix.lower() == ".csv":
        return False
    return path.exists() or layouts.layout_of(path) is None  # ELPV: a category that is no folder


def _unpack(pictures: Iterable[Any]) -> Iterator[Sample]:
    number = 0
    for item in pictures:
        if isinstance(item, Sample):
            yield item
            continue
        if isinstance(item, Mapping):
            if "image" not in item:
                raise UsageError(f"a batch with the keys {', '.join(map(str, item))}; expected `image` among them.")
            item = item["image"]
        elif isinstance(item, tuple | list):
            item = item[0]
        batch = item if isinstance(item, np.ndarray | Tensor) and item.ndim == 4 else [item]
        for picture in batch:
            yield Sample(str(picture) if isinstance(picture, str | Path) else f"#{number}", picture)
            number += 1


def limited(found: Iterable[Sample], limit: int | None, seed: int) -> Iterable[Sample]:
    """At most `limit` samples: a sample drawn from `seed`, in the original order."""
    if limit is None:
        return found
    if limit < 1:
        raise UsageError(f"limit is {limit}; it must be at least 1.")
    found = list(found)
    kept = sorted(range(len(found)), key=lambda index: draw(seed, index, "limit"))[:limit]
    return [found[index] for index in sorted(kept)]


def relative(names: list[str]) -> list[str]:
    """Names without the folder that they share: a model file keeps no machine's paths."""
    absolute = [Path(name) for name in names if Path(name).is_absolute()]
    if not absolute:
        return names
    try:
        folder = Path(os.path.commonpath([path.parent for path in absolute]))
    except ValueError:  # on several drives
        return [Path(name).name for name in names]
    return [Path(name).relative_to(folder).as_posix() if Path(name).is_absolute() else name for name in names]


def draw(seed: int, index: int, purpose: Literal["calibration", "limit", "fold"]) -> float:
    """A number in [0, 1) that depends on nothing but its arguments: pictures may come as a stream."""
    digest = hashlib.blake2b(f"{purpose}:{seed}:{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
