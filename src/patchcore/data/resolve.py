"""Resolving: what a caller gives, as samples."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from PIL import Image
from torch import Tensor

from patchcore.data import layouts
from patchcore.data.formats import is_open_file
from patchcore.data.images import ImageLike, plain
from patchcore.data.sample import GOOD, Dataset, Sample, folders_in, holds_defects, holds_good, images_in, some, uniform
from patchcore.errors import DataError, UsageError, counted

log = logging.getLogger(__name__)
Images: TypeAlias = "ImageLike | Dataset | Iterable[object]"


@dataclass(frozen=True)
class Given:
    """The samples that a caller gave, and whether that was a `single` image."""

    samples: Iterable[Sample]
    single: bool = False


def resolve(images: Images, *, learning: bool = False) -> Given:
    """Samples from whatever a caller has: an image, a path, a list, arrays, a DataLoader, a generator.

    A path stands for all its images, those of sub-folders and every row of a table included. With `learning`, what is
    labelled as defective, and what a dataset keeps for testing, is left out; that is the only difference.

    All images of a batch are used. A batch is a 4-D array or tensor, or a list or tuple of images; also one of these
    with labels (numbers or words) or paths after it, or a dict that has one as `image`. Where it cannot be told what
    is an image, as of images and masks, that is an error. Errors: UsageError, DataError, ImageError.
    """
    images = _converted(plain(images, "#0"))
    if isinstance(images, str | os.PathLike):
        path = layouts.located(images)
        layout = layouts.layout_of(path)
        if layout is None and not os.path.isdir(path) and path.suffix.lower() != ".csv":
            images = images if isinstance(images, str) else path  # reading it says so if there is no such file
        else:
            images = _read(path, layout, learning)
    if isinstance(images, Dataset):
        return Given(images.train if learning else images.every)
    single = _is_one(images) and not (isinstance(images, np.ndarray | Tensor) and images.ndim > 3)
    found = [images] if single or isinstance(images, Mapping) else images
    if not isinstance(found, Iterable):
        raise UsageError(
            f"got {type(images).__name__}; expected a path, an image, a list or generator of images, "
            "an array (N, H, W, C), a tensor (N, C, H, W) or a DataLoader."
            + " cv2.imread gives None where it cannot read a file: check its path."
            * (images is None)
        )
    # What has a length is held in memory already; as a list its progress can be shown.
    held = isinstance(found, list | tuple | np.ndarray | Tensor)
    samples = _unpack(found, _Labels() if learning else None)
    return Given(list(samples) if held else samples, single)


def detect(path: str | os.PathLike[str]) -> Dataset:
    """What a path holds: a CSV table, a dataset in a known layout, or a plain folder of good images.

    - CSV: a column `path` (relative to the file), and optionally `label` (`good`, `ok`, `normal`, `pass` or `0`;
      any other word is a defect), `mask`, `split` (`train` or `test`; without the column every row is both
      a training image, if good, and a test image), and `part` (which part an image shows): docs/datasets.md.
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
    if not os.path.isdir(path):
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
    found = images_in(path, recursive=True, closed=not all_good)
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
        kinds = some(f"{n} {f'in {name}' if name else 'in no sub-folder'}" for name, n in found.items())
        if bad := [] if good or holds_good(root.name) else list(filter(holds_defects, found)):
            why = "by its name its images are not good, and cannot be taken as good. Give the good ones alone."
            raise DataError(f"{folder} has a sub-folder {bad[0]} ({kinds}): {why}")
        if good and not all(map(holds_good, found)):
            whole = f", or {folder.parent}, the dataset that holds it" * bool(layouts.layout_of(folder.parent))
            raise DataError(
                f"{folder} has a sub-folder {good[0].name}, and other images beside it ({kinds}): they cannot all be "
                f"taken as good. Give the good ones alone, {good[0]}{whole}."
            )
    direct = places[root].pop("", 0)
    total, within = counted(len(images), "image"), places[root]
    if not within:
        return total
    names = f"{counted(len(within), 'sub-folder')} ({some(within)})"
    return f"{total}, {len(images) - direct} of them in {names}," if direct else f"{total} in {names}"


class _Labels:
    """What lies beside the images of batches: nothing of it is used, which is to be said where all are learned."""

    def __init__(self) -> None:
        self._found = Counter[str]()

    def see(self, one: Any) -> None:
        """A label, or those of a batch; anything else is none."""
        if isinstance(one, np.ndarray | Tensor | np.generic):
            one = one.tolist()
        for label in one if isinstance(one, list | tuple) else ():
            self.see(label)
        if isinstance(one, str | int | float):
            self._found[str(one)] += 1

    def warn(self) -> None:
        """Where labels differ, and repeat: else they are numbers or names of the images."""
        if 1 < len(self._found) < sum(self._found.values()):
            told = some(f"{label} ({number})" for label, number in self._found.most_common())
            way = "Give the good ones alone, or a CSV table with a column label."
            log.warning("The images come with labels: %s. They are not read: all are learned as good. %s", told, way)


_LABELS = ("label", "labels", "gt_label", "is_anomaly", "anomaly", "target", "y")


def _unpack(images: Iterable[object], labels: _Labels | None) -> Iterator[Sample]:
    number = 0
    for item in images:
        for image in _images_of(item, labels):
            if isinstance(image, Sample):
                yield image
                continue
            name = f"#{number}"
            image = plain(image, name)
            yield Sample(str(image) if isinstance(image, str | Path) else name, cast("ImageLike", image))
            number += 1
    if labels:
        labels.warn()


