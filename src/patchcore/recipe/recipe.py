"""Recipe: every choice that defines a detector, as frozen data."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import Field, JsonValue, ValidationError, model_validator

from patchcore.errors import RecipeError, explain_fields, nearest_name
from patchcore.files import from_json
from patchcore.recipe import rules
from patchcore.recipe.fields import Fields
from patchcore.recipe.rules import OF_ALL, fields_of, sides


class Recipe(Fields):
    """Every choice that defines a detector. Frozen, and saved with it.

    Two recipes that are equal, given the same images on the same machine, make the same detector.
    `Recipe()` is the default one; `Recipe.named(name)` gives the others. Errors: RecipeError.

    >>> recipe = Recipe(size=320, ratio=0.05)
    >>> recipe.replace(neighbours=3) == recipe.set("neighbours=3")
    True
    """

    members: tuple[Recipe, ...] = Field(
        default=(),
        max_length=100,
        description="Two or more recipes, or names of recipes, whose patch scores are joined: each divided by its "
        "standard deviation over held-out good images, brought to the first one's grid, and averaged. The first "
        "also says how image score and map are made. Only `registration`, `roi`, `value_range`, `mm_per_pixel`, "
        "`min_region`, `region_gap`, `calibration`, `calibration_share`, `near_copies`, `false_reject_rate`, "
        "`confidence`, `unsure`, `gate` and `seed` are set beside it, for all members; everything else in them.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> Recipe:
        rules.check_together(self)
        return self

    if not TYPE_CHECKING:  # to a type checker, the fields are the arguments

        def __init__(self, *unnamed: object, **fields: Any) -> None:
            rules.check_by_name(unnamed)
            if isinstance(members := fields.get("members"), list | tuple):
                fields["members"] = tuple(_member(number, given) for number, given in enumerate(members, 1))
            for name, value in fields.items():
                if any(isinstance(one, bool) for one in (value if isinstance(value, list | tuple) else [value])):
                    raise RecipeError(
                        f"Recipe field {name} got {value}; no field is true or false. Give a number or a word."
                    )
            try:
                super().__init__(**fields)
            except ValidationError as error:
                about = {name: field.description or "" for name, field in type(self).model_fields.items()}
                raise RecipeError(explain_fields(error.errors(), about)) from None

        def __setattr__(self, name: str, value: object) -> None:
            raise RecipeError(f"A recipe does not change; take another one: recipe.replace({name}={value!r}).")

        def model_copy(self, *, update: dict[str, Any] | None = None, deep: bool = False) -> Recipe:
            """A copy; unlike pydantic's own, one with other fields is checked. `copy.replace` calls this, too."""
            return self.replace(**update) if update else super().model_copy(deep=deep)

    @classmethod
    def named(cls, name: str) -> Recipe:
        """One of the named recipes (see `names`). Errors: RecipeError."""
        known = _named()
        if not isinstance(name, str) or name not in known:
            near = nearest_name(str(name), known)
            if str(name).endswith(".json"):
                near = f" For a file: Recipe.read({name!r})."
            raise RecipeError(f"There is no recipe {name!r}.{near} Known: {', '.join(known)}.")
        return cls(**known[name]["fields"])

    @classmethod
    def of(cls, given: Recipe | str | None) -> Recipe:
        """The recipe of that name, the default one for None, or a recipe as it is. Errors: RecipeError."""
        if given is None or isinstance(given, cls):
            return given or cls()
        if isinstance(given, str):
            return cls.named(given)
        way = "Fields: Recipe(**fields); a file: Recipe.read(path)."
        raise RecipeError(f"got {type(given).__name__}, where a recipe was expected. {way}")

    @classmethod
    def names(cls) -> dict[str, str]:
        """Name and one-line description of each named recipe."""
        return {name: one["about"] for name, one in _named().items()}

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """A recipe file: JSON, only what differs from the default, or from the recipe in `base`."""
        fields = fields_of(path)
        try:
            return cls._on_base(fields)
        except RecipeError as error:
            raise RecipeError(f"The recipe file {path}: {error}") from None

    @classmethod
    def _on_base(cls, fields: dict[str, Any]) -> Recipe:
        return cls.named(fields.get("base", "default")).replace(**{k: v for k, v in fields.items() if k != "base"})

    @classmethod
    def ensemble(cls, *recipes: Recipe) -> Recipe:
        """One recipe: the given one, or one that joins several, which must agree in what is one for all members.

        Of one that is an ensemble itself, the members join.
        """
        if len(recipes) == 1:
            return recipes[0]
        recipes = tuple(member for one in recipes for member in one.each)
        default = cls()
        shared: dict[str, Any] = {}
        for name in OF_ALL[1:]:
            values = [value for one in recipes if (value := getattr(one, name)) != getattr(default, name)]
            shared |= {name: values[0]} if values else {}
        return cls(members=recipes, **shared)

    def replace(self, **fields: object) -> Recipe:
        """The same recipe with some fields changed, checked as a new one.

        Of an ensemble, a field that is not one for all members is changed in each of them.
        """
        if self.members and "members" not in fields:
            own = {name: value for name, value in fields.items() if name not in OF_ALL}
            fields = {name: value for name, value in fields.items() if name in OF_ALL}
            fields["members"] = [member.replace(**own) for member in self.members]
        changed: dict[str, Any] = {**self.model_dump(), **fields}
        return type(self)(**changed)

    def set(self, *assignments: str) -> Recipe:
        """The same recipe with `field=value` strings applied; values are JSON, plain words, or None as in Python.

        A list may be without brackets and quotes, which a shell may take away: `augment=flip_h,rotate_180`.
        """
        fields: dict[str, Any] = {}
        for assignment in assignments:
            name, equals, value = assignment.partition("=")
            if not equals:
                raise RecipeError(f"{assignment!r} sets nothing; expected field=value, for example ratio=0.05.")
            name, value = name.strip(), value.strip()
            fields[name] = _listed(name, _value(value))
        return self.replace(**fields)

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain JSON values; `weights` without its folder, so that no machine's paths are kept."""
        data = self.model_dump(mode="json")
        return {**data, "weights": Path(self.weights).name, "members": [one.to_dict() for one in self.members]}

    def differences(self, base: Recipe | None = None) -> dict[str, JsonValue]:
        """The fields that are not as in another recipe, or as in the default one, as JSON; of members likewise."""
        own, other = (one.model_dump(mode="json") for one in (self, base or type(self)()))
        found = {name: value for name, value in own.items() if value != other[name]}
        return {**found, **({"members": [one.differences() for one in self.members]} if "members" in found else {})}

    @property
    def each(self) -> tuple[Recipe, ...]:
        """The recipe of each member, with the fields that all of them share; without members, this one."""
        shared = {name: getattr(self, name) for name in OF_ALL[1:]}
        return tuple(one.replace(**shared) for one in self.members) or (self,)

    @property
    def networks(self) -> str:
        """The backbones, for people."""
        return " + ".join(one.backbone for one in self.members or (self,))

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the network's input, for images that are square."""
        return sides(self.crop or self.size)

    @property
    def tiles(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Height and width of a tile, and of the step to the next one; None without tiles."""
        return (sides(self.tile), sides(self.tile_stride or self.tile)) if self.tile else None

    @property
    def seen(self) -> tuple[int, int]:
        """Height and width of what the network sees at once: a tile, or the window."""
        return self.tiles[0] if self.tiles else self.window


def _value(text: str) -> Any:
    try:
        return None if text == "None" else from_json(text)
    except ValueError:
        return text


def _listed(name: str, value: Any) -> Any:
    """What is one value, or several with commas between them, as a list, if the field takes one."""
    field = Recipe.model_fields.get(name)
    kinds = () if field is None else (field.annotation, *get_args(field.annotation))
    lists = [kind for kind in kinds if get_origin(kind) is tuple]
    if not lists or isinstance(value, list | dict | NoneType):
        return value
    if isinstance(value, str) and ("," in value or value.startswith("[")):
        return [_value(one.strip()) for one in value.removeprefix("[").removesuffix("]").split(",")]
    return [value] if field is not None and field.annotation in lists else value


def _member(number: int, given: Any) -> Any:
    """A member from a recipe, a name, or a dictionary of fields as in a recipe file."""
    try:
        if isinstance(given, dict):
            return Recipe._on_base(given)
        return Recipe.named(given) if isinstance(given, str) else given
    except RecipeError as error:
        raise RecipeError(f"Member {number}: {error}") from None


@cache
def _named() -> dict[str, Any]:
    """The named recipes; each states only what differs from the default."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("named.json").read_text("utf-8"))
    return found
