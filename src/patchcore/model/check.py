"""What a model file says, checked: its header, recipe and tensors belong together, before anything is built of them.

A file that comes from somewhere else may say anything, its hash in order. What passes here can be built and searched;
what does not is an error of `file.of_file`, which names the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, InstanceOf
from torch import Tensor

from patchcore.backbones import libraries
from patchcore.errors import StoreError, validated
from patchcore.maths import registration
from patchcore.maths.embedding import pooled_channels
from patchcore.memory.bank import LEARNED
from patchcore.model.album import Album
from patchcore.model.chain import broken
from patchcore.model.fitted import Measured, Reference
from patchcore.model.store import Header, Spec
from patchcore.recipe.recipe import Recipe
from patchcore.recipe.roi import Roi
from patchcore.recipe.rules import AUTO, OF_ALL
from patchcore.verdict import calibration

_LARGEST = 1e15  # of a value in a bank: the square of a distance stays far below float32's 3e38
_FLOATS = ("F16", "F32")
_PAST = re.compile(r"^past\.\d{1,6}\.(?=members\.|bank\.|images\.)")
_MEMBER = re.compile(r"^members\.\d{1,3}\.(?=bank\.|weights\.)")
# Of the tensors of a bank and an album: types and numbers of axes.
_TENSORS: dict[str, tuple[tuple[str, ...], int]] = {
    "bank.rows": (_FLOATS, 2),
    "bank.origins": (("I32",), 2),
    "bank.scales": (("F32",), 1),
    "bank.lists": (("F32",), 2),
    "bank.codebooks": (("F32",), 3),
    "bank.list_of_row": (("I32",), 1),
    "bank.codes": (("U8",), 2),
    "bank.order": (("I32",), 1),  # this and the next one only of earlier versions
    "images.order": (("I32",), 1),
    "images.sha256": (("U8",), 2),
    "images.shapes": (("I32",), 2),
    "images.thumbnails": (("U8",), 2),
    "images.motions": (("F32",), 2),
    "images.means": (("F16",), 2),
    "reference.grey": (("U8",), 2),
}

_Text = Annotated[str, Field(strict=True, max_length=100_000)]
_Score = Annotated[float, Field(strict=True, ge=0, le=1e38)]
_Look = Annotated[float, Field(strict=True, ge=0, le=1e5)]
_Rate = Annotated[float, Field(strict=True, gt=0, lt=1)]
_Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
_Mean = Annotated[float, Field(strict=True, ge=-1e6, le=1e6)]
_Deviation = Annotated[float, Field(strict=True, ge=1e-6, le=1e6)]
_Share = Annotated[float, Field(strict=True, ge=-1, le=1)]
_Unit = Annotated[float, Field(strict=True, ge=1e-30, le=1e30)]
_Side = Annotated[int, Field(strict=True, gt=0, le=2**31)]
_Digest = Annotated[str, Field(strict=True, pattern="^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, title="what this version of patchcore writes; copy the file again")


class _Source(_Part):
    architecture: _Text
    weights: _Text
    licence: _Text
    mean: tuple[_Mean, _Mean, _Mean] = libraries.IMAGENET_MEAN
    std: tuple[_Deviation, _Deviation, _Deviation] = libraries.IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


class _Backbone(_Part):
    source: _Source
    sha256: _Digest
    taps: tuple[_Text, ...]
    channels: tuple[_Count, ...]


class _Rows(_Part):
    rows: _Count
    dimensions: _Count


class About(_Part):
    """What the header says of a member."""

    backbone: _Backbone
    bank: _Rows
    unit: _Unit = 1.0

    @property
    def source(self) -> libraries.Source:
        return libraries.Source(**self.backbone.source.model_dump())


class _Images(_Part):
    images: tuple[InstanceOf[str], ...]  # names of files need not be Unicode


class _Defects(_Part):
    scores: Annotated[tuple[_Score, ...], Field(min_length=1)]
    miss_rate: _Rate
    threshold: _Score
    enough: Annotated[bool, Field(strict=True)]
    confidence: _Rate | None = None
    images: tuple[InstanceOf[str], ...] = ()
    parts: tuple[InstanceOf[str], ...] = ()


class _Calibration(_Part):
    scores: tuple[_Score, ...]
    map_maxima: tuple[_Score, ...]
    false_reject_rate: _Rate
    threshold: _Score | None
    pixel_threshold: _Score | None
    enough: Annotated[bool, Field(strict=True)]
    images: tuple[InstanceOf[str], ...] = ()  # files of earlier versions lack this and what follows
    parts: tuple[InstanceOf[str], ...] = ()
    crossed: Annotated[bool, Field(strict=True)] = False
    confidence: _Rate | None = None
    patches: tuple[tuple[_Score, _Score], ...] = ()
    unsure: _Rate | None = None
    lower_threshold: _Score | None = None
    defects: _Defects | None = None
    looks: tuple[tuple[_Look, _Look, _Look, _Look, _Look], ...] = ()


class _Data(_Part):
    images: _Count
    sha256: _Text
    red_blue: tuple[_Share, _Share] | None = None  # files of earlier versions lack this and what follows
    light: Annotated[float, Field(strict=True, ge=0, le=1e30)] | None = None
    arrangement: Annotated[float, Field(strict=True, ge=0, le=1e30)] | None = None
    rejected: tuple[InstanceOf[str], ...] = ()


class _Reference(_Part):
    source: tuple[_Side, _Side]
    limit: Annotated[float, Field(strict=True, ge=0, le=10)]


class _Whole(_Part):
    recipe: dict[str, Any]
    bank: _Images
    calibration: _Calibration
    data: _Data
    versions: dict[str, _Text]
    history: tuple[dict[str, Any], ...] = ()
    members: Annotated[list[dict[str, Any]], Field(max_length=100)] = []
    area_units: Annotated[tuple[_Unit, ...], Field(max_length=100)] = ()
    reference: _Reference | None = None
    gate_limit: _Unit | None = None


class Checked(_Part):
    """A header that can be used."""

    recipe: Recipe
    abouts: tuple[About, ...]
    calibration: calibration.Calibration
    images: tuple[InstanceOf[str], ...]
    fingerprint: str
    red_blue: tuple[float, float] | None
    measured: Measured
    history: tuple[dict[str, Any], ...]
    units: tuple[float, ...]
    source: tuple[tuple[int, int], float] | None  # of the reference: its image's size, and the limit
    gate_limit: float | None
    rejected: tuple[InstanceOf[str], ...]
    album: InstanceOf[Album] = Album()  # from the tensors
    reference: InstanceOf[Reference] | None = None  # likewise


def specs(found: Mapping[str, Spec]) -> None:
    """Names, types and shapes of all tensors, before they are read. Errors: ValueError."""
    for name, (kind, shape) in found.items():
        own = _MEMBER.sub("", _PAST.sub("", name))
        if own.startswith("weights."):
            continue
        if own not in _TENSORS or (own.endswith(".order") and not name.startswith("past.")):
            raise ValueError(f"it holds a tensor {name[:100]!r}, which no detector has")
        kinds, axes = _TENSORS[own]
        if kind not in kinds or len(shape) != axes or 0 in shape:
            raise ValueError(f"{name} is {kind} {list(shape)}; expected {' or '.join(kinds)} with {axes} axes")


def header(path: object, head: Header) -> Checked:
    """The header of a file, each part of a right kind and in range. Errors: StoreError, RecipeError."""
    whole = validated(_Whole, head, path, StoreError)
    # Beside members, files keep the defaults that the other fields had when they were written.
    own = set(Recipe.model_fields) - set(OF_ALL) if whole.recipe.get("members") else set[str]()
    if (wrong := broken(whole.history)) is not None:
        raise StoreError(f"entry {wrong + 1} of its history is not what it was when it was written")
    recipe = Recipe(**_complete({name: value for name, value in whole.recipe.items() if name not in own}))
    if undecided := [name for one in recipe.each for name in (*AUTO, "roi") if getattr(one, name) == "auto"]:
        raise StoreError(f"its recipe leaves {undecided[0]} to be decided, which is done before a model is written")
    areas = len(recipe.roi.areas) if isinstance(recipe.roi, Roi) else 1
    if len(whole.area_units) != (areas if areas > 1 else 0):
        raise StoreError(f"it has units of {len(whole.area_units)} areas, and its recipe {areas}")
    given = whole.members if recipe.members else [head]
    if len(given) != len(recipe.each):
        raise StoreError(f"its header describes {len(given)} members, and its recipe {len(recipe.each)}")
    abouts = tuple(validated(About, one, path, StoreError) for one in given)
    limits = whole.calibration
    if len(limits.scores) != len(limits.map_maxima):
        raise StoreError("its calibration has not as many scores as maxima of maps")
    if any(
        len(names) not in (0, len(limits.scores))
        for names in (limits.images, limits.parts, limits.patches, limits.looks)
    ):
        raise StoreError("its calibration has not as many names of images or parts, patch scores, or looks, as scores")
    if (lower := limits.lower_threshold) is not None and not (
        limits.threshold is not None and lower <= limits.threshold
    ):
        raise StoreError(f"its lower threshold is {lower}, and its threshold {limits.threshold}, which is not above it")
    if limits.defects and any(
        len(n) not in (0, len(limits.defects.scores)) for n in (limits.defects.images, limits.defects.parts)
    ):
        raise StoreError("its calibration has not as many names of defective images or parts as scores of them")
    thresholds = calibration.Calibration.from_dict(limits.model_dump())
    return Checked.model_construct(
        recipe=recipe,
        abouts=abouts,
        calibration=thresholds,
        images=whole.bank.images,
        fingerprint=whole.data.sha256,
        red_blue=whole.data.red_blue,
        measured=Measured(whole.data.light, whole.data.arrangement),
        history=whole.history,
        units=whole.area_units,
        source=whole.reference and (whole.reference.source, whole.reference.limit),
        gate_limit=whole.gate_limit,
        rejected=whole.data.rejected,
    )


def _complete(recipe: dict[str, Any]) -> dict[str, Any]:
    """With the fields that files of earlier versions lack, as they were then."""
    if isinstance(members := recipe.get("members"), list) and members:
        members = [_complete(one) if isinstance(one, dict) else one for one in members]
        return {"calibration": "held_out", "near_copies": "apart", "gate": "none", **recipe, "members": members}
    return {"min_rows": 1, "calibration": "held_out", "near_copies": "apart", "gate": "none", **recipe}


def gate(checked: Checked, album: Album) -> None:
    """Whether the means of the training images' patches are those that the gate needs. Errors: StoreError."""
    if album.tensors() and (album.means is None) != (checked.gate_limit is None):
        raise StoreError("it has means of images for a gate and no limit for it, or a limit and no means")
    wide = checked.abouts[0].bank.dimensions
    if album.means is not None and (album.means.shape[1] != wide or not bool(album.means.isfinite().all())):
        raise StoreError(f"images.means has shape {list(album.means.shape)}, or infinite values; a patch has {wide}")


