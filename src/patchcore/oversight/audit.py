"""Audit: which of the good images are unlike the rest, and are worth a look before they are learned."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from pydantic import JsonValue

from patchcore.data.reading import Reading
from patchcore.data.resolve import Images, resolve
from patchcore.data.sample import Sample
from patchcore.detector import Detector
from patchcore.errors import DataError, UsageError
from patchcore.model.fitted import Fitted
from patchcore.oversight.looks import copies, looks, remarks
from patchcore.pipeline.copies import digests
from patchcore.recipe.recipe import Recipe

# docs/decisions/0021 has the sets that this was chosen on.
_UNLIKE, _LEAST = 3.5, 0.01  # usual deviations of the logarithm of a score; the least that counts as usual


@dataclass(frozen=True)
class Audited:
    """A good image, and what is worth a look about it.

    Attributes:
        sample: The image.
        rank: 1 for the most unusual one.
        score: How unlike the other images it is: its score against a bank that has not seen it. NaN for a copy.
        unlike: That as a multiple of the median of all.
        remarks: What is unlike the others, for people; none where nothing is.
    """

    sample: Sample
    rank: int
    score: float
    unlike: float
    remarks: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.sample.name

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain JSON values, as `patchcore audit --json` prints them."""
        score, unlike = (None if math.isnan(value) else value for value in (self.score, self.unlike))
        return {"rank": self.rank, "path": self.name, "score": score, "unlike": unlike, "remarks": list(self.remarks)}


@dataclass(frozen=True)
class Audit:
    """All good images, the most unusual one first.

    Attributes:
        images: The images.
        detector: Fitted on all of them.
    """

    images: tuple[Audited, ...]
    detector: Detector

    @property
    def suspects(self) -> tuple[Audited, ...]:
        """Those that something is remarked about."""
        return tuple(one for one in self.images if one.remarks)


def audit(
    images: Images,
    *,
    test: Images | None = None,
    recipe: Recipe | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    reading: Reading | None = None,
    progress: bool = False,
) -> Audit:
    """What is worth a look among good images, before they are learned.

    Each image is scored against a bank of the others (in folds, as `fit` does for its threshold). Beside it: copies and
    near-copies, also between these images and those of `test`; images of another part; and those whose size, colour,
    light, sharpness or turn is unlike that of the others. Errors: DataError, ImageError, UsageError.

    Args:
        images: What `fit` takes.
        test: Images that the detector is to be tested with, to find leaks.
        recipe: How images are looked at: a Recipe or the name of one.
        device, threads: As for Detector.
        reading: How images are read.
        progress: Show progress bars.

    >>> from patchcore import audit
    >>> audit("tests/images/hazelnut/train/good", recipe="fast").images[0].rank
    1
    """
    recipe = Recipe.of(recipe)
    samples = list(resolve(images, learning=True).samples)
    detector = Detector(recipe.replace(calibration="folds"), device=device, threads=threads)
    detector.fit(samples, reading=reading, progress=progress)
    reading = replace(Reading.of(reading), threads=Reading.of(reading).threads or threads, on_bad=lambda _: None)
    seen = looks(samples, reading, recipe.value_range)
    told = remarks(seen)
    for name, why in copies(seen).items():
        told[name].append(f"copy: {why}")
    if test is not None:
        tested = looks((one for one in resolve(test).samples if one.name not in told), reading, recipe.value_range)
        for name, why in copies(seen, tested).items():
            told[name].append(f"leak: {why}, a test image")
    scores, foreign = _unlike(detector.fitted, {one.digest: one.name for one in reversed(seen)})
    usual = statistics.median(scores.values())
    above = {name: math.log(max(value, 1e-9) / max(usual, 1e-9)) for name, value in scores.items()}
    deviation = max(_LEAST, 1.4826 * statistics.median(map(abs, above.values())))
    for name, value in scores.items():
        if foreign.get(name, 0.0) > 1:
            told[name].append(f"another part: {foreign[name]:.2f} times as far from the others as one that shows it")
        if above[name] > _UNLIKE * deviation:
            told[name].append(f"unlike the rest: {value / usual:.2f} times the usual score")
    found = sorted((one for one in samples if one.name in told), key=lambda one: -scores.get(one.name, -1.0))
    each = [(one, scores.get(one.name, math.nan)) for one in found]
    return Audit(
        tuple(Audited(one, n, own, own / usual, tuple(told[one.name])) for n, (one, own) in enumerate(each, 1)),
        detector,
    )


def _unlike(fitted: Fitted, names: Mapping[bytes, str]) -> tuple[dict[str, float], dict[str, float]]:
    """Of each image the score that set the threshold; and how far it is from all others as a whole, as a share of the
    gate's limit. `names`: of samples, by their digests. Errors: DataError where there are too few to compare."""
    calibration, album, gate = fitted.calibration, fitted.album, fitted.gate
    assert album.sha256 is not None
    if not calibration.scores:
        raise DataError("There are too few images to compare: an audit needs good images of at least two parts.")
    own = {name: names[bytes(digest)] for name, digest in zip(fitted.images, album.sha256.numpy(), strict=True)}
    scores = {own[name]: value for name, value in zip(calibration.images, calibration.scores, strict=True)}
    if gate is None or album.means is None or len(album.means) < 2:
        return scores, {}
    apart = torch.cdist(gate.means, gate.means).fill_diagonal_(torch.inf).amin(1) / gate.limit
    return scores, {own[name]: float(value) for name, value in zip(fitted.images, apart, strict=True)}


def without_suspects(
    detector: Detector,
    images: Images,
    share: float,
    *,
    memory: int | str | None = None,
    reading: Reading | None = None,
    progress: bool = False,
) -> tuple[list[Sample], tuple[str, ...]]:
    """The images without the most unusual share of them, and the names of those; to fit on. Errors: as for `audit`.

    `detector`: says how images are looked at; it is fitted on all of them, in folds, on the way.
    """
    whole = Detector(
        detector.recipe.replace(calibration="folds"), device=str(detector.device), threads=detector.threads
    )
    samples = list(resolve(images, learning=True).samples)
    whole.fit(samples, memory=memory, thumbnails=False, reading=reading, progress=progress)
    own, calibration = whole.fitted, whole.fitted.calibration
    count = _count(share, len(calibration.scores))
    order = sorted(range(len(calibration.scores)), key=lambda number: -calibration.scores[number])[:count]
    names = tuple(calibration.images[number] for number in order)
    assert own.album.sha256 is not None
    left = {bytes(digest) for name, digest in zip(own.images, own.album.sha256.numpy(), strict=True) if name in names}
    kept = [
        one
        for one, digest in zip(samples, digests(samples, Reading.of(reading)), strict=True)
        if not isinstance(digest, bytes) or digest not in left
    ]
    return kept, names


def _count(share: float, images: int) -> int:
    """How many images a share is. Errors: UsageError."""
    if not 0 <= share < 0.5:
        raise UsageError(
            f"reject_suspects is {share}; it must be at least 0 and less than 0.5: most images must be good."
        )
    return round(share * images)
