"""Files: images and models, on a local disk or anywhere that fsspec reaches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import fsspec

from patchcore.errors import StoreError
from patchcore.files import appearing
from patchcore.station.errors import coded


class Files:
    """A folder by URL; names in it are relative, with `/`. A file appears whole, on the disk, or not at all.

    Errors: StoreError, for every name that leaves the folder and everything that the disk or the network refuses.
    """

    def __init__(self, url: str) -> None:
        self._system, self._root = fsspec.core.url_to_fs(url)
        self.local = Path(self._root) if "file" in _protocols(self._system) else None

    def _place(self, name: str) -> str:
        parts = name.split("/")
        if not name or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            raise StoreError(f"{name!r} is no name of a file of the station.")
        return f"{self._root}/{name}"

    def write(self, name: str, content: bytes) -> None:
        """Write a file; one of that name is replaced."""
        place = self._place(name)
        try:
            if self.local is not None:
                Path(place).parent.mkdir(parents=True, exist_ok=True)
                with appearing(place, needed=len(content)) as path:
                    path.write_bytes(content)
            else:
                self._system.pipe_file(place, content)
        except OSError as error:
            raise _refused(name, "written", error) from error

    def add(self, name: str, content: bytes) -> None:
        """Write a file whose name nobody knows yet. After a crash a part of it may be there: nothing names it then."""
        place = Path(self._place(name))
        if self.local is None:
            self.write(name, content)
            return
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            folder = os.open(place.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # its name, too, is on the disk now
            finally:
                os.close(folder)
        except OSError as error:
            place.unlink(missing_ok=True)
            raise _refused(name, "written", error) from error

    def read(self, name: str) -> bytes:
        try:
            return cast(bytes, self._system.cat_file(self._place(name)))
        except OSError as error:
            raise _refused(name, "read", error) from error

    def exists(self, name: str) -> bool:
        return bool(self._system.exists(self._place(name)))

    def all(self, folder: str) -> Iterator[tuple[str, float]]:
        """Name of each file in a folder and its sub-folders, and when it was written, in seconds of the epoch."""
        start = self._place(folder)
        for place, about in self._system.find(start, detail=True).items():
            changed = about.get("mtime") or about.get("LastModified") or about.get("created") or 0
            seconds = changed if isinstance(changed, int | float) else changed.timestamp()
            yield f"{folder}/{place[len(start) :].lstrip('/')}", seconds

    def delete(self, name: str) -> None:
        """Delete a file; one that is not there is no error."""
        place = self._place(name)
        try:
            self._system.rm_file(place)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _refused(name, "deleted", error) from error


def _refused(name: str, what: str, error: OSError) -> StoreError:
    why = os.strerror(error.errno) if error.errno else str(error)
    return coded(StoreError(f"{name} cannot be {what}: {why}"), f"file_{what}", name=name, why=why)


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)
