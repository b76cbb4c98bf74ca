"""An exported folder, ready to look at pictures: `load(folder).predict(picture)`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore_runtime import engines, signing
from patchcore_runtime.errors import PictureError, StoreError, UsageError
from patchcore_runtime.pictures import MAX_PIXELS, check_range, read

FORMAT = 1
_DECISIONS = ("pass", "unsure", "fail")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a model says about one picture; the fields are those of `patchcore.Result`."""

    name: str  # the picture's path as it was given, or `#` and its number
    score: float  # the raw image score; higher is more anomalous, in feature-space distance
    normalised: float  # 0.5 at the threshold and 1 at twice it; monotone, not clipped above
    decision: str  # `fail` if and only if score > threshold; `unsure` where no threshold could be set; else `pass`
    threshold: float  # NaN if none could be set
    pixel_threshold: float  # the same for values of the map
    map: NDArray[np.float32]  # (H, W), at the picture's own size; NaN outside a crop
    model_map: NDArray[np.float32]  # at the size of what the network saw
    patch_scores: NDArray[np.float32]  # (h, w), on the network's grid
    nearest_rows: NDArray[np.int64]  # (h, w, k), rows of the memory bank; manifest["bank"] says of which pictures
    coverage: float  # the share of the picture that was looked at: less than 1 only where the recipe crops
    seconds: float

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Where the map is over the pixel threshold (H, W)."""
        return np.asarray(self.map > self.pixel_threshold)

    def __repr__(self) -> str:
        height, width = self.map.shape
        return f"Result({self.name!r}, score={self.score:.6g}, {self.decision!r}, map {height} x {width})"


class Model:
    """What `load` returns. `predict` is thread-safe; `manifest` is the folder's manifest.json."""

    def __init__(self, folder: Path, manifest: dict[str, Any], engine: str, run: engines.Run) -> None:
        self.folder, self.manifest, self.engine = folder, manifest, engine
        self._run = run

    def predict(self, pictures: Any, *, max_pixels: int = MAX_PIXELS) -> Any:
        """One picture -> Result; a list, another iterable or an array (N, H, W, C) -> a list of them.

        A picture is a path, a PIL image or an array (H, W) or (H, W, C). Errors: PictureError.
        """
        if isinstance(pictures, str | Path | Image.Image) or (isinstance(pictures, np.ndarray) and pictures.ndim <= 3):
            return self._one(pictures, 0, max_pixels)
        if not isinstance(pictures, Iterable):
            raise UsageError(f"got {type(pictures).__name__}; expected a path, a PIL image, an array, or several.")
        return [self._one(picture, number, max_pixels) for number, picture in enumerate(pictures)]

    def _one(self, picture: Any, number: int, max_pixels: int) -> Result:
        name = str(picture) if isinstance(picture, str | Path) else f"#{number}"
        pixels = read(picture, name, max_pixels)
        if pixels.dtype == np.float32 and self.manifest["check_float"]:
            check_range(pixels, name)
        if (static := self.manifest["static"]) and pixels.shape[:2] != tuple(static):
            height, width = pixels.shape[:2]
            raise PictureError(
                name,
                f"{height} x {width} pixels (height x width); this folder was exported for {static[0]} x {static[1]}. "
                "Export without --static for pictures of any size.",
            )
        begin = time.perf_counter()
        out = {key: value[0] for key, value in self.run(pixels[None]).items()}
        threshold, pixel_threshold = (_number(self.manifest[key]) for key in ("threshold", "pixel_threshold"))
        return Result(
            name=name,
            score=float(out["score"]),
            normalised=float(out["normalised"]),
            decision=_DECISIONS[int(out["decision"])],
            threshold=threshold,
            pixel_threshold=pixel_threshold,
            map=out["map"],
            model_map=out["model_map"],
            patch_scores=out["patch_scores"],
            nearest_rows=out["rows"],
            coverage=float(out["coverage"]),
            seconds=time.perf_counter() - begin,
        )

    def run(self, pixels: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """All outputs of the graph, by name, for pictures (N, H, W, C) of uint8, uint16 or float32."""
        limits = np.asarray(self.manifest["value_ranges"][pixels.dtype.name], np.float32)
        return self._run({"image": np.ascontiguousarray(pixels, np.float32), "value_range": limits})

    def verify(self) -> dict[str, float]:
        """Run the folder's test vectors: the largest differences from the library's own values, relative.

        Keys: score, map, patch_scores (of the largest value of each), tolerance of score and map. Errors: StoreError
        if one is beyond the tolerance, or a verdict differs.
        """
        tolerance, floor = self.manifest["tolerance"], self.manifest["floor"]
        threshold, vectors = _number(self.manifest["threshold"]), self.folder / "vectors"
        worst = dict.fromkeys(("score", "map", "patch_scores"), 0.0)
        for vector in json.loads((vectors / "vectors.json").read_text("utf-8")):
            out = self.run(np.load(vectors / vector["image"]))
            expected = np.array([_number(value) for value in vector["expected"]["score"]])
            far = _difference(out["score"], expected, np.abs(expected), floor / tolerance["score"])
            worst["score"] = max(worst["score"], float(far.max()))
            clear = np.abs(expected - threshold) > np.maximum(tolerance["score"] * np.abs(expected), floor)
            if (out["decision"] != vector["expected"]["decision"])[clear].any():
                raise self._differs(vector["image"], "another verdict")
            for key in ("map", "patch_scores"):
                array = np.load(vectors / vector["arrays"][key])
                far = _difference(out[key], array, np.nanmax(np.abs(array)), floor / tolerance["map"])
                worst[key] = max(worst[key], float(far.max()))
            for key, value in worst.items():
                if not value <= tolerance["score" if key == "score" else "map"]:
                    raise self._differs(vector["image"], f"{key} off by {value:.2g}, relatively")
        return worst

    def _differs(self, image: str, what: str) -> StoreError:
        return StoreError(
            f"{self.folder}: on this machine {self.engine} gives {what}, for vectors/{image} (allowed: "
            f"{self.manifest['tolerance']}). Use another engine, or another version of it, or export again."
        )


def load(
    folder: str | Path,
    *,
    engine: str | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    verify: bool = False,
    require_signature: str | Path | None = None,
) -> Model:
    """A model from a folder of `patchcore export`; every file is checked against its SHA-256 in manifest.json.

    `engine`: `onnxruntime` or `openvino`; by default the first that is installed and reads the format.
    `precision`: `fp32`, or `bf16` on OpenVINO, with scores off by 1e-2 or so. `threads`: how many to use.
    `verify`: run the test vectors first. `require_signature`: file of the public key that must have
    signed the folder. Errors: StoreError (SignatureError), UsageError, MissingExtraError.
    """
    folder = Path(folder)
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}; it must be at least 1.")
    if require_signature is not None:
        signing.check(folder, require_signature)
    manifest = _manifest(folder)
    name, run = engines.start(folder / manifest["graph"], manifest["engine"], engine, precision, threads)
    model = Model(folder, manifest, name, run)
    if verify:
        model.verify()
    return model


