"""Exported: an exported folder, run as anomalib's inferencers run a model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from patchcore import export
from patchcore.data.images import read, to_tensor
from patchcore.errors import DataError, UsageError, validated
from patchcore.lightning.exporting import METADATA
from patchcore.maths.span import normalise_by_range

Given = str | Path | NDArray[Any] | Image | Tensor


class Metadata(BaseModel):
    """Thresholds, and the extremes of the maps of held-out good images, which scale scores and maps."""

    model_config = ConfigDict(title="image_threshold, pixel_threshold, min and max, as an export writes them")

    image_threshold: float
    pixel_threshold: float
    min: float
    max: float

    @classmethod
    def of(cls, given: str | Path | Mapping[str, Any]) -> Metadata:
        """From a file, or a dict. Errors: DataError, UsageError."""
        if isinstance(given, Mapping):
            return validated(cls, dict(given), "metadata")
        try:
            content = Path(given).read_bytes()
        except OSError as error:
            raise DataError(
                f"{given}: cannot be read ({error}). An export writes {METADATA} beside its graph."
            ) from error
        return validated(cls, content, given, DataError)


class Seen(NamedTuple):
    """What there is of one image. Without thresholds, score and map are distances, and there is no verdict."""

    image: Tensor  # (3, H, W), in [0, 1]
    score: float
    map: Tensor  # (H, W), at the image's size, NaN outside a crop
    label: bool | None
    mask: Tensor | None  # (H, W)


class Exported:
    """An exported folder, by the path of its graph. Errors: patchcore_runtime.ExportError, DataError, UsageError."""

    def __init__(
        self, path: str | Path, engines: tuple[str, ...], metadata: str | Path | Mapping[str, Any] | None
    ) -> None:
        path = Path(path)
        folder = path if path.is_dir() else path.parent
        self.model = export.load(folder)
        if (engine := self.model.manifest["engine"]) not in engines:
            raise UsageError(f"{path}: exported for {engine}; this inferencer runs {' or '.join(engines)}.")
        beside = folder / METADATA
        given = metadata if metadata is not None else beside if beside.is_file() else self._own()
        self.metadata = None if given is None else Metadata.of(given)
        if self.metadata is None:
            warnings.warn(
                f"{path}: no threshold has been set, so scores are distances, and there are no verdicts.", stacklevel=4
            )

    def _own(self) -> dict[str, float] | None:
        """The scale of the graph itself, where there is no other: half a score by its threshold."""
        limits = self.model.manifest["threshold"], self.model.manifest["pixel_threshold"]
        if None in limits or not all(map(math.isfinite, limits)):
            return None
        return {"image_threshold": limits[0], "pixel_threshold": limits[1], "min": 0.0, "max": 2 * limits[0]}

    def see(self, image: Given, *, up_to_255: bool = False) -> list[Seen]:
        """An image, or a batch of them. `up_to_255`: floats beyond 1 are of that range. Errors: ImageError."""
        images = list(image) if isinstance(image, Tensor | np.ndarray) and image.ndim == 4 else [image]
        return [self._one(one, up_to_255) for one in images]

    def _one(self, image: Any, up_to_255: bool) -> Seen:
        name = str(image) if isinstance(image, str | Path) else "an image"
        if isinstance(image, np.ndarray):
            if image.ndim == 3 and len(image) in (1, 3) and image.shape[2] not in (1, 3, 4):
                image = image.transpose(1, 2, 0)
            if up_to_255 and image.dtype.kind == "f" and image.size and image.max() > 1:
                image = image / 255
        told = list[str]()
        pixels = read(image, name, warnings=told)
        for one in told:
            warnings.warn(f"{name}: {one}", stacklevel=4)
        seen = to_tensor(pixels, name).expand(3, -1, -1)
        found = self.model.predict(pixels)
        values = torch.from_numpy(found.map)
        if self.metadata is None:
            return Seen(seen, found.score, values, None, None)
        limit, pixel_limit, low, high = self.metadata.model_dump().values()
        score = float(normalise_by_range(torch.tensor(found.score), limit, low, high))
        label, mask = found.score > limit, values > pixel_limit
        return Seen(seen, score, normalise_by_range(values, pixel_limit, low, high), label, mask)


def on_the_cpu(device: str | None, known: tuple[str, ...]) -> str:
    """What is said of a device. Errors: UsageError for an unknown one."""
    name = "AUTO" if device is None else str(device)
    if name.upper().partition(":")[0].partition(".")[0] not in known:
        raise UsageError(f"device is {device!r}; it must be one of {', '.join(known)}.")
    if name.upper() not in ("AUTO", "CPU"):
        warnings.warn(f"device={device!r} has no effect: an exported graph runs on the CPU here.", stacklevel=3)
    return "cpu"
