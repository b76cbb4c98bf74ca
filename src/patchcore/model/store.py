"""One safe file: tensors in safetensors, and everything else as JSON in one metadata key.

The JSON holds no times and no absolute paths, and its keys are sorted, so that the same detector
is the same file. `sha256` in it covers all tensors and all the rest of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from patchcore.backbones.weight_files import digest_of
from patchcore.data.formats import absent
from patchcore.errors import PatchcoreError, StoreError
from patchcore.files import appearing, as_path, check, from_json, opened
from patchcore.model.version import __version__

FORMAT = 2
_KEY = "patchcore"

Header = dict[str, Any]
Spec = tuple[str, tuple[int, ...]]  # type, in safetensors' words, and shape
_TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")
_LONGEST = 100_000_000  # bytes of a header, in safetensors itself


def _from_1(header: Header) -> Header:
    """Format 1 said pictures where format 2 says images."""
    for section in ("bank", "data"):
        if isinstance(header.get(section), dict) and "pictures" in header[section]:
            header[section]["images"] = header[section].pop("pictures")
    return {**header, "format": 2}


# From a format version to the step that brings its header to the next one.
_MIGRATIONS: dict[int, Callable[[Header], Header]] = {1: _from_1}


def write(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """Write a model file and return its SHA-256. The file appears whole, or not at all."""
    from safetensors.torch import save_file

    check(path)  # before the work
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    full = {**header, "format": FORMAT}
    full["sha256"] = _digest(stored, full)
    with appearing(path, needed=sum(tensor.nbytes for tensor in stored.values())) as temporary:
        save_file(stored, temporary, metadata={_KEY: canonical(full)})
    return str(full["sha256"])


def read(
    path: str | Path, key: str | Path | None = None, *, accept: Callable[[dict[str, Spec]], None] | None = None
) -> tuple[dict[str, Tensor], Header]:
    """The tensors and the header of a model file, its hash checked; with `key`, its signature too, on the same bytes.

    `accept` sees what tensors there are before they are read, and raises ValueError for what it does not take.
    Errors: StoreError (SignatureError).
    """
    from safetensors.torch import load

    given, path = path, as_path(path, "a model file")
    if os.path.isdir(path):
        what, way = "a folder", "Give what `patchcore fit DATA -o FILE` has written."
        if (path / "manifest.json").is_file():
            what = "an exported folder"
            way = "Give the one it was exported from, whose results it has (`patchcore verify`)."
        raise StoreError(f"{path}: {what}; expected the file of a detector. {way}")
    try:
        with opened(path) as file:
            try:
                stated, found = _plan(file)
                if accept is not None and _KEY in stated:
                    accept(found)
            except Exception:
                _check_signature(path, key)  # says more, where there is one
                raise
            file.seek(0)
            content = file.read()
        _check_signature(path, key, content)
        tensors = load(content)
    except FileNotFoundError:
        raise StoreError(f"{given}: {absent(str(given))}") from None
    except PatchcoreError:
        raise
    except Exception as error:  # of a foreign file a library may say nearly anything
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise StoreError(
            f"{path}: not a detector, or a damaged one ({reason}). Copy it again, or fit again."
        ) from error
    del content
    if _KEY not in stated:
        raise StoreError(
            f"{path}: a safetensors file, but not a detector. Fit one with `patchcore fit DATA -o {path.name}`."
        )
    header = _header(path, stated[_KEY])
    expected = header.get("sha256")
    if _digest(tensors, header) != expected:
        raise StoreError(
            f"{path}: the contents do not match the SHA-256 in the file ({str(expected)[:12]}...): it was "
            "altered or damaged. Copy it again, or fit again."
        )
    while header["format"] < FORMAT:
        header = _MIGRATIONS[header["format"]](header)
    return tensors, header


def _check_signature(path: Path, key: str | Path | None, content: bytes | None = None) -> None:
    if key is not None:
        import_module("patchcore.model.signature").check_signature(path, key, content)


def _plan(file: BinaryIO) -> tuple[dict[str, str], dict[str, Spec]]:
    """The metadata and the tensors that a file announces, which must fill it: memory is taken only for what is there.

    Errors: ValueError and others, for a file that is not what safetensors writes.
    """
    size, begin = os.fstat(file.fileno()).st_size, file.read(8)
    if begin == b"version ":
        raise ValueError("a pointer of Git LFS, not the file itself; `git lfs pull` gets that")
    length = int.from_bytes(begin, "little")
    if not 2 <= length <= min(size - 8, _LONGEST):
        raise ValueError(f"{size} bytes, and not the header of a model" if size else "an empty file")
    head = from_json(file.read(length))
    stated = head.pop("__metadata__", None) or {}
    end, found = 0, {}
    for name, one in head.items():
        found[name] = one["dtype"], tuple(one["shape"])
        if one["dtype"] not in _TYPES:
            raise ValueError(f"a tensor of type {str(one['dtype'])[:20]}")
        end = max(end, *one["data_offsets"])
    if 8 + length + end != size:
        raise ValueError(f"{size} bytes; expected {8 + length + end}")
    return stated, found


def versions() -> dict[str, str]:
    """The versions of what a score depends on."""
    others = {name: metadata.version(name) for name in ("numpy", "pillow", "timm", "torch", "torchvision")}
    return {"patchcore": __version__, **others}


def _header(path: Path, text: str) -> Header:
    try:
        header = from_json(text)
        version = header["format"]
        if type(version) is not int or version < 1:
            raise ValueError(f"format {version!r:.40}")
        canonical(header)  # refuses NaN and infinity
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreError(f"{path}: its header is damaged ({error}). Copy the file again, or fit again.") from error
    if version > FORMAT:
        versions = header.get("versions")
        writer = versions.get("patchcore", "?") if isinstance(versions, dict) else "?"
        raise StoreError(
            f"{path}: format {version!s:.20}, written by patchcore {writer!s:.40}; this version reads formats up to "
            f"{FORMAT}. Upgrade: pip install -U patchcore"
        )
    return dict(header)


def canonical(header: Mapping[str, Any]) -> str:
    return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    return digest_of(tensors, canonical({k: v for k, v in header.items() if k != "sha256"}).encode())
