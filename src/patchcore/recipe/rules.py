"""Rules: what the numbers of a recipe may be, which of its fields fit together, and what its file is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from patchcore.errors import RecipeError
from patchcore.files import as_path, contents, from_json

if TYPE_CHECKING:
    from patchcore.recipe.recipe import Recipe

# Fields that all members share.
OF_ALL = (
    "members", "registration", "roi", "value_range", "mm_per_pixel", "min_region", "region_gap",
    "calibration", "calibration_share", "near_copies", "false_reject_rate", "confidence", "unsure", "gate", "seed",
)  # fmt: skip
AUTO = ("exposure", "size", "pool", "scaling")  # fields of a member that fit decides where they are "auto"
SIZE, SMALLER = 320, 256  # what `size` can become where it is "auto"; the first until it is known
# Every number has an upper bound, far beyond what is of use, so that a slip of the pen or a hostile file is refused
# before any work or memory goes into it. Counts that are only compared with others may be as large as such a count.
Count = Annotated[int, Field(gt=0, lt=2**63)]
Side = Annotated[int, Field(gt=0, le=65_536)]  # no file of an image has more pixels a side: JPEG has 65,535
Width = Annotated[int, Field(gt=0, le=65_536)]
Near = Annotated[int, Field(gt=0, le=10_000)]  # for each patch of an image so many rows are kept in memory
Text = Annotated[str, Field(max_length=4096)]  # the longest path on Linux
Tap = Annotated[int, Field(gt=0, le=65_536)] | Text
Level = Annotated[float, Field(ge=-1e30, le=1e30)]  # its square still fits a float32 ratio

_MOST_PIXELS = 2**28
_LARGEST = 1 << 24  # bytes of a recipe file; a hundred members have some 100,000


def check_by_name(unnamed: tuple[object, ...]) -> None:
    """Errors: RecipeError for values that are given without the names of their fields."""
    if unnamed:
        raise RecipeError(
            f"Recipe got {unnamed[0]!r} without the name of a field. Give fields by name, as in Recipe(size=320), or "
            "take a recipe that has a name: Recipe.named('fast')."
        )


def check_together(recipe: Recipe) -> None:
    """Errors: ValueError, which says what does not fit."""
    crop, size, tile, tile_stride = recipe.crop, recipe.size, recipe.tile, recipe.tile_stride
    short, value_range = recipe.resize == "short_side", recipe.value_range
    pixels = max(recipe.scales) ** 2 * math.prod(recipe.window)
    for wrong, text in (
        (recipe.patch_size % 2 == 0, f"patch_size is {recipe.patch_size}; it must be odd"),
        (crop is not None and not short, f"crop needs resize='short_side', not {recipe.resize!r}"),
        (
            len(set(recipe.augment)) < len(recipe.augment),
            f"augment is {list(recipe.augment)}; give each augmentation once",
        ),
        (recipe.scales[0] != 1, f"scales is {list(recipe.scales)}; the first must be 1"),
        (short and isinstance(size, tuple), f"resize='short_side' takes one side as size, not {size}"),
        (
            crop is not None and crop > sides(size)[0],
            f"crop is {crop}, larger than the short side, {sides(size)[0]}",
        ),
        (
            value_range is not None and value_range[0] >= value_range[1],
            f"value_range is {value_range}; the first value must be the smaller",
        ),
        (
            value_range is not None and 0 < value_range[1] - value_range[0] < 1e-30,
            f"value_range is {value_range}; float32 needs the values to be at least 1e-30 apart",
        ),
        (
            pixels > _MOST_PIXELS,
            f"the network's input would have {pixels:.0f} pixels; it can have at most {_MOST_PIXELS} (16,384 x "
            "16,384), which are 3 GB. Choose a smaller size or scale",
        ),
        (tile_stride is not None and tile is None, f"tile_stride is {tile_stride}, and there is no tile; set both"),
        (
            recipe.tiles is not None and any(step > side for side, step in zip(*recipe.tiles, strict=True)),
            f"tile_stride is {tile_stride}, larger than tile, {tile}: parts would be left out",
        ),
    ):
        if wrong:
            raise ValueError(text)
    if recipe.members:
        _check_members(recipe)


def _check_members(recipe: Recipe) -> None:
    if len(recipe.members) == 1:
        raise ValueError("members has 1 recipe; an ensemble has two or more")
    default = {name: field.default for name, field in type(recipe).model_fields.items()}
    for name, value in default.items():
        if name not in OF_ALL and getattr(recipe, name) != value:
            raise ValueError(f"{name} is {getattr(recipe, name)!r}; with members, set it in each of them instead")
    for number, member in enumerate(recipe.members, 1):
        if member.members:
            raise ValueError(f"member {number} has members itself; list them all in one recipe")
        if (first := recipe.members.index(member) + 1) < number:
            raise ValueError(f"members {first} and {number} are the same recipe; leave one of them out")
        if member.backbone == "module":
            raise ValueError(f"member {number} has backbone='module'; a network of your own cannot be a member")
        for name in OF_ALL[1:]:
            own, value = getattr(member, name), getattr(recipe, name)
            if own not in (default[name], value):
                raise ValueError(
                    f"member {number} has {name}={own!r}, and the whole {value!r}; it is one for all members: set "
                    f"{name} beside `members`"
                )


def sides(size: int | tuple[int, int] | Literal["auto"]) -> tuple[int, int]:
    """(height, width) of a side or of both."""
    if size == "auto":
        return SIZE, SIZE
    return size if isinstance(size, tuple) else (size, size)


def fields_of(path: str | Path) -> dict[str, Any]:
    """What a recipe file says. Errors: RecipeError, if that is no JSON object."""
    try:
        fields = from_json(contents(as_path(path, "a recipe file"), _LARGEST))
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise RecipeError(f"The recipe file {path} cannot be read: {reason}. Expected JSON.") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"The recipe file {path} holds a {type(fields).__name__}; expected an object.")
    return fields
