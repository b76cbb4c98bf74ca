"""Model: an exported folder that looks at images. Result: what it says about one."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime import folder as folders
from patchcore_runtime import images, regions, signing
from patchcore_runtime.engines import Arrays, engine
from patchcore_runtime.errors import ExportError, ImageError
from patchcore_runtime.formats import Depth

log = logging.getLogger(__name__)

VERDICTS = ("pass", "unsure", "fail")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a model says about one image; the fields of `patchcore.Result`, as arrays."""

    name: str  # the image's path as it was given, or `#` and its number
    score: float  # the raw image score; higher is more anomalous
    normalised: float  # 0.5 at the threshold
    decision: str  # the verdict: pass, unsure or fail
    threshold: float  # the image fails if its score is greater; NaN if none could be set
    pixel_threshold: float
    map: NDArray[np.float32]  # (H, W), at the image's size; NaN outside a crop
    model_map: NDArray[np.float32]  # the same on the network's input
    patch_scores: NDArray[np.float32]  # (h, w), on the network's grid
    nearest_rows: NDArray[np.int64]  # (h, w, k), rows of the memory bank
    coverage: float  # the share of the image that was looked at
    seconds: float  # of the graph, the image's share of its batch
    warnings: tuple[str, ...] = ()  # what is wrong with a part of the image, such as damage in a JPEG file
    lower_threshold: float | None = None  # it passes if its score is at most this; None: the threshold

    def __repr__(self) -> str:
        height, width = self.map.shape
        return f"Result({self.name!r}, score={self.score:.6g}, {self.decision!r}, map {height} x {width})"

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The defect (H, W): empty if and only if the image does not fail. See `regions.defect`.

        What is over the pixel threshold whatever the verdict is `map > pixel_threshold`.
        """
        if self.decision != "fail":
            return np.zeros(self.map.shape, dtype=bool)
        return regions.defect(self.map, self.pixel_threshold)


class Model:
    """An exported folder, ready to run. Safe to call from several threads."""

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        threads: int | None = None,
        precision: str = "fp32",
        streams: int = 1,
    ) -> None:
        self.folder, self.manifest = folder, manifest
        self._run = engine(folder, manifest, threads, precision, streams)
        self._hinted = False  # that images in uint16 use few bits: said once

    def __getstate__(self) -> NoReturn:
        raise ExportError(f"{self.folder}: a Model cannot be pickled or copied. Use load(folder) in each process.")

    def run(self, image: NDArray[Any]) -> Arrays:
        """Images (N, H, W, C) of one size, uint8, uint16 or float32 -> all outputs of the graph, by name."""
        static = self.manifest["static"]
        if static and list(image.shape[1:3]) != static:
            got, expected = (f"{height} x {width}" for height, width in (image.shape[1:3], static))
            raise ExportError(f"Images of {got} pixels; this model was exported for {expected} only (--static).")
        bounds = np.array(self.manifest["value_ranges"][str(image.dtype)], dtype=np.float32)
        return self._run(np.ascontiguousarray(image, dtype=np.float32), bounds)

    def predict(self, given: Any, *, max_pixels: int = images.MAX_PIXELS, colour: images.Colour = "rgb") -> Any:
        """One image -> Result; a list of them, or an array (N, H, W, C) -> a list. Errors: ImageError, ExportError.

        An image is a path, the bytes of a file or an open one, a PIL image, or an array (H, W) or (H, W, C) of uint8,
        uint16 or floats. `colour`: order of an array's channels, `rgb`, or `bgr`, which is what OpenCV reads.
        """
        if colour not in ("rgb", "bgr"):
            raise ExportError(f"colour is {colour!r}; expected 'rgb', or 'bgr' for arrays that OpenCV has read.")
        several = isinstance(given, list | tuple) or (isinstance(given, np.ndarray) and given.ndim == 4)
        depth, found = Depth(), []
        for number, image in enumerate(given if several else [given]):
            found.append(self._one(image, number, max_pixels, colour, depth))
        if not self._hinted and (hint := depth.hint()):
            self._hinted = True
            log.warning(hint)
        return found if several else found[0]

    def _one(self, image: Any, number: int, max_pixels: int, colour: images.Colour, depth: Depth) -> Result:
        image = images.plain(image, f"#{number}")
        name = str(image) if isinstance(image, str | Path) else f"#{number}"
        warnings = list[str]()
        pixels = images.read(image, name, max_pixels, colour, warnings=warnings)
        for recipe in self._recipes():
            images.check_shape(pixels, name, recipe, max_pixels)
            depth.see(pixels, recipe.get("value_range"))
        pixels = images.checked(pixels, name, self.manifest["check_float"])
        begin = time.perf_counter()
        try:
            out = self.run(pixels[None])
        except ExportError as error:
            raise ImageError(name, str(error)) from error
        return Result(
            name=name,
            score=float(out["score"][0]),
            normalised=float(out["normalised"][0]),
            decision=VERDICTS[int(out["decision"][0])],
            threshold=_number(self.manifest["threshold"]),
            pixel_threshold=_number(self.manifest["pixel_threshold"]),
            map=out["map"][0],
            model_map=out["model_map"][0],
            patch_scores=out["patch_scores"][0],
            nearest_rows=out["rows"][0],
            coverage=float(out["coverage"][0]),
            seconds=time.perf_counter() - begin,
            warnings=tuple(warnings),
            lower_threshold=self.manifest.get("lower_threshold"),
        )

    def _recipes(self) -> list[dict[str, Any]]:
        """The recipes whose scores are joined; usually one."""
        recipe = self.manifest.get("recipe", {})
        return recipe.get("members") or [recipe]


def load(
    folder: str | Path,
    *,
    threads: int | None = None,
    verify: bool = False,
    precision: str = "fp32",
    streams: int = 1,
    require_signature: str | Path | None = None,
) -> Model:
    """A model from its folder, every file checked against its SHA-256.

    `threads`: the engine's own choice if it is None. `verify` also runs the test vectors. `precision`
    is `fp32`, or, as a hint for OpenVINO, `bf16`, which is faster where the processor has it, with
    other scores. `streams`: how many images OpenVINO looks at side by side, for callers with several threads;
    they share `threads`. ONNX Runtime does so by itself. `require_signature`: file of the public key that must
    have signed the folder, which is checked before anything else in it is read.

    Everything in the manifest and the test vectors is checked, and the graph's threshold on a small image of our own.
    Errors: ExportError (SignatureError).
    """
    folder = folders.place(folder)
    if require_signature is not None:
        signing.check(folder, require_signature)
    from patchcore_runtime import cases, vectors

    manifest = folders.read(folder)
    if verify or folders.VECTORS in folders.listed(folder):
        cases.read(folder, manifest)
    model = Model(folder, manifest, threads, precision, streams)
    _try(model, 0.02 if precision == "bf16" else 1e-4)
    if verify:
        vectors.verify(model)
    return model


def _try(model: Model, tolerance: float) -> None:
    """Run the graph on one small image: its threshold has to be that of the manifest. Errors: ExportError."""
    height, width = model.manifest["static"] or (64, 64)
    image = np.broadcast_to(np.arange(width, dtype=np.uint8)[:, None], (1, height, width, 3))
    out = model.run(image)
    score, normalised, decision = (out[name][0].item() for name in ("score", "normalised", "decision"))
    path, threshold = model.folder / model.manifest["graph"], _number(model.manifest["threshold"])
    if not math.isfinite(score):
        raise ExportError(f"{path}: it gives an image the score {score}. {folders.AGAIN}")
    lower = model.manifest.get("lower_threshold")
    lower = threshold if lower is None else lower
    expected = 0.5 * score / threshold if threshold > 0 else 0.5 + score - threshold
    same = math.isclose(normalised, expected, rel_tol=tolerance, abs_tol=1e-6) or (
        math.isnan(normalised) and math.isnan(expected)
    )
    near = any(math.isclose(score, limit, rel_tol=tolerance) for limit in (lower, threshold))
    if not same or not (near or decision == 1 + (score > threshold) - (score <= lower)):
        raise ExportError(
            f"{path}: its threshold differs from the {threshold:g} of {folders.MANIFEST}: it normalises a score of "
            f"{score:g} to {normalised:g} ({VERDICTS[decision]}); expected {expected:g}. {folders.AGAIN}"
        )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