def reference(checked: Checked, grey: Tensor | None) -> Reference | None:
    """What images are brought to, if the recipe says so. Errors: StoreError."""
    wanted = checked.recipe.registration != "none"
    if (checked.source is not None) != wanted or (grey is not None) != wanted:
        raise StoreError(
            f"its recipe has registration={checked.recipe.registration!r}, and it lacks or has a reference"
        )
    if checked.source is None or grey is None:
        return None
    height, width = grey.shape
    expected = registration.small_size(checked.source[0])
    if (height, width) != expected:
        raise StoreError(
            f"reference.grey has {height} x {width} pixels; of an image of {checked.source[0]}, {expected}"
        )
    return Reference(grey, *checked.source)


def member(about: About, recipe: Recipe, tensors: Mapping[str, Tensor], images: int) -> None:
    """Whether the tensors of a member are what its header and its recipe say. Errors: StoreError."""
    missing = [name for name in ("bank.rows", "bank.origins", "bank.scales") if name not in tensors]
    if missing:
        raise StoreError(f"it holds no tensor {missing[0]!r}")
    rows, origins, scales = tensors["bank.rows"], tensors["bank.origins"], tensors["bank.scales"]
    wide = dimensions(recipe, about.backbone.channels)
    for what, got, expected in (
        ("rows of the bank", tuple(rows.shape), (about.bank.rows, about.bank.dimensions)),
        ("values of a row", rows.shape[1], wide),
        ("origins", tuple(origins.shape), (len(rows), 4 if origins.shape[1] == 4 else 3)),
        ("scales", len(scales), rows.shape[1]),
        ("taps", len(about.backbone.taps), len(recipe.taps)),
        ("channels", len(about.backbone.channels), len(recipe.taps)),
    ):
        if got != expected:
            raise StoreError(f"{what}: {got}, where the rest of the file makes it {expected}")
    _approximate(recipe, tensors)
    lowest, highest = origins.amin(0).tolist(), origins.amax(0).tolist()
    limits = [images, 2**31, 2**31, len(recipe.augment) + 1]
    if min(lowest) < -1 or any(top >= limit for top, limit in zip(highest, limits, strict=False)):
        raise StoreError(f"the origins of its rows go from {lowest} to {highest}, and there are {images} images")
    for name, tensor in tensors.items():
        if name.startswith("weights."):
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise StoreError(f"{name} holds values that are no finite numbers")
        elif tensor.is_floating_point() and not bool((tensor.abs() <= _LARGEST).all()):  # NaN is not
            raise StoreError(f"{name} holds values beyond {_LARGEST:g}, or that are no numbers")
    if bool((scales < 0).any()):
        raise StoreError("bank.scales holds values below 0")


def _approximate(recipe: Recipe, tensors: Mapping[str, Tensor]) -> None:
    """What an approximate search has learned of the rows, if it is there. Errors: StoreError."""
    there = [name for name in LEARNED if name in tensors]
    if not there:
        return
    if recipe.search == "exact" or len(there) < len(LEARNED):
        raise StoreError(
            f"it holds {', '.join(there)} for search={recipe.search!r}; expected all of {LEARNED}, or none"
        )
    (m, d), (lists, books, where, codes) = tensors["bank.rows"].shape, (tensors[name] for name in LEARNED)
    if (
        lists.shape != (len(lists), d)
        or books.shape != (codes.shape[1], 256, d // codes.shape[1])
        or d % codes.shape[1]
        or len(codes) != m
        or len(where) != m
        or int(where.min()) < 0
        or int(where.max()) >= len(lists)
    ):
        raise StoreError(f"what its search has learned does not fit a bank of {m} rows with {d} values")


def dimensions(recipe: Recipe, channels: tuple[int, ...]) -> int:
    """Values of a patch, from the channels of the taps."""
    if recipe.merge == "bins":
        return recipe.bins
    return sum(pooled_channels(channels * len(recipe.scales), recipe.pool, recipe.tap_bins))
