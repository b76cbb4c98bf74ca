"""Parity: compare the exported files with the library, on images of several sizes, shapes and bit depths."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from patchcore.data.images import read
from patchcore.data.reading import OnBad
from patchcore.data.sample import Sample
from patchcore.detector import Detector
from patchcore.errors import DataError, ImageError
from patchcore.maths.thresholds import VERDICTS, decide
from patchcore.model.fitted import Fitted

if TYPE_CHECKING:
    from patchcore_runtime import Model

Batch = NDArray[Any]  # (N, H, W, C) of one size, uint8, uint16 or float32

TOLERANCE = {
    "fp32": {"score": 1e-4, "map": 1e-4},
    "fp16": {"score": 1e-2, "map": 1e-2},
    "int8": {"score": 1e-2, "map": 3e-2},  # compared with the same graph on the machine that exported it
}
_RANGES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "float32": (0.0, 1.0)}

# Synthetic batches: images, height, width, channels, dtype. Larger and smaller than the network's input, landscape,
# portrait and square, grey and colour, single and in fives.
_SHAPES = (
    (1, 400, 300, 3, "uint8"),
    (5, 96, 144, 1, "uint8"),
    (1, 287, 121, 1, "uint16"),  # a size at which OpenVINO rounds a quotient of whole numbers wrongly
    (5, 64, 64, 3, "float32"),
)
_REAL = 12  # at most this many of the given images are used


def floor(fitted: Fitted) -> float:
    """The difference allowed for any score: 1e-6 of the median good score or of the patches' length, if that is larger.

    A distance is a difference of patches, which float32 cannot resolve any better. This matters if good images are
    nearly identical, so that their scores are far smaller than the length of their patches.
    """
    scores = fitted.calibration.scores
    lengths = [float(one.bank.rows.square().sum(1).mean().sqrt()) / one.unit for one in fitted.members]
    return 1e-6 * max(statistics.median(scores) if scores else 0.0, *lengths)


def value_ranges(own: tuple[float, float] | None) -> dict[str, list[float]]:
    """The values of black and white for each type of image."""
    return {name: list(own or usual) for name, usual in _RANGES.items()}


def synthetic(seed: int, value_range: tuple[float, float] | None, static: tuple[int, int] | None) -> list[Batch]:
    """Batches of blurred noise, drawn by seed; those of five include an image of one value and one of two."""
    generator = np.random.default_rng(seed)
    batches = []
    for count, height, width, channels, dtype in _SHAPES:
        height, width = static or (height, width)
        coarse = generator.random((count, -(-height // 16), -(-width // 16), channels))
        values = np.kron(coarse, np.ones((1, 16, 16, 1)))[:, :height, :width]
        values = 0.7 * values + 0.3 * generator.random(values.shape)
        if count > 2:  # a single value, as with the lens cap on, and black and white alone
            values[-1], values[-2] = 0.3, np.arange(width)[:, None] > width / 3
        if dtype == "float32":
            low, high = value_range or (0.0, 1.0)
            batches.append((low + values * (high - low)).astype(np.float32))
        else:
            batches.append((values * np.iinfo(dtype).max).astype(dtype))
    return batches


def chosen(new: Sequence[Sample], seen: Sequence[Sample], static: tuple[int, int] | None) -> list[Sample]:
    """Choose good images for the self-test: mostly ones that are not in the bank, and some that are. Reads them all.

    Errors: ImageError; DataError if none has the right size.
    """
    if static:  # their sizes are known only after reading
        new, seen = ([one for one in part if pixels_of(one).shape[:2] == static] for part in (new, seen))
    some = _spread(seen, max(_REAL // 4, _REAL - len(new)))
    some = [*_spread(new, _REAL - len(some)), *some]
    if not some:
        of = f" of the size {static[0]} x {static[1]}" if static else ""
        raise DataError(f"--images: there are no images{of}. Give others, or omit it: the self-test has its own.")
    for one in () if static else some:
        pixels_of(one)
    return some


def readable(found: Sequence[Sample], static: tuple[int, int] | None, on_bad: OnBad) -> list[Sample]:
    """The images that can be used; of each of the others, `on_bad` is given the error."""
    fine = []
    for one in found:
        try:
            pixels_of(one, static)
        except ImageError as error:
            on_bad(error)
        else:
            fine.append(one)
    return fine


def pixels_of(sample: Sample, static: tuple[int, int] | None = None) -> NDArray[Any]:
    """The pixels of an image, of the size `static` if there is one. Errors: ImageError, with the path."""
    try:
        pixels = read(sample.image, sample.name)
    except ImageError as error:
        raise error.at(sample.image) from error.__cause__
    if static and pixels.shape[:2] != static:
        got, expected = (f"{height} x {width}" for height, width in (pixels.shape[:2], static))
        raise ImageError(sample.name, f"its size is {got}; with --static all must be {expected}").at(sample.image)
    return pixels


def _spread(found: Sequence[Sample], most: int) -> list[Sample]:
    most = min(most, len(found))
    return [found[i * len(found) // most] for i in range(most)]


def real(found: Sequence[Sample], static: tuple[int, int] | None) -> Iterator[Batch]:
    """Batches from the user's images: each alone, five together, and crops of other shapes."""
    arrays = [pixels_of(one) for one in found]
    for one in arrays:
        yield one[None]
    alike = [one for one in arrays if one.dtype == arrays[0].dtype and one.shape[2] == arrays[0].shape[2]]
    height, width = (min(one.shape[axis] for one in alike) for axis in (0, 1))
    five = [alike[i % len(alike)][:height, :width] for i in range(5)]
    yield np.stack([one[:, ::-1] if i >= len(alike) else one for i, one in enumerate(five)])
    if not static:
        yield arrays[0][None, : -(-height // 2)]
        yield arrays[0][None, :, : -(-width // 3)]


def expected(detector: Detector, batch: Batch) -> dict[str, Any]:
    """The library's results: score, normalised, verdict by the score alone, coverage of each image, and its maps."""
    results = [detector.predict(image) for image in batch]
    return {
        "score": [one.score for one in results],
        "normalised": [None if np.isnan(one.normalised) else one.normalised for one in results],
        "decision": [VERDICTS.index(decide(one.score, one.threshold, one.lower_threshold)) for one in results],
        "coverage": [one.coverage for one in results],
        "patch_scores": np.stack([one.patch_scores.numpy() for one in results]),
        "map": np.stack([one.map for one in results]),
        "rows": np.stack([one.nearest_rows.numpy() for one in results]),
    }


def own(model: Model, batch: Batch) -> dict[str, Any]:
    """An exported graph's own results for each image alone; keys as in `expected`."""
    each = [model.run(one[None]) for one in batch]
    joined = {name: np.concatenate([out[name] for out in each]) for name in each[0]}
    lists = {
        name: [None if value != value else value for value in joined[name].tolist()]
        for name in ("score", "normalised", "decision", "coverage")
    }
    return {**lists, **{name: joined[name] for name in ("patch_scores", "map", "rows")}}


def write_vectors(folder: Path, batches: Sequence[Batch], wanted: Sequence[dict[str, Any]]) -> None:
    """Write `vectors.json` and its arrays."""
    folder.mkdir()
    cases = []
    for number, (batch, outputs) in enumerate(zip(batches, wanted, strict=True)):
        arrays = {name: value for name, value in outputs.items() if isinstance(value, np.ndarray)}
        files = {name: f"{number}_{name}.npy" for name in arrays}
        np.save(folder / f"{number}_image.npy", batch)
        for name, value in arrays.items():
            np.save(folder / files[name], value)
        rest = {name: value for name, value in outputs.items() if name not in arrays}
        cases.append({"image": f"{number}_image.npy", "expected": rest, "arrays": files})
    (folder / "vectors.json").write_text(json.dumps(cases, indent=1), "utf-8")
