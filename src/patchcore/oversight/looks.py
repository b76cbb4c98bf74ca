"""Looks: what each image of a folder is as a file and a photograph, and which are unlike the others in that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchcore.data.reading import Reading
from patchcore.data.sample import Sample
from patchcore.maths.appearance import Appearance, appearance
from patchcore.maths.hashing import hamming, perceptual_hash
from patchcore.pipeline.workers import Loaded, through

# docs/decisions/0021 has the sets that these were chosen on.
_SAME = 8  # bits of 255 that hashes of one image differ by, once compressed, resized or brightened
_OUTSIDE = 8.0  # times the usual deviation from the median
_MOST = 0.9  # share of the images that must agree on a size or colour, before another one is worth a word
_TURNED = 0.25  # by how much more an image is like the others once it is turned
_FLOORS = {"brightness": 0.01, "contrast": 0.01, "sharpness": 0.02}  # least deviation that counts as usual
_WORDS = {"brightness": ("darker", "brighter"), "contrast": ("flatter", "harsher"), "sharpness": ("blurred", "sharper")}
_TURNS = {"turned by 90 degrees": 1, "upside down": 2, "turned by 270 degrees": 3}
_SIDE = 32


@dataclass(frozen=True, eq=False)
class Look:
    """An image as a file and a photograph: digest of its pixels, hash, height and width, what its pixels are, its
    light, and a small grey version (32, 32)."""

    name: str
    digest: bytes
    bits: NDArray[np.bool_]
    size: tuple[int, int]
    mode: str
    light: Appearance
    small: NDArray[np.float32]


def looks(samples: Iterable[Sample], reading: Reading, value_range: tuple[float, float] | None = None) -> list[Look]:
    """Of each image that can be read."""
    return list(through(lambda batch: [_look(one) for one in batch], samples, reading, value_range))


def _look(one: Loaded) -> Look:
    import cv2

    image = one.image
    plain = len(image) == 1 or bool((image == image[:1]).all())
    grey = np.ascontiguousarray(image.mean(0).numpy())
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
    mode = f"{'grey' if plain else 'colour'}, {one.pixels.dtype}"
    height, width = one.pixels.shape[:2]
    light = appearance(image)
    return Look(one.sample.name, one.digest, perceptual_hash(grey), (height, width), mode, light, small)


def remarks(found: Sequence[Look]) -> dict[str, list[str]]:
    """By name, in what images are unlike the others: size, colour, light, sharpness, how they are turned."""
    told: dict[str, list[str]] = {one.name: [] for one in found}
    if len(found) < 3:
        return told
    kinds = {"size": [" x ".join(map(str, one.size)) for one in found], "pixels": [one.mode for one in found]}
    for what, texts in kinds.items():
        usual, count = Counter(texts).most_common(1)[0]
        for one, text in zip(found, texts, strict=True):
            if text != usual and count >= _MOST * len(found):
                told[one.name].append(f"{what}: {text}, usually {usual}")
    for name, words in _WORDS.items():
        values = np.array([getattr(one.light, name) for one in found])
        middle = float(np.median(values))
        usual_deviation = max(1.4826 * float(np.median(np.abs(values - middle))), _FLOORS[name])
        for one, value in zip(found, values.tolist(), strict=True):
            if abs(value - middle) > _OUTSIDE * usual_deviation:
                told[one.name].append(f"{words[value > middle]}: {name} {value:.3g}, usually {middle:.3g}")
    middle_image = _even(np.median([one.small for one in found], 0))
    for one in found:
        as_is, turned = _alike(one.small, middle_image), {}
        for word, quarters in _TURNS.items():
            turned[word] = _alike(np.rot90(one.small, quarters), middle_image)
        best = max(turned, key=lambda word: turned[word])
        if turned[best] > as_is + _TURNED:
            told[one.name].append(f"{best}: {turned[best]:.2f} like the others then, {as_is:.2f} as it is")
    return told


def _even(image: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = image - image.mean()
    return np.asarray(centred / max(float(np.sqrt(np.square(centred).mean())), 1e-4), np.float32)


def _alike(image: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float((_even(image) * other).mean())


def copies(found: Sequence[Look], others: Sequence[Look] | None = None) -> dict[str, str]:
    """By name, which of others shows the same image, and how nearly; without others, an earlier one of its own."""
    against = found if others is None else others
    if not found or not against:
        return {}
    apart = hamming(np.stack([one.bits for one in found]), np.stack([one.bits for one in against]))
    told: dict[str, str] = {}
    for number, one in enumerate(found):
        own = apart[number, : number if others is None else None]
        if len(own) and own.min() <= _SAME:
            exact = next((other.name for other in against[: len(own)] if other.digest == one.digest), None)
            near = against[int(own.argmin())].name
            told[one.name] = f"the same pixels as {exact}" if exact else f"nearly the same image as {near}"
    return told
