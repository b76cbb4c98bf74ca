"""The cases of the test vectors: images and what the library said of them, checked before anything relies on them."""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from patchcore_runtime.errors import ExportError
from patchcore_runtime.folder import AGAIN, VECTORS, listed, opened, parsed
from patchcore_runtime.manifest import is_count, is_number

_IMAGES = ("uint8", "uint16", "float32")
_ARRAYS = {"patch_scores": ("float32", 3), "map": ("float32", 3), "rows": ("int64", 4)}  # type, axes
_VALUES = {"score": is_number, "normalised": lambda v: v is None or is_number(v), "coverage": is_number,
           "decision": lambda v: is_count(v) and v <= 2}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """An array in a .npy file, which is as long as its header says."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int  # where its values begin

    @classmethod
    def at(cls, path: Path) -> Stored:
        """Errors: ExportError."""
        with opened(path) as file:
            try:
                if npy.read_magic(file) != (1, 0):
                    raise ValueError("not version 1.0 of the format")
                shape, by_columns, dtype = npy.read_array_header_1_0(file)
            except OSError:
                raise
            except Exception as error:  # a header is Python's text of a dictionary, which can be wrong in many ways
                raise ExportError(f"{path}: no .npy file, or a damaged one ({_line(error)}). {AGAIN}") from error
            begin, size = file.tell(), os.fstat(file.fileno()).st_size
        if by_columns or dtype.hasobject or min(shape, default=1) < 1:
            raise ExportError(f"{path}: its header says {dtype}, {shape}; expected plain values by rows. {AGAIN}")
        if (expected := math.prod(shape) * dtype.itemsize) != size - begin:
            raise ExportError(f"{path}: {size - begin} bytes of values; its header says {expected}. {AGAIN}")
        return cls(path, dtype, shape, begin)

    def read(self) -> NDArray[Any]:
        with opened(self.path) as file:
            file.seek(self.begin)
            values = file.read(math.prod(self.shape) * self.dtype.itemsize)
        if len(values) < math.prod(self.shape) * self.dtype.itemsize:
            raise ExportError(f"{self.path}: it has become shorter. {AGAIN}")
        return np.frombuffer(bytearray(values), self.dtype).reshape(self.shape)  # torch takes only what it could write


@dataclass(frozen=True)
class Case:
    """One batch of images of one size."""

    image: Stored
    arrays: dict[str, Stored]  # outputs of the graph, by name
    values: dict[str, list[Any]]  # one for each image: score, verdict and others

    def expected(self) -> dict[str, Any]:
        return {**self.values, **{name: one.read() for name, one in self.arrays.items()}}


def read(folder: Path, manifest: Mapping[str, Any]) -> list[Case]:
    """The cases of a folder; their arrays are opened, and not read. Errors: ExportError."""
    path, sums = folder / VECTORS, listed(folder)
    if VECTORS not in sums:
        raise ExportError(
            f"{folder}: there are no test vectors in it (no {VECTORS} in SHA256SUMS), so it cannot be verified. "
            "Copy the whole folder, or export again; without `verify` it can be loaded as it is."
        )
    found = parsed(path)
    if not isinstance(found, list) or not found:
        raise ExportError(f"{path}: damaged: expected a list of cases. {AGAIN}")
    return [_case(one, f"{path}: case {number}", folder, sums, manifest) for number, one in enumerate(found)]


def _case(given: Any, where: str, folder: Path, sums: Mapping[str, str], manifest: Mapping[str, Any]) -> Case:
    def stored(name: object) -> Stored:
        listed_as = f"{VECTORS.rpartition('/')[0]}/{name}"
        if not isinstance(name, str) or listed_as not in sums:
            raise ExportError(f"{where}: {_short(name)} is not listed in SHA256SUMS. {AGAIN}")
        return Stored.at(folder / listed_as)

    values, arrays = (given.get(name) if isinstance(given, dict) else None for name in ("expected", "arrays"))
    if not isinstance(values, dict) or not isinstance(arrays, dict):
        raise ExportError(f"{where}: damaged: expected an image, what is expected of it, and arrays. {AGAIN}")
    image = stored(given.get("image"))
    if image.dtype not in map(np.dtype, _IMAGES) or len(image.shape) != 4 or image.shape[3] not in (1, 3):
        got = f"{image.dtype}, {image.shape}"
        raise ExportError(f"{image.path}: {got}; expected images (N, H, W, 1 or 3) of {', '.join(_IMAGES)}. {AGAIN}")
    count, *size = image.shape[:3]
    if manifest["static"] not in (None, size):
        raise ExportError(f"{image.path}: images of {size}; by the manifest all are of {manifest['static']}. {AGAIN}")
    for name, check in _VALUES.items():
        one = values.get(name)
        if (name in values or name in ("score", "decision")) and not (
            isinstance(one, list) and len(one) == count and all(map(check, one))
        ):
            raise ExportError(f"{where}: damaged: {name} is {_short(one)}; expected {count} of them. {AGAIN}")
    outputs = {name: stored(arrays[name]) for name in _ARRAYS if name in arrays}
    for name, one in outputs.items():
        dtype, axes = _ARRAYS[name]
        shape = (count, *size) if name == "map" else (count, *one.shape[1:])
        if (one.dtype, len(one.shape), one.shape) != (np.dtype(dtype), axes, shape):
            got = f"{one.dtype}, {one.shape}"
            raise ExportError(
                f"{one.path}: {got}; expected {dtype} for {count} x {size[0]} x {size[1]} pixels. {AGAIN}"
            )
    return Case(image, outputs, values)


def _short(value: object) -> str:
    return reprlib.repr(value)


def _line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0][:200]