def _manifest(folder: Path) -> dict[str, Any]:
    """manifest.json, with every file that it names as it says. Errors: StoreError."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
        if manifest["kind"] != "patchcore-export":
            raise ValueError(f"kind is {manifest['kind']!r}")
        if manifest["format"] > FORMAT:
            raise StoreError(
                f"{folder}: format {manifest['format']}; this version reads formats up to {FORMAT}. Upgrade: "
                "pip install -U patchcore-runtime"
            )
        files, graph = dict(manifest["files"]), manifest["graph"]
        if graph not in files:
            raise ValueError(f"the graph {graph!r} is not among its files")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder}: not a folder of `patchcore export`, or a damaged one ({type(error).__name__}: {error}). Copy "
            "it again, or export again."
        ) from error
    for name, digest in files.items():
        try:
            if sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise StoreError(f"{folder / name}: not the file that was exported: altered or damaged. Copy it again.")
        except OSError as error:
            raise StoreError(f"{folder / name}: {error.strerror}. Copy the whole folder again.") from None
    return manifest


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _difference(got: NDArray[Any], expected: NDArray[Any], scale: Any, least: float) -> NDArray[Any]:
    """|got - expected| / scale, of a scale of `least` at least; where both are NaN 0, where one is infinite."""
    far = np.abs(got - expected) / np.maximum(scale, least)
    return np.where(np.isnan(got) & np.isnan(expected), 0.0, np.where(np.isnan(far), np.inf, far))
