"""Resolving: what a caller gives, as samples."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
from PIL import Image
from torch import Tensor

from patchcore.data import layouts
from patchcore.data.images import ImageLike
from patchcore.data.sample import GOOD, Dataset, Sample, folders_in, holds_good, images_in, uniform
from patchcore.errors import DataError, UsageError, counted

Images: TypeAlias = "ImageLike | Dataset | Iterable[object]"


@dataclass(frozen=True)
class Given:
    """The samples that a caller gave, and whether that was a `single` image."""

    samples: Iterable[Sample]
    single: bool = False


def resolve(images: Images, *, learning: bool = False) -> Given:
    """Samples from whatever a caller has: an image, a path, a list, arrays, a DataLoader, a generator.

    A path stands for all its images, those of sub-folders and every row of a table included. With `learning`, what is
    labelled as defective, and what a dataset keeps for testing, is left out; that is the only difference. Batches (4-D
    arrays or tensors) are taken apart; of tuples the first element is the image, of dicts `image`.
    Errors: UsageError, DataError.
    """
    if isinstance(images, str | os.PathLike):
        path = layouts.located(images)
        layout = layouts.layout_of(path)
        if layout is None and not path.is_dir() and path.suffix.lower() != ".csv":
            images = images if isinstance(images, str) else path  # reading it says so if there is no such file
        else:
            images = _read(path, layout, learning)
    if isinstance(images, Dataset):
        return Given(images.train if learning else images.every)
    single = isinstance(images, str | Path | Image.Image) or (
        isinstance(images, np.ndarray | Tensor) and images.ndim <= 3
    )
    found = [images] if single else images
    if not isinstance(found, Iterable):
        raise UsageError(
            f"got {type(images).__name__}; expected a path, an image, a list or generator of images, "
            "an array (N, H, W, C), a tensor (N, C, H, W) or a DataLoader."
        )
    # What has a length is held in memory already; as a list its progress can be shown.
    held = isinstance(found, list | tuple | np.ndarray | Tensor)
    return Given(list(_unpack(found)) if held else _unpack(found), single)


def detect(path: str | os.PathLike[str]) -> Dataset:
    """What a path holds: a CSV table, a dataset in a known layout, or a plain folder of good images.

    - CSV: a column `path` (relative to the file), and optionally `label` (`good` or `0`; any other
      word is a defect), `mask`, `split` (`train` or `test`; without the column every row is both
      a training image, if good, and a test image), and `part` (which part an image shows).
    - MVTec AD: `train/good`, `test/<kind>`, `ground_truth/<kind>/<stem>_mask.png`.
    - The other layouts of `patchcore datasets`: one category of each. `installed:elpv/mono` stands for
      a category of an installed dataset.
    - Folder: its images, taken as good; sub-folders are searched too. Where one of them is called
      `good` or `ok`, there must be no other images beside it.

    Errors: DataError, also for half a dataset, for several categories at once, and for a folder of
    several kinds of images.

    >>> dataset = detect("tests/images/hazelnut")
    >>> len(dataset.train), sorted({sample.kind for sample in dataset.test})
    (10, ['colour', 'good'])
    """
    path = layouts.located(path)
    return _read(path, layouts.layout_of(path), learning=True)


def _read(path: Path, layout: layouts.Layout | None, learning: bool) -> Dataset:
    if layout:
        return layout.read(path)
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder of images, a dataset root, or a .csv table.")
    if within := layouts.within(path):
        names = ", ".join(one.path.relative_to(path).as_posix() for one in within[:5])
        raise DataError(
            f"{path} holds {counted(len(within), 'category', 'categories')} ({names}); "
            f"give one of them, for example {within[0].path}."
        )
    return _folder(path, learning)


def _folder(path: Path, all_good: bool) -> Dataset:
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
            whole = f", or {folder.parent}, the dataset that holds it" * bool(layouts.layout_of(folder.parent))
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


def _unpack(images: Iterable[object]) -> Iterator[Sample]:
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
        for image in cast("Iterable[ImageLike]", batch):  # reading it says so if it is none
            yield Sample(str(image) if isinstance(image, str | Path) else f"#{number}", image)
            number += 1


def limited(found: Iterable[Sample], limit: int | None, seed: int) -> Iterable[Sample]:
    """At most `limit` samples: random ones, by `seed`, in the original order. Errors: UsageError."""
    if limit is None:
        return found
    if limit < 1:
        raise UsageError(f"limit is {limit}; it must be at least 1.")
    found = list(found)
    kept = sorted(range(len(found)), key=lambda index: uniform(seed, index, "limit"))[:limit]
    return [found[index] for index in sorted(kept)]


def relative(names: list[str]) -> list[str]:
    """Names without the folder that they share: a model file keeps no machine's paths."""
    absolute = [Path(name) for name in names if Path(name).is_absolute()]
    if not absolute:
        return names
    try:
        shared = Path(os.path.commonpath([path.parent for path in absolute]))
    except ValueError:  # on several drives
        return [Path(name).name for name in names]
    return [Path(name).relative_to(shared).as_posix() if Path(name).is_absolute() else name for name in names]
