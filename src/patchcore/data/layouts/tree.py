"""What the readers share: looking around in a tree of folders, and saying what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from patchcore.data.reading import EXTENSIONS
from patchcore.data.sample import GOOD, Sample, images_in
from patchcore.errors import DataError, counted


def require(root: Path, title: str, *wanted: str) -> None:
    """DataError that says what is there and what is not, unless all the wanted files and folders are."""
    missing = [name for name in wanted if not (root / name).exists()]
    if missing:
        found = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))
        raise DataError(
            f"{root}: half a dataset ({title}). There is no {', '.join(missing)}; expected {', '.join(wanted)}, "
            f"found {', '.join(found[:8])}{' and more' if len(found) > 8 else ''}. "
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
    if not folder.is_dir():
        return {}
    return {p.stem: p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".")}


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
