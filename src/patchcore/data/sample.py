"""One image with what is known of it, and what was found at a path."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from patchcore.data.reading import EXTENSIONS
from patchcore.errors import DataError

if TYPE_CHECKING:  # finding images takes a moment, torch to read them takes seconds
    from patchcore.data.images import ImageLike

GOOD = "good"
_GOOD_FOLDERS = (GOOD, "ok")


@dataclass(frozen=True)
class Sample:
    """One image with what is known of it.

    Attributes:
        name: What results and errors call it.
        image: The image itself, or where it is.
        kind: `good`, the name of a defect, or None if unknown.
        mask: File of the ground-truth mask.
        part: Which part the image shows, where several images may show one.
    """

    name: str
    image: ImageLike
    kind: str | None = None
    mask: Path | None = None
    part: str | None = None


@dataclass(frozen=True)
class Dataset:
    """What was found at a path: good images to fit on, labelled ones to evaluate on."""

    description: str
    train: list[Sample] = field(default_factory=list)
    test: list[Sample] = field(default_factory=list)
    rest: list[Sample] = field(default_factory=list)  # neither: defective rows of a table's training split

    @property
    def every(self) -> list[Sample]:
        """All images, each once."""
        return list({sample.name: sample for sample in [*self.train, *self.test, *self.rest]}.values())


def holds_good(folder: str) -> bool:
    """Whether a folder of that name says that its images are good."""
    return folder.lower() in _GOOD_FOLDERS


def folders_in(folder: Path) -> list[Path]:
    """The sub-folders, in order of name, without hidden ones; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def images_in(folder: Path, recursive: bool = False) -> list[Path]:
    """The image files of a folder, by extension, in order of name. DataError if there are none."""
    entries = folder.rglob("*") if recursive else folder.iterdir()
    found = sorted(p for p in entries if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
    if found:
        return found
    none = f"{folder} holds no images ({', '.join(sorted(EXTENSIONS))})"
    if recursive:
        raise DataError(f"{none}.")
    try:
        deeper = images_in(folder, recursive=True)
    except DataError:
        raise DataError(f"{none}, nor do its sub-folders.") from None
    raise DataError(
        f"{none}; its sub-folders, which hold {len(deeper)}, were not searched. Give one that has some, for example "
        f"{deeper[0].parent}."
    )


def uniform(seed: int, index: int, purpose: Literal["calibration", "limit", "fold"]) -> float:
    """A random number in [0, 1) that depends on nothing but its arguments: images may come as a stream."""
    digest = hashlib.blake2b(f"{purpose}:{seed}:{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
