"""One image with what is known of it, and what was found at a path."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from patchcore.data.reading import EXTENSIONS
from patchcore.errors import DataError, counted

if TYPE_CHECKING:  # finding images takes a moment, torch to read them takes seconds
    from patchcore.data.images import ImageLike

log = logging.getLogger(__name__)
GOOD = "good"
# What people call good parts and defective ones, as labels and as folders.
GOOD_WORDS = frozenset({GOOD, "ok", "okay", "normal", "pass", "passed"})
_DEFECT_WORDS = {"abnormal", "anomalies", "anomalous", "anomaly", "bad", "defect", "defective", "defects", "fail"}
_DEFECT_WORDS |= {"failed", "faulty", "ng", "nok", "reject", "rejected", "rejects", "scrap"}
_OF_SYSTEMS = {"__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "lost+found", "$recycle.bin"}
_OF_SYSTEMS |= {"system volume information", "#recycle", "#snapshot"}
_OTHER = "file that is no image by its extension|files that are no images by their extension"
_NOWHERE = "link that leads nowhere|links that lead nowhere"
_SEEN = "link to a folder that is searched anyway|links to folders that are searched anyway"
_BESIDE = ("_overlay.png",)  # of `patchcore predict -o`: endings, and those of which one lies beside each
_RESULTS = {"_overlay.png": ("_map.tiff", "_map.npy"), "_map.tiff": _BESIDE, "_evidence.png": _BESIDE}


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
    return folder.lower() in GOOD_WORDS


def holds_defects(folder: str) -> bool:
    """Whether a folder of that name says that its images are not good."""
    return folder.lower() in _DEFECT_WORDS


def hidden(name: str) -> bool:
    """Whether a file or folder of that name is none of the user's: of a system, a NAS, an editor or a notebook."""
    return name.startswith((".", "@")) or name.casefold() in _OF_SYSTEMS


def folders_in(folder: Path) -> list[Path]:
    """The sub-folders, in order of name, links among them, without hidden ones; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not hidden(p.name))


def images_in(folder: Path, recursive: bool = False, closed: bool = False) -> list[Path]:
    """The image files of a folder, in order of name. What else lies there is counted in a warning.

    An image is a file with one of `EXTENSIONS` that is not `hidden`, and no result that `patchcore predict -o` has
    written. With `recursive` sub-folders are searched too, and folders that links lead to, each of them once.
    With `closed` a sub-folder that cannot be read is among the files, so that reading it says so.
    Errors: DataError if there are none, or a folder cannot be read.
    """
    found, left_out = search(folder, recursive, closed)
    if left_out:
        log.warning("%s: left out %s.", folder, left_out)
    if found:
        return found
    none = f"{folder} holds no images ({', '.join(sorted(EXTENSIONS))})"
    if recursive:
        raise DataError(f"{none}.")
    deeper, _ = search(folder, recursive=True)
    if not deeper:
        raise DataError(f"{none}, nor do its sub-folders.")
    raise DataError(
        f"{none}; its sub-folders, which hold {len(deeper)}, were not searched. Give one that has some, for example "
        f"{deeper[0].parent}."
    )


def search(root: Path, recursive: bool, closed: bool = False, without: Container[Path] = ()) -> tuple[list[Path], str]:
    """What `images_in` finds, and in words what it leaves out; without these folders. Errors: DataError."""
    found: list[Path] = []
    left_out: dict[str, list[str]] = {}
    folders, links, seen = [root], list[Path](), set[str]()
    above = os.path.realpath(root)  # a link to a folder that this one lies in is a loop, and may be all of the disk
    while folders or links:  # links last: a folder that is there itself keeps its own name
        folder = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(folder)
        if real in seen or (folder != root and above.startswith(os.path.join(real, ""))):
            left_out.setdefault(_SEEN, []).append(folder.name)
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if closed and folder != root:
                found.append(folder)
                continue
            raise DataError(
                f"{folder}: this folder cannot be read ({error.strerror}). Mend its permissions."
            ) from error
        names = {entry.name for entry in entries}
        for entry in entries:
            path, folded = folder / entry.name, _is(entry.is_dir)
            if why := _why_not(entry, path, names, folded and recursive):
                left_out.setdefault(why, []).append((path.suffix.lower() or path.name) if why == _OTHER else path.name)
            elif folded:
                if path not in without:
                    (links if entry.is_symlink() else folders).append(path)
            elif not hidden(path.name):
                found.append(path)
    parts = [f"{counted(len(names), *why.split('|'))} ({some(sorted(set(names)))})" for why, names in left_out.items()]
    return sorted(found), ", ".join(parts)


def _why_not(entry: os.DirEntry[str], path: Path, beside: Container[str], searched: bool) -> str:
    """Why what lies in a folder is left out, if that is to be said: a noun for it, and its plural."""
    if _is(entry.is_dir):
        return "hidden folder" if hidden(path.name) else "" if searched else "sub-folder"
    if path.suffix.lower() not in EXTENSIONS:
        return "" if hidden(path.name) else _OTHER if os.path.exists(path) else _NOWHERE
    if hidden(path.name):
        return "hidden file"
    for end, others in _RESULTS.items():
        base = path.name.removesuffix(end)
        if base != path.name and any(base + other in beside for other in others):
            return "result of an earlier `predict -o`|results of an earlier `predict -o`"
    return "" if _is(entry.is_file) or entry.is_symlink() else "pipe or device|pipes and devices"


def _is(asked: Callable[[], bool]) -> bool:
    try:
        return asked()
    except OSError:  # links that lead to each other
        return False


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few names."""
    names = list(names)
    return ", ".join(names[:most] + ["..."] * (len(names) > most))


def uniform(seed: int, item: int | str, purpose: Literal["calibration", "limit", "fold"]) -> float:
    """A random number in [0, 1) that depends on nothing but its arguments: images may come as a stream."""
    digest = hashlib.blake2b(os.fsencode(f"{purpose}:{seed}:{item}"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
