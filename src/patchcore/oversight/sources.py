"""Sources: find the training images that a memory bank names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from patchcore.data.reading import EXTENSIONS
from patchcore.data.resolve import relative
from patchcore.data.sample import GOOD, Dataset


@dataclass(frozen=True)
class Sources:
    """Where to look for training images by their names in a memory bank: first in a table, then in folders."""

    known: dict[str, Path] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()

    @classmethod
    def of(cls, found: Dataset, root: Path) -> Sources:
        """The training images that `detect` found at a folder or table, and the folder itself."""
        paths = [(one.name, one.image) for one in found.train if isinstance(one.image, Path)]
        names = relative([name for name, _ in paths])  # as `fit` names them
        folder = root if root.is_dir() else root.parent
        known = {name: path for name, (_, path) in zip(names, paths, strict=True)}
        return cls(known, (folder, folder / "train" / GOOD))

    def find(self, name: str) -> Path | None:
        """The image with that name; otherwise a file with that name, or with its last part, in one of the folders.

        A name comes from a model file, which is not trusted: a path that leads out of the folders is not followed.
        """
        if name in self.known:
            return self.known[name]
        parts = PureWindowsPath(name)  # understands both kinds of separators, and drives
        if parts.anchor or ".." in parts.parts or parts.suffix.lower() not in EXTENSIONS:
            return None
        places = (folder / end for end in (name, parts.name) for folder in self.folders)
        return next((path for path in places if path.is_file()), None)
