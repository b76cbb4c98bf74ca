"""Sources: the training images that a memory bank names, found again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from patchcore.data.images import EXTENSIONS
from patchcore.data.resolve import relative
from patchcore.data.sample import GOOD, Dataset


@dataclass(frozen=True)
class Sources:
    """Where to look for training images by the names that a bank keeps: a table of them, then folders."""

    known: dict[str, Path] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()

    @classmethod
    def of(cls, found: Dataset, root: Path) -> Sources:
        """The training images that `detect` found at a folder or table, and what else lies there."""
        paths = [(one.name, one.image) for one in found.train if isinstance(one.image, Path)]
        names = relative([name for name, _ in paths])  # as `fit` names them
        folder = root if root.is_dir() else root.parent
        known = {name: path for name, (_, path) in zip(names, paths, strict=True)}
        return cls(known, (folder, folder / "train" / GOOD))

    def find(self, name: str) -> Path | None:
        """The image of that name, if there is one; else one in a folder that only ends as the name does.

        A name comes from a model file, which may be anybody's: one that leads out of the folders is not followed.
        """
        if name in self.known:
            return self.known[name]
        parts = PureWindowsPath(name)  # knows both kinds of separators, and drives
        if parts.anchor or ".." in parts.parts or parts.suffix.lower() not in EXTENSIONS:
            return None
        places = (folder / end for end in (name, parts.name) for folder in self.folders)
        return next((path for path in places if path.is_file()), None)
