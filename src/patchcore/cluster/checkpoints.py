"""Checkpoints: what was found in images, in files of a folder that all workers share, for a run that goes on later."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor

from patchcore.data.sample import Sample
from patchcore.files import appearing
from patchcore.maths.appearance import Appearance
from patchcore.maths.resize import Frame
from patchcore.pipeline.embed import Patches
from patchcore.pipeline.learn import Seen

_FRAME: TypeAdapter[Frame] = TypeAdapter(Frame)
_VERSION = 1


class Checkpoints:
    """A file for each batch of images, named by a hash of what decides its content."""

    def __init__(self, folder: str | Path, about: str) -> None:
        self._folder, self._about = Path(folder), about
        self._folder.mkdir(parents=True, exist_ok=True)

    def place(self, samples: Iterable[Sample], augment: bool, small: bool) -> Path:
        """Where these images' file is. What has changed since, by its size or time, has another."""
        parts = [f"{_VERSION}", self._about, f"{augment} {small}"]
        parts += [f"{one.name} {one.part} {_state(one.image)}" for one in samples]
        return self._folder / f"{hashlib.sha256(chr(0).join(parts).encode('utf-8', 'surrogateescape')).hexdigest()}.pt"

    def read(self, place: Path, samples: Sequence[Sample]) -> list[Seen] | None:
        """What the file of these images says; None if there is none that can be read."""
        try:
            kept = torch.load(place, weights_only=True)
            return [_seen(own, sample) for own, sample in zip(kept, samples, strict=True)]
        except Exception:  # not there yet, another version's, or damaged: it is made again
            return None

    def write(self, place: Path, seen: Sequence[Seen], kind: torch.dtype) -> None:
        """Errors: StoreError."""
        content = [_plain(one, kind) for one in seen]
        with appearing(place, tidy=False) as temporary:
            torch.save(content, temporary)


def _state(image: object) -> str:
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    if isinstance(image, str | Path):
        try:
            about = os.stat(image)
            return f"{image} {about.st_size} {about.st_mtime_ns}"
        except OSError:
            return str(image)
    return hashlib.sha256(repr(image).encode()).hexdigest()


def _plain(one: Seen, kind: torch.dtype) -> dict[str, object]:
    patches = [[_of(own, kind) for own in copies] for copies in one.patches]
    return {
        "digest": one.digest.hex(),
        "red_blue": one.red_blue,
        "looks": list(one.looks),
        "thumbnail": torch.frombuffer(bytearray(one.thumbnail or b"\0"), dtype=torch.uint8),
        "has_thumbnail": bool(one.thumbnail),
        "patches": patches,
        "mean": one.mean,
    }


def _of(own: Patches, kind: torch.dtype) -> tuple[Tensor, tuple[int, int], str, Tensor | None]:
    return own.values.to("cpu", kind), own.grid, _FRAME.dump_json(own.frame).decode(), own.cells


def _seen(kept: dict[str, object], sample: Sample) -> Seen:
    patches = [
        [Patches(values, tuple(grid), _FRAME.validate_json(frame), 0.0, cells) for values, grid, frame, cells in copies]
        for copies in kept["patches"]  # type: ignore[attr-defined]
    ]
    thumbnail = bytes(kept["thumbnail"].numpy()) if kept["has_thumbnail"] else b""  # type: ignore[attr-defined]
    digest, looks = bytes.fromhex(str(kept["digest"])), Appearance(*kept["looks"])  # type: ignore[misc]
    red_blue, mean = kept["red_blue"], kept["mean"]
    return Seen(sample, digest, red_blue, looks, thumbnail, patches, mean)  # type: ignore[arg-type]
