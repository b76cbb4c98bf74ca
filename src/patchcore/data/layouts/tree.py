"""What the readers share: looking around in a tree of folders, and saying what is missing."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from patchcore.data.sample import GOOD, Sample, hidden, images_in, search, some
from patchcore.errors import DataError, counted

log = logging.getLogger(__name__)
_MASKS = "ground_truth"


def require(root: Path, title: str, *wanted: str) -> None:
    """DataError that says what is there and what is not, unless all the wanted files and folders are."""
    missing = [name for name in wanted if not (root / name).exists()]
    if missing:
        place = next(one for one in (root / missing[0]).parents if one.exists())
        found = sorted(p.name for p in place.iterdir() if not hidden(p.name))
        raise DataError(
            f"{root}: half a dataset ({title}). There is no {', '.join(missing)}; expected {', '.join(wanted)}, "
            f"found {some(found, 8) or 'nothing'}{f' in {place.relative_to(root)}' if place != root else ''}. "
            "`patchcore datasets` says where it comes from."
        )


def training(root: Path, folder: Path) -> list[Sample]:
    """The images of a folder, as good ones."""
    return [Sample(_name(root, p), p, GOOD) for p in images_in(folder)]


def labelled(root: Path, kinds: Iterable[Path], masks: Path | None, good: str = GOOD) -> list[Sample]:
    """The images of each folder as that kind, `good` being the name of the folder of good ones.

    A defect's mask is called `<stem>_mask` or `<stem>`, of any image format, in the folder of the
    same kind in `masks`.
    """
    found = []
    for folder in kinds:
        kind = GOOD if folder.name == good else folder.name
        there = _by_stem(masks / folder.name) if masks and kind != GOOD else {}
        found += [
            Sample(_name(root, p), p, kind, there.get(f"{p.stem}_mask") or there.get(p.stem)) for p in images_in(folder)
        ]
    return found


def counts(train: list[Sample], test: list[Sample]) -> str:
    """How many of each, in words."""
    defects = sum(sample.kind != GOOD for sample in test)
    return f"{len(train)} good to train on, {len(test) - defects} good and {defects} defective to test on"


def unused(root: Path, *folders: str) -> str:
    """`; not used: 3 images of validation/good`, of those folders that are there."""
    parts = [f"{counted(len(_by_stem(root / name)), 'image')} of {name}" for name in folders if (root / name).is_dir()]
    return f"; not used: {', '.join(parts)}" if parts else ""


def _by_stem(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in listed(folder)}


def listed(folder: Path, *suffixes: str) -> list[Path]:
    """The images of a folder by the one rule, in order of name; none if there is no such folder."""
    found = search(folder, recursive=False)[0] if folder.is_dir() else []
    return [path for path in found if not suffixes or path.suffix.lower() in suffixes]


def say_unused(root: Path, samples: Iterable[Sample]) -> None:
    """A warning, if a category of one's own data holds images or masks that nothing here takes."""
    used = {os.path.realpath(str(one)) for sample in samples for one in (sample.image, sample.mask)}
    names = [path.relative_to(root) for path in search(root, recursive=True)[0] if os.path.realpath(path) not in used]
    names = [name for name in names if name.parts[:2] != (_MASKS, GOOD)]  # black ones
    masks = [name for name in names if name.parts[0] == _MASKS]
    if len(names) > len(masks):
        folders = some(sorted({name.parent.as_posix() for name in names if name not in masks}))
        images = counted(len(names) - len(masks), "image")
        log.warning("%s: not looked at, in no folder of this layout: %s in %s.", root, images, folders)
    found = [f"{counted(len(masks), 'image')} ({some(map(str, masks))})"] if masks else []
    if (root / _MASKS).is_dir() and (other := search(root / _MASKS, recursive=True)[1]):
        found.append(other)
    if found:
        log.warning(
            "%s: of no image in test: %s. The mask of test/KIND/STEM.png is %s/KIND/STEM_mask.png, or STEM.png.",
            root, ", ".join(found), _MASKS,
        )  # fmt: skip


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
