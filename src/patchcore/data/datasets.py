"""Finding images: a folder, a dataset in a known layout, a CSV table, or whatever a caller holds."""

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
from patchcore.data.sample import GOOD, Dataset, Sample, holds_good, images_in
from patchcore.errors import DataError, UsageError, counted

__all__ = ["GOOD", "Dataset", "Sample", "detect", "draw", "images_in", "is_one", "limited", "relative", "samples"]


def detect(path: str | Path) -> Dataset:
    """What a path holds: a CSV table, a dataset in a known layout, or a plain folder of good images.

    - CSV: a column `path` (relative to the file), and optionally `label` (`good` or `0`; any other
      word is a defect), `mask`, `split` (`train` or `test`; without the column every row is both
      a training image, if good, and a test image), and `part` (which item an image shows).
    - MVTec AD: `train/good`, `test/<kind>`, `ground_truth/<kind>/<stem>_mask.png`.
    - The other layouts of `patchcore datasets`: one category of each.
    - Folder: its images, taken as good; sub-folders are searched too. Where one of them is called
      `good` or `ok`, there must be no other images beside it.

    Errors: DataError, also for half a dataset, for several categories at once, and for a folder of
    several kinds of images.
    """
    path = Path(path)
    if layout := layouts.layout_of(path):
        return layout.read(path)
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder of images, a dataset root, or a .csv table.")
    if within := layouts.within(path):
        names = ", ".join(one.path.relative_to(path).as_posix() for one in within[:5])
        raise DataError(
            f"{path} holds {counted(len(within), 'category', 'categories')} ({names}); "
            f"give one of them, for example {within[0].path}."
        )
    train = [Sample(p.relative_to(path).as_posix(), p, GOOD) for p in images_in(path, recursive=True)]
    return Dataset(f"folder, {_where(path, [Path(one.name) for one in train])} taken as good", train)


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
            whole = f", or {folder.parent}, the dataset that it is a part of" * bool(layouts.layout_of(folder.parent))
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


def samples(images: Any) -> Iterable[Sample]:
    """Samples from whatever a caller holds: one image, a path, a list, arrays, a DataLoader.

    A path to a folder or table means what `detect` finds there to train on. Batches (4-D arrays
    or tensors) are taken apart; of tuples the first element is the image, of dicts `image`.
    """
    if isinstance(images, Dataset):
        return images.train
    if isinstance(images, str | Path) and not _is_image_file(Path(images)):
        return detect(images).train
    if is_one(images):
        images = [images]
    if not isinstance(images, Iterable):
        raise UsageError(
            f"got {type(images).__name__}; expected a path, an image, a list or generator of images, "
            "an array (N, H, W, C), a tensor (N, C, H, W) or a DataLoader."
        )
    # What has a length is held in memory already; as a list its progress can be shown.
    return list(_unpack(images)) if isinstance(images, list | tuple | np.ndarray | Tensor) else _unpack(images)


def is_one(images: Any) -> bool:
    """Whether this is a single image rather than several."""
    if isinstance(images, str | Path):
        return _is_image_file(Path(images))
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim <= 3
    return isinstance(images, Image.Image)


def _is_image_file(path: Path) -> bool:
    if path.is_dir() or path.suffix.lower() == ".csv":
        return False
    return path.exists() or layouts.layout_of(path) is None  # ELPV: a category that is no folder


def _unpack(images: Iterable[Any]) -> Iterator[Sample]:
    number = 0
    for item in images:
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
        for image in batch:
            yield Sample(str(image) if isinstance(image, str | Path) else f"#{number}", image)
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
    """A number in [0, 1) that depends on nothing but its arguments: images may come as a stream."""
    digest = hashlib.blake2b(f"{purpose}:{seed}:{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
