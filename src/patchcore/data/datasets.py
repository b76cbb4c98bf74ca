"""Finding pictures: a folder, the MVTec AD layout, a CSV table, or whatever a caller holds."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from patchcore.data.images import EXTENSIONS, Picture
from patchcore.errors import DataError, UsageError, counted, nearest_name

GOOD = "good"
_COLUMNS = frozenset({"path", "label", "mask", "split"})


@dataclass(frozen=True)
class Sample:
    """One picture: `kind` is `good`, the name of a defect, or None where nobody has said."""

    name: str
    picture: Picture
    kind: str | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """What was found at a path: good pictures to fit on, labelled ones to evaluate on."""

    description: str
    train: list[Sample] = field(default_factory=list)
    test: list[Sample] = field(default_factory=list)


def detect(path: str | Path) -> Dataset:
    """What a path holds: a CSV table, the MVTec AD layout, or a plain folder of good pictures.

    - CSV: a column `path` (relative to the file), and optionally `label` (`good` or `0`; any other
      word is a defect), `mask`, and `split` (`train` or `test`; without the column every row is both
      a training picture, if good, and a test picture).
    - MVTec AD: `train/good`, `test/<kind>`, `ground_truth/<kind>/<stem>_mask.png`.
    - Folder: its pictures, taken as good; sub-folders are searched too.

    Errors: DataError.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() == ".csv":
        return _csv(path)
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder of pictures, a data set root, or a .csv table.")
    if (path / "train" / GOOD).is_dir():
        return _mvtec(path)
    categories = sorted(p.name for p in path.iterdir() if (p / "train" / GOOD).is_dir())
    if categories:
        raise DataError(
            f"{path} holds {counted(len(categories), 'category', 'categories')} ({', '.join(categories[:5])}); "
            f"give one of them, for example {path / categories[0]}."
        )
    train = [Sample(p.relative_to(path).as_posix(), p, GOOD) for p in pictures_in(path, recursive=True)]
    return Dataset(f"folder, {counted(len(train), 'picture')} taken as good", train)


def pictures_in(folder: Path, recursive: bool = False) -> list[Path]:
    """The picture files of a folder, by extension, in order of name. DataError if there are none."""
    entries = folder.rglob("*") if recursive else folder.iterdir()
    found = sorted(p for p in entries if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
    if not found:
        raise DataError(
            f"{folder} holds no pictures ({', '.join(sorted(EXTENSIONS))})"
            f"{'.' if recursive else '; its sub-folders were not searched.'}"
        )
    return found


def _mvtec(root: Path) -> Dataset:
    def name(path: Path) -> str:
        return path.relative_to(root).as_posix()

    train = [Sample(name(p), p, GOOD) for p in pictures_in(root / "train" / GOOD)]
    test = []
    kinds = sorted(p for p in (root / "test").iterdir() if p.is_dir()) if (root / "test").is_dir() else []
    for kind in kinds:
        for p in pictures_in(kind):
            mask = root / "ground_truth" / kind.name / f"{p.stem}_mask.png"
            test.append(Sample(name(p), p, kind.name, mask if mask.is_file() else None))
    defects = sum(sample.kind != GOOD for sample in test)
    return Dataset(
        f"MVTec AD layout, {len(train)} good to train on, {len(test) - defects} good and {defects} defective "
        f"to test on",
        train,
        test,
    )


def _csv(path: Path) -> Dataset:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV table in UTF-8 ({error}).") from error
    if "path" not in columns:
        raise DataError(f"{path}: the columns are {', '.join(columns) or 'none'}; expected at least `path`.")
    for column in columns:
        if column not in _COLUMNS and (meant := nearest_name(column, _COLUMNS - set(columns))):
            raise DataError(f"{path}: there is a column {column!r}.{meant}")
    train, test = [], []
    left_out = 0
    for number, row in rows:
        split, label = (row.get("split") or "").strip(), (row.get("label") or "").strip()
        if "split" in columns and split not in ("train", "test"):
            raise DataError(f"{path}, line {number}: the split is {split!r}; expected train or test.")
        kind = (GOOD if label in ("0", GOOD) else label) if label else None
        if not (row["path"] or "").strip():
            raise DataError(f"{path}, line {number}: there is no path.")
        mask = path.parent / row["mask"] if row.get("mask") else None
        if mask is not None and not mask.is_file():
            raise DataError(f"{path}, line {number}: there is no mask {mask}.")
        sample = Sample(row["path"], path.parent / row["path"], kind, mask)
        if split != "test" and kind in (GOOD, None):
            train.append(sample)
        if split != "train" and kind is not None:
            test.append(sample)
        left_out += split == "train" and kind not in (GOOD, None)
    without = f", {counted(left_out, 'training row')} left out for a label other than {GOOD!r}" if left_out else ""
    return Dataset(f"CSV table, {len(train)} good to train on, {len(test)} labelled to test on{without}", train, test)


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
    return not path.is_dir() and path.suffix.lower() != ".csv"


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


def draw(seed: int, index: int, purpose: Literal["calibration", "limit"]) -> float:
    """A number in [0, 1) that depends on nothing but its arguments: pictures may come as a stream."""
    digest = hashlib.blake2b(f"{purpose}:{seed}:{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
