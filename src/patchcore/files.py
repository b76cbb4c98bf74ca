"""Files that appear whole or not at all, whatever happens while they are written.

What is written has a name of its own beside its place until it is complete and on the disk; then it takes the place
in one step. A link stays: what it leads to is replaced.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from patchcore.errors import StoreError


@contextmanager
def appearing(path: str | Path) -> Iterator[Path]:
    """An empty file beside `path`, to be written: it then takes the place of `path`, or vanishes.

    Errors: StoreError, before anything is written, where the folder does not exist or `path` is no regular file.
    """
    target = check(path)
    temporary = _beside(target)
    try:
        temporary.touch(exist_ok=False)  # by O_EXCL: nobody else's file, and no link
        mode = temporary.stat().st_mode  # what the umask makes of a new file
        yield temporary
        temporary.chmod(mode)  # safetensors puts a file of its own there, for the owner alone
        keep(temporary)
        os.replace(temporary, target)
        keep(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check(path: str | Path) -> Path:
    """Where a file that is written at a path ends up; for use before long work, too. Errors: StoreError."""
    path = Path(path)
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise StoreError(f"{path}: a link that leads in a circle. Delete it, or give another path.")
    if not target.parent.is_dir():
        raise StoreError(f"{path}: the folder {target.parent} does not exist. Create it first.")
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "a device, pipe or socket"
        raise StoreError(f"{path}: {kind}; expected the path of a file, new or to be replaced. Give another path.")
    return target


def _beside(target: Path) -> Path:
    """A new name in the same folder, short however long the target's own is."""
    return target.with_name(f".{secrets.token_hex(8)}.tmp")


def keep(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if not path.is_dir():
        with path.open("rb" if os.name == "posix" else "rb+") as file:  # Windows wants to be allowed to write
            os.fsync(file.fileno())
    elif os.name == "posix":
        with suppress(OSError):  # some file systems do not do that for folders
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
