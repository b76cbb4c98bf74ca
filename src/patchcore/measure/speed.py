"""Speed: what one image takes on this machine, by engine and precision, and which setting would be faster."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import numpy as np
import torch

from patchcore.backbones.engines import PRECISIONS, choose_device
from patchcore.backbones.engines.with_torch import has_bf16
from patchcore.data.resolve import Images, resolve
from patchcore.data.sample import Sample
from patchcore.detector import Detector
from patchcore.errors import BackboneError, DataError, MissingExtraError, UsageError
from patchcore.maths.resize import resize
from patchcore.model.fitted import Fitted
from patchcore.pipeline.score import score
from patchcore.pipeline.workers import in_order, load
from patchcore.recipe.recipe import Recipe

SECONDS = 10.0  # for all settings together, what they load and compile included if that is quick
_ROUNDS = 3  # at least, however long they take
_WARM = 0.1  # share of the time for searches that are not counted: the first ones sort and compile
_MOST = 8  # images
_GRAINS = (3, 12, 48)  # of made-up images: cells along a side


@dataclass(frozen=True)
class Timing:
    """What one image takes with an engine and a precision: medians, in seconds, of images one at a time.

    `network` and `search` are parts of `whole`: from the image to verdict and map. `difference` is the largest change
    of an image score from torch's in fp32, as a share of that.
    """

    engine: str
    precision: str
    network: float
    search: float
    whole: float
    difference: float
    rounds: int

    @property
    def name(self) -> str:
        return f"--engine {self.engine} --precision {self.precision}"


@dataclass(frozen=True)
class Speed:
    """Timings of every setting that works here, torch in fp32 first; and why the others do not."""

    timings: tuple[Timing, ...]
    left_out: dict[str, str]
    images: int
    made_up: bool
    threads: int

    @property
    def faster(self) -> Timing | None:
        """The setting with the least time for the whole; None where that is torch in fp32, which is the default."""
        best = min(self.timings, key=lambda timing: timing.whole)
        return None if best is self.timings[0] else best

    @property
    def ratio(self) -> float:
        """How many times as fast it is."""
        return self.timings[0].whole / (self.faster or self.timings[0]).whole

    def advice(self) -> str:
        """For people: what would be faster, and what it changes."""
        best = self.faster
        if best is None:
            return "Nothing is faster here than the default, torch in fp32."
        change = (
            f"changes scores by at most {best.difference:.1e} of their value" if best.difference else "changes no score"
        )
        return f"{best.name} is {self.ratio:.2f} times as fast here, and {change}, on {self._images()}."

    def _images(self) -> str:
        return f"{self.images} made-up images" if self.made_up else f"{self.images} images"

    def to_dict(self) -> dict[str, Any]:
        """In plain JSON values."""
        best = self.faster
        named = best and {"engine": best.engine, "precision": best.precision, "ratio": self.ratio}
        about = {"images": self.images, "made_up": self.made_up, "threads": self.threads, "left_out": self.left_out}
        return {"timings": [asdict(timing) for timing in self.timings], "faster": named, **about}


def speed(
    fitted: Fitted,
    images: Images | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    seconds: float = SECONDS,
) -> Speed:
    """Measure a model on this machine: all settings in turn, image by image, until the time is up.

    `images`: what to look at, at most eight of them; None for made-up ones. Errors: DataError, ImageError.
    """
    detectors, left_out = list[Detector](), dict[str, str]()
    samples = made_up(fitted.recipe.each[0]) if images is None else resolve(images).samples
    samples = [sample for sample, _ in zip(samples, range(_MOST), strict=False)]
    if not samples:
        raise DataError("There are no images to measure on.")
    scores = list[list[float]]()
    for engine, precision in settings(device):
        try:
            detector = Detector.of(fitted, device=device, threads=threads, engine=engine, precision=precision)
            scores.append([detector.predict(sample.image).score for sample in samples])
        except (BackboneError, MissingExtraError, UsageError) as error:
            if not detectors:
                raise
            left_out[f"{engine} {precision}"] = str(error)
        else:
            detectors.append(detector)
    begin = time.perf_counter()
    while time.perf_counter() - begin < _WARM * seconds:
        _parts(detectors[0], samples[0])
    taken = [list[tuple[float, float, float]]() for _ in detectors]
    for number in count():
        if number >= _ROUNDS and time.perf_counter() - begin > seconds:
            break
        sample = samples[number % len(samples)]
        for detector, own in zip(detectors, taken, strict=True):
            own.append((*_parts(detector, sample), _whole(detector, sample)))
    timings = tuple(
        _timing(detector, own, _difference(found, scores[0]))
        for detector, own, found in zip(detectors, taken, scores, strict=True)
    )
    return Speed(timings, left_out, len(samples), images is None, threads or torch.get_num_threads())


def settings(device: str) -> Iterator[tuple[str, str]]:
    """Engines and precisions to try, the default first: bf16 only where the processor has units for it."""
    with_bf16 = choose_device(device).type != "cpu" or has_bf16()
    precisions = PRECISIONS if with_bf16 else PRECISIONS[:1]
    return ((engine, precision) for engine in ("torch", "openvino") for precision in precisions)


def made_up(recipe: Recipe) -> list[Sample]:
    """Images of the size that the network sees: grey noise, coarse and fine, always the same."""
    (low, high), size = recipe.value_range or (0, 255), recipe.window
    generator, found = torch.Generator().manual_seed(0), list[Sample]()
    for number in range(_MOST // 2):
        layers = [torch.rand(1, side, side, generator=generator) for side in _GRAINS]
        grey = torch.stack([resize(layer, size, "bilinear") for layer in layers]).mean(0).clamp(0, 1)
        values = (low + grey.permute(1, 2, 0).expand(-1, -1, 3) * (high - low)).numpy()
        pixels = values.round().astype(np.uint8) if recipe.value_range is None else values
        found.append(Sample(f"made up {number}", np.ascontiguousarray(pixels)))
    return found


def _timing(detector: Detector, taken: Sequence[tuple[float, float, float]], difference: float) -> Timing:
    network, search, whole = (statistics.median(column) for column in zip(*taken, strict=True))
    return Timing(detector.engine, detector.precision, network, search, whole, difference, len(taken))


def _parts(detector: Detector, sample: Sample) -> tuple[float, float]:
    """Seconds of network and search for one image, computed as `predict` does."""
    fitted = detector.fitted
    image = load(sample, 1 << 62, fitted.members[0].recipe.value_range, damaged=True)

    def parts(_: object) -> tuple[float, float]:
        begin = time.perf_counter()
        found = [embedder([image])[0] for embedder in detector.embedders]
        then = time.perf_counter()
        score(fitted.members, found)
        return then - begin, time.perf_counter() - then

    return next(in_order(parts, [None], detector.threads or torch.get_num_threads(), ahead=False))


def _whole(detector: Detector, sample: Sample) -> float:
    begin = time.perf_counter()
    _ = detector.predict(sample.image).map
    return time.perf_counter() - begin


def _difference(found: Sequence[float], expected: Sequence[float]) -> float:
    return max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(found, expected, strict=True))
