"""One safe file: tensors in safetensors, and everything else as JSON in one metadata key.

The JSON holds no times and no absolute paths, and its keys are sorted, so that the same detector
is the same file. `sha256` in it covers all tensors and all the rest of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from patchcore.backbones.weight_files import digest_of
from patchcore.errors import StoreError
from patchcore.files import appearing
from patchcore.model.version import __version__

FORMAT = 2
_KEY = "patchcore"

Header = dict[str, Any]
T = TypeVar("T")


def _from_1(header: Header) -> Header:
    """Format 1 said pictures where format 2 says images."""
    for section in ("bank", "data"):
        if "pictures" in header.get(section, {}):
            header[section]["images"] = header[section].pop("pictures")
    return {**header, "format": 2}


# From a format version to the step that brings its header to the next one.
_MIGRATIONS: dict[int, Callable[[Header], Header]] = {1: _from_1}


def write(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """Write a model file and return its SHA-256. The file appears whole, or not at all."""
    from safetensors.torch import save_file

    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    full = {**header, "format": FORMAT}
    full["sha256"] = _digest(stored, full)
    with appearing(path) as temporary:
        save_file(stored, temporary, metadata={_KEY: _canonical(full)})
    return str(full["sha256"])


def read(path: str | Path, key: str | Path | None = None) -> tuple[dict[str, Tensor], Header]:
    """The tensors and the header of a model file, its hash checked; with `key`, its signature too, on the same bytes.

    Errors: StoreError (SignatureError).
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    if path.is_dir():
        raise StoreError(
            f"{path}: a folder; expected the file of a detector, as `patchcore fit DATA -o FILE` writes it."
        )
    try:
        content = path.read_bytes()
        if key is not None:
            import_module("patchcore.model.signature").check_signature(path, key, content)
        tensors = load(content)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file.") from None
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path}: not a detector, or a damaged one ({error}). Copy it again, or fit again.") from error
    stated = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__") or {}
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


def field(path: str | Path, header: Header, name: str, parse: Callable[[Any], T]) -> T:
    """One field of the header, parsed; one that does not parse is a StoreError."""
    try:
        return parse(header[name])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path}: the field {name!r} of its header cannot be used ({error}). It was written by patchcore "
            f"{header.get('versions', {}).get('patchcore', '?')}; use that version, or fit again."
        ) from error


def versions() -> dict[str, str]:
    """The versions of what a score depends on."""
    others = {name: metadata.version(name) for name in ("numpy", "pillow", "timm", "torch", "torchvision")}
    return {"patchcore": __version__, **others}


def _header(path: Path, text: str) -> Header:
    try:
        header = json.loads(text)
        version = int(header["format"])
        _canonical(header)  # refuses NaN and infinity
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreError(f"{path}: its header is damaged ({error}). Copy the file again, or fit again.") from error
    if version > FORMAT:
        raise StoreError(
            f"{path}: format {version}, written by patchcore {header.get('versions', {}).get('patchcore', '?')}; this "
            f"version reads formats up to {FORMAT}. Upgrade: pip install -U patchcore"
        )
    return dict(header)


def _canonical(header: Mapping[str, Any]) -> str:
    return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    return digest_of(tensors, _canonical({k: v for k, v in header.items() if k != "sha256"}).encode())
