"""Recipe: every choice that defines a detector, as frozen data."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from patchcore.errors import RecipeError, explain_fields, nearest_name
from patchcore.files import from_json
from patchcore.maths.augmentation import Augmentation
from patchcore.recipe import rules
from patchcore.recipe.rules import OF_ALL, Count, Level, Near, Side, Tap, Text, Width, fields_of, sides


class Recipe(BaseModel):
    """Every choice that defines a detector. Frozen, and saved with it.

    Two recipes that are equal, given the same images on the same machine, make the same detector.
    `Recipe()` is the default one; `Recipe.named(name)` gives the others. Errors: RecipeError.

    >>> recipe = Recipe(size=320, ratio=0.05)
    >>> recipe.replace(neighbours=3) == recipe.set("neighbours=3")
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    # Images
    size: Side | tuple[Side, Side] = Field(
        default=256,
        description="Size in pixels that `resize` brings an image to: a side, or (height, width). A side has at most "
        "65,536 pixels, and what the network reads, at the largest of `scales`, at most 2**28.",
    )
    resize: Literal["area", "stretch", "short_side", "letterbox"] = Field(
        default="area",
        description="`area` keeps the proportions and gives the image the area of `size`; `stretch` changes the "
        "proportions to those of `size`; `short_side` brings the shorter side to `size`, and then cuts the "
        "centre if `crop` is set; `letterbox` fits the whole image into `size`, its padding left out of the "
        "bank and of every score.",
    )
    crop: Side | None = Field(
        default=None,
        description="With `short_side`: side of the square cut from the centre. None keeps the whole image.",
    )
    value_range: tuple[Level, Level] | None = Field(
        default=None,
        description="Pixel values that stand for black and white. None: 0-255 for uint8, 0-65535 for uint16, "
        "0-1 for float. State it for 12-bit images in 16-bit files, and for other float images.",
    )
    interpolation: Literal["weights", "bilinear", "bicubic"] = Field(
        default="weights",
        description="Kernel of the resize, always antialiased: what the weights were trained with, or stated.",
    )
    exposure: Literal["auto", "as_is", "even"] = Field(
        default="auto",
        description="`even` brings every image to one brightness and contrast; `as_is` leaves them, where a part that "
        "is too dark or too bright as a whole is a defect. `auto`: `fit` takes `even` if light varies between good "
        "images more than their content explains, else `as_is`.",
    )
    tile: Side | tuple[Side, Side] | None = Field(
        default=None,
        description="Side, or (height, width), of the tiles in which the network reads the resized image, in pixels "
        "of its input: for a `size` that is too large to be read at once. Their taps are joined on the full grid. A "
        "multiple of the taps' strides. None reads it whole.",
    )
    tile_stride: Side | tuple[Side, Side] | None = Field(
        default=None,
        description="With `tile`: step from one tile to the next, in the same pixels; tiles that overlap fade into "
        "each other. None: the side of a tile, so that they touch.",
    )

    # Backbone
    backbone: Text = Field(
        default="efficientnet_lite0",
        description="`efficientnet_lite0`, `_lite1`, `_lite2` (offline weights), any timm name with or without a "
        "tag, `torchvision:NAME`, or `module` for a network given to `Detector`.",
    )
    weights: Text = Field(
        default="pretrained",
        description="`pretrained`, `random` (drawn from `seed`), or the path of a local weights file.",
    )
    taps: tuple[Tap, ...] = Field(
        default=(8, 16),
        min_length=1,
        max_length=256,
        description="Layers to read: module names in dot notation, or strides. 8 and 16 stand for a ResNet's "
        "layer2 and layer3. The first one gives the grid.",
    )

    # Embedding
    scales: tuple[Annotated[float, Field(gt=0, le=4)], ...] = Field(
        default=(1.0,),
        min_length=1,
        max_length=64,
        description="Sizes, as shares of `size`, at which the network sees each image; their taps are joined on "
        "the grid of the first, which must be 1.",
    )
    # Neighbourhoods are unfolded in memory, each of them as many cells as its side squared.
    patch_size: Annotated[int, Field(gt=0, le=255)] = Field(
        default=3, description="Side of the pooled neighbourhood, in cells; odd, at most 255."
    )
    patch_stride: Side = Field(default=1, description="Step between patches, in cells of the first tap.")
    pool: Literal["auto", "mean", "quarters", "bins"] = Field(
        default="auto",
        description="How a neighbourhood is pooled: its `mean`; `quarters`, on the first tap the means of its four "
        "quarters, which keep its arrangement; or all its values averaged into `tap_bins`. `auto`: `fit` takes "
        "`quarters`, or `mean` where good images do not tell the arrangement in others, as on rough surfaces.",
    )
    pool_border: Literal["zeros", "inside"] = Field(
        default="zeros",
        description="At the border, count the zero padding in the mean, which makes border patches, the least "
        "reliable ones, weigh less; or only what is `inside`.",
    )
    align: Literal["bilinear", "nearest"] = Field(default="bilinear", description="How deeper taps come to the grid.")
    merge: Literal["concat", "bins"] = Field(
        default="concat", description="How taps are joined: side by side, or averaged into `bins` values."
    )
    # A patch of 65,536 values takes 128 kB in the bank; the widest networks have some thousand channels.
    tap_bins: Width = Field(default=1024, description="With `pool=bins`: values per tap, at most 65,536.")
    bins: Width = Field(default=1024, description="With `merge=bins`: values per patch, at most 65,536.")
    scaling: Literal["auto", "none", "taps", "channel"] = Field(
        default="auto",
        description="`taps`: weigh each tap by how well patches of some good images foretell those of others; "
        "`channel`: divide each value of a patch by its standard deviation. `auto`: `taps` where arrangement tells.",
    )

    # Memory bank
    augment: tuple[Augmentation, ...] = Field(
        default=(),
        description="Augmented copies of each training image whose patches are remembered beside its own: `flip_h` "
        "(left and right exchanged), `flip_v`, `rotate_90`, `rotate_180`, `rotate_270`, `transpose`, `transverse`. "
        "`ratio`, `min_rows` and `max_rows` count their patches too; held-out and new images are never changed.",
    )
    coreset: Literal["k_center", "merge", "random", "identity"] = Field(
        default="k_center",
        description="How patches are chosen: exact greedy k-center; the same over shards and then over what they "
        "gave, which needs less memory; at random; or all of them.",
    )
    ratio: float = Field(default=0.02, gt=0, le=1, description="Share of the training patches that the bank keeps.")
    min_rows: Count = Field(default=2048, description="The fewest rows that it keeps, if there are so many patches.")
    max_rows: Count = Field(default=50_000, description="The most rows that the bank keeps, whatever `ratio` says.")
    projection: Literal["none", "dense", "sparse"] = Field(
        default="dense",
        description="Random projection for the selection alone: none, dense to `projection_dims`, or sparse.",
    )
    projection_dims: Width = Field(
        default=128, description="With `projection=dense`: number of dimensions, at most 65,536."
    )
    projection_from: Count = Field(default=512, description="Patches of fewer values than this are not projected.")
    start: Literal["first", "random", "mean_of_ten"] = Field(
        default="first",
        description="What the selection starts from: the first patch, a random one, or ten distances' mean.",
    )

    # Scores
    search: Literal["exact", "ivf_pq"] = Field(
        default="exact",
        description="How nearest bank rows are found: exactly, or by FAISS's IVF-PQ for very large banks.",
    )
    neighbours: Near = Field(
        default=1, description="Bank rows whose distances are averaged into a patch score, at most 10,000."
    )
    distance: Literal["l2", "squared_l2"] = Field(default="l2", description="Euclidean distance, or its square.")
    image_score: Literal["max", "reweighted", "top_share"] = Field(
        default="top_share", description="The highest patch score, eq. 7 of the paper, or the mean of the top share."
    )
    reweight_neighbours: Near = Field(
        default=9, description="With `reweighted`: b, the bank rows around the nearest one, at most 10,000."
    )
    top_share: float = Field(default=0.01, gt=0, le=1, description="With `top_share`: the share of the patches.")

    # Anomaly map
    upsample: Literal["bilinear", "nearest"] = Field(default="bilinear", description="From the grid to pixels.")
    sigma: float = Field(
        default=4.0,
        ge=0,
        le=1000,
        description="Smoothing, in pixels of the network's input; at most 1,000, where a map is flat.",
    )
    map_border: Literal["mirror", "symmetric"] = Field(
        default="symmetric", description="Reflection at the map's border: without or with the outermost pixel repeated."
    )

    # Verdict
    calibration_share: float = Field(
        default=0.2, ge=0, lt=1, description="Share of the good images kept out of the bank, to set the threshold."
    )
    false_reject_rate: float = Field(
        default=0.05, gt=0, lt=1, description="Probability that a good image fails, for which the threshold is set."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="For everything that is drawn.")

    # Ensemble
    members: tuple[Recipe, ...] = Field(
        default=(),
        max_length=100,
        description="Two or more recipes, or names of recipes, whose patch scores are joined: each divided by its "
        "standard deviation over held-out good images, brought to the first one's grid, and averaged. The first "
        "also says how image score and map are made. Only `value_range`, `calibration_share`, `false_reject_rate` "
        "and `seed` are set beside it, for all members; everything else in them.",
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

    @classmethod
    def named(cls, name: str) -> Recipe:
        """One of the named recipes (see `names`). Errors: RecipeError."""
        known = _named()
        if not isinstance(name, str) or name not in known:
            near = nearest_name(str(name), known)
            raise RecipeError(f"There is no recipe {name!r}.{near} Known: {', '.join(known)}.")
        return cls(**known[name]["fields"])

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
        """The same recipe with `field=value` strings applied; values are JSON, plain words, or None as in Python."""
        fields: dict[str, Any] = {}
        for assignment in assignments:
            name, equals, value = assignment.partition("=")
            if not equals:
                raise RecipeError(f"{assignment!r} sets nothing; expected field=value, for example ratio=0.05.")
            name, value = name.strip(), value.strip()
            try:
                fields[name] = None if value == "None" else from_json(value)
            except ValueError:
                fields[name] = value
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