def _images_of(item: object, labels: _Labels | None = None) -> Iterator[object]:
    """The images of an item of an iterable: itself, or those of the batch that it is. Errors: UsageError."""
    item = _converted(item)
    if isinstance(item, Mapping):
        if "image" not in item:
            raise UsageError(f"a batch with the keys {some(map(str, item), 20)}; expected `image` among them.")
        if labels:
            labels.see([item[name] for name in _LABELS if name in item])
        yield from _images_of(item["image"])
    elif isinstance(item, list | tuple):
        batch = [_converted(one) for one in item]
        images = _without_labels(batch, isinstance(item, tuple))
        if labels and len(images) == 1:
            for one in batch:
                if one is not images[0]:
                    labels.see(one)
        for one in images:
            yield from _images_of(one, labels)
    elif _is_batch(item) or (isinstance(item, Iterable) and not _is_one(item)):
        for one in cast("Iterable[object]", item):
            yield from _images_of(one, labels)
    else:
        yield item  # reading it says so if it is none


def _converted(item: object) -> Any:
    """Arrays of other libraries as NumPy's, and NumPy's arrays of objects, such as paths, as lists."""
    if hasattr(item, "__array__") and not isinstance(item, np.ndarray | np.generic | Tensor | Image.Image):
        item = np.asarray(item)
    return item.tolist() if isinstance(item, np.ndarray) and item.dtype.kind in "OSU" else item


def _is_one(item: object) -> bool:
    """Whether something is an image, or ought to be one: not several."""
    one = str | bytes | bytearray | memoryview | Image.Image | Sample | np.ndarray | Tensor
    return isinstance(item, one | os.PathLike) or is_open_file(item)


def _is_batch(item: object) -> bool:
    return isinstance(item, np.ndarray | Tensor) and item.ndim == 4


def _without_labels(batch: list[Any], pair: bool) -> list[Any]:
    """What is an image in a batch: all of it, or what is beside labels, paths or other things that tell of it.

    `pair`: it was a tuple, which more often than a list has parts that differ. Errors: UsageError where it cannot be
    told.
    """
    kinds = [_kind(one) for one in batch]
    if all(kind == "word" for kind in kinds) or (not pair and all(isinstance(one, str) for one in batch)):
        return batch
    words = [kind in ("word", "words") for kind in kinds]
    if any(words) and all(word or kind == "label" for word, kind in zip(words, kinds, strict=True)):
        kinds[words.index(True)] = "images"  # names of files without an extension
    images = [one for one, kind in zip(batch, kinds, strict=True) if kind in _IMAGES]
    if not images:
        raise UsageError(f"a batch of {_told(batch)}, with no image in it; give an array, a tensor or a path for each.")
    if len(images) == 1 or _tell_of(images[0], images[1:], pair):
        return images[:1]
    forms = {_form(one) for one in images if one is not None}
    alike = len(forms) <= 1 or (len(batch) > 2 and not pair)
    if len(images) == len(batch) and "images" not in kinds and alike:
        return batch
    raise UsageError(
        f"a batch of {_told(batch)}: which of them are images to use cannot be told. Give images alone, images and "
        "then labels (numbers or words), or a dict with the key `image`."
    )


_IMAGES = ("pixels", "path", "images")


def _kind(one: Any) -> str:
    """`pixels`, `path`, `images` (several), `word` or `words` (no path of an image), `label` (no image at all)."""
    one = _converted(one)
    if isinstance(one, np.ndarray | Tensor):
        return "label" if one.ndim < 2 else "pixels" if one.ndim < 4 else "images"
    if isinstance(one, str):
        path = os.path.basename(one) != one or os.path.splitext(one)[1] or os.path.isfile(one)
        return "path" if path else "word"
    if isinstance(one, Mapping):
        return _kind(one["image"]) if "image" in one else "label"
    if one is None or _is_one(one):  # None: an image that could not be read
        return "path" if isinstance(one, os.PathLike) else "pixels"
    if not isinstance(one, list | tuple):
        return "images" if isinstance(one, Iterable) else "label"
    inner = [_kind(each) for each in one]
    own = [kind for kind in inner if kind in _IMAGES]
    if not own:
        return "words" if {"word", "words"} & set(inner) else "label"
    return own[0] if len(own) == 1 and (len(inner) > 1 or own[0] == "pixels") else "images"


def _form(one: object) -> object:
    """What images of one batch have in common."""
    if isinstance(one, np.ndarray | Tensor):
        return one.shape[0 if isinstance(one, Tensor) else 2] if one.ndim == 3 else 1
    return "path" if _kind(one) == "path" else "image"


def _tell_of(images: Any, others: list[Any], pair: bool) -> bool:
    """Whether all others are the paths of images whose pixels are given, or a row of labels for each of a batch."""
    if _is_batch(images):
        rows = [one for one in others if isinstance(one, np.ndarray | Tensor) and one.ndim == 2]
        paths = [one for one in others if isinstance(one, list | tuple) and all(_kind(own) == "path" for own in one)]
        return len(rows) + len(paths) == len(others) and all(len(one) == len(images) for one in others)
    return pair and _kind(images) == "pixels" and all(_kind(one) == "path" for one in others)


def _told(batch: list[Any]) -> str:
    def told(one: Any) -> str:
        if isinstance(one, np.ndarray | Tensor):
            return f"{type(one).__name__} {tuple(one.shape)}"
        return f"{type(one).__name__} of {len(one)}" if isinstance(one, list | tuple) else type(one).__name__

    return some(map(told, batch))


def limited(found: Iterable[Sample], limit: int | None, seed: int) -> Iterable[Sample]:
    """At most `limit` samples: random ones, by `seed`, in the original order. Errors: UsageError."""
    if limit is None:
        return found
    if not isinstance(limit, int) or limit < 1:
        raise UsageError(f"limit is {limit}; it must be a whole number, and at least 1.")
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
