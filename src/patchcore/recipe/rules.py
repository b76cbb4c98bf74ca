"""Rules: which fields of a recipe fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from patchcore.recipe.fields import Recipe

OF_ALL = ("members", "value_range", "calibration_share", "false_reject_rate", "seed")  # fields that all members share


def check_together(recipe: Recipe) -> None:
    """Errors: ValueError, which says what does not fit."""
    crop, size, tile, tile_stride = recipe.crop, recipe.size, recipe.tile, recipe.tile_stride
    short, value_range = recipe.resize == "short_side", recipe.value_range
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
            crop is not None and isinstance(size, int) and crop > size,
            f"crop is {crop}, larger than the short side, {size}",
        ),
        (
            value_range is not None and value_range[0] >= value_range[1],
            f"value_range is {value_range}; the first value must be the smaller",
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


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a side or of both."""
    return size if isinstance(size, tuple) else (size, size)


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, for `object_pairs_hook`: by itself JSON takes the last of several. Errors: ValueError."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is in it twice")
        found[name] = value
    return found
