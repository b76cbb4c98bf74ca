"""URLs: where images are, by path or URL, and their bytes on the machine that needs them."""

from __future__ import annotations

import logging
import os
import posixpath
import re
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import cast

from patchcore.data.images import ImageLike
from patchcore.data.layouts import table
from patchcore.data.reading import EXTENSIONS
from patchcore.data.resolve import Images, resolve
from patchcore.data.sample import Dataset, Sample, hidden
from patchcore.errors import DataError, ImageError, MissingExtraError, counted

log = logging.getLogger(__name__)
_HERE = ("memory://",)  # what no other process can read


def is_url(data: object) -> bool:
    """Whether it names a place that fsspec opens, such as `s3://bucket/parts`."""
    return isinstance(data, str) and "://" in data


def url_of(path: Path) -> str | None:
    """The URL that was given where a path was expected, which has one slash less; None for a path."""
    found = re.fullmatch(r"([a-zA-Z][a-zA-Z0-9+.-]+):/{1,2}([^/].*)", str(path))
    return f"{found[1]}://{found[2]}" if found else None


def samples_of(data: Images, *, learning: bool = False) -> list[Sample]:
    """The samples of whatever `Detector.fit` takes, or of a URL: of a folder, of a CSV table or of one image.

    Paths are made absolute; names stay as they were given. Errors: DataError, UsageError.
    """
    if is_url(data):
        return _of_url(cast("str", data), learning)
    found = resolve(data, learning=learning).samples
    return [_anywhere(one) for one in (found if isinstance(found, list) else list(found))]


def _anywhere(sample: Sample) -> Sample:
    """The same for a process with another working directory."""
    image = sample.image
    if isinstance(image, str) and is_url(image):
        return _carried(sample) if image.startswith(_HERE) else sample
    if isinstance(image, str | os.PathLike):
        return replace(sample, image=Path(os.path.abspath(image)))
    return sample


def opened(sample: Sample) -> Sample:
    """The same with the bytes of what lies at a URL. Errors: ImageError."""
    image = sample.image
    if not (isinstance(image, str) and is_url(image)):
        return sample
    try:
        with _fsspec().open(image, "rb") as file:
            return replace(sample, image=cast("ImageLike", file.read()))
    except MissingExtraError:
        raise
    except FileNotFoundError:
        raise ImageError(sample.name, "there is no such file.").at(image) from None
    except Exception as error:  # every file system has errors of its own
        raise ImageError(sample.name, f"cannot be read: {error}").at(image) from error


def _carried(sample: Sample) -> Sample:
    try:
        return opened(sample)
    except ImageError:
        return sample  # the worker will say so


def _of_url(url: str, learning: bool) -> list[Sample]:
    try:
        system, path = _fsspec().core.url_to_fs(url)
        is_file = system.isfile(path)
        found = [path] if is_file else sorted(system.find(path))
    except ImportError as error:
        raise DataError(f"{url}: {error} Install the package that opens such addresses on every machine.") from error
    except Exception as error:
        raise DataError(f"{url}: cannot be read ({error}).") from error
    if is_file and path.lower().endswith(".csv"):
        return _of_table(url, learning)
    if is_file:
        return [_anywhere(Sample(url, url))]
    base = path.rstrip("/")
    inside = [posixpath.relpath(one, base) for one in found]
    kept = [one for one in inside if _is_image(one)]
    if left := len(inside) - len(kept):
        log.warning("%s: left out %s.", url, counted(left, "file that is no image", "files that are no images"))
    if not kept:
        raise DataError(f"{url} holds no images ({', '.join(sorted(EXTENSIONS))}).")
    if learning and (train := [one for one in kept if one.startswith("train/")]) and len(train) < len(kept):
        kept = [one for one in train if one.startswith(("train/good/", "train/ok/"))]
    return [_anywhere(Sample(name, f"{url.rstrip('/')}/{name}")) for name in kept]


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in EXTENSIONS and not any(map(hidden, path.parts))


def _of_table(url: str, learning: bool) -> list[Sample]:
    """The rows of a table, whose paths are relative to it."""
    with tempfile.TemporaryDirectory(prefix="patchcore-") as folder:
        own = Path(folder) / PurePosixPath(url).name
        with _fsspec().open(url, "rb") as file:
            own.write_bytes(file.read())
        found: Dataset = table.read(own)
        above = url.rpartition("/")[0]
        samples = found.train if learning else found.every
        return [_anywhere(replace(one, image=_beside(one, Path(folder), above), mask=None)) for one in samples]


def _beside(sample: Sample, folder: Path, above: str) -> str:
    path = Path(cast("Path", sample.image))
    return sample.name if is_url(sample.name) else f"{above}/{path.relative_to(folder).as_posix()}"


def _fsspec() -> ModuleType:
    try:
        return import_module("fsspec")
    except ImportError:
        raise MissingExtraError("fsspec", "cluster", "Reading a URL") from None
