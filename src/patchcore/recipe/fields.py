"""Fields: the choices of a recipe, one by one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from patchcore.maths.augmentation import Augmentation
from patchcore.recipe.roi import Roi
from patchcore.recipe.rules import Count, Level, Near, Side, Tap, Text, Width


class Fields(BaseModel):
    """What a `Recipe` of one network states."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    # Images
    size: Side | tuple[Side, Side] | Literal["auto"] = Field(
        default="auto",
        description="Size in pixels that `resize` brings an image to: a side, or (height, width). A side has at most "
        "65,536 pixels, and what the network reads, at the largest of `scales`, at most 2**28. `auto`: 320, or 256 "
        "where `fit` finds surfaces so rough that it would choose `pool=mean`, unless `crop`, `tile` or `members` "
        "is set.",
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
    registration: Literal["none", "shift", "rigid"] = Field(
        default="none",
        description="Before anything else, bring each image to a reference, a good image that `fit` chooses: by a "
        "`shift` of up to a quarter of each side, or `rigid`, turned by up to 30 degrees too. Where the part is not "
        "found, the verdict is `unsure`. Maps stay at the image's own place.",
    )
    roi: Roi | Literal["auto"] | None = Field(
        default=None,
        description="Region of interest: the areas that count, as polygons (docs/roi.md), of the image as it is "
        "given, or of the reference. What is outside is left out of bank, scores and maps. `auto`: the foreground "
        "that all good images share, which `fit` finds. None: the whole image.",
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

    # Regions of a defect
    mm_per_pixel: Annotated[float, Field(ge=1e-6, le=1e6)] | None = Field(
        default=None,
        description="Millimetres per pixel of the image as it is given, to measure regions in. None: pixels.",
    )
    min_region: float = Field(
        default=0, ge=0, le=1e12, description="Area below which a region is left out, but for that of the highest peak."
    )
    region_gap: float = Field(default=0, ge=0, le=1e6, description="Regions that are closer than this are one.")

    # Verdict
    calibration: Literal["folds", "held_out"] = Field(
        default="folds",
        description="Which good images set the threshold: all of them, in `folds`, each scored against a bank without "
        "the images of its fold; or a share that is `held_out` of the bank.",
    )
    calibration_share: float = Field(
        default=0.2, ge=0, lt=1, description="The share of the good images that is held out, or is a fold; 0: none."
    )
    near_copies: Literal["together", "apart"] = Field(
        default="together",
        description="Where nothing says which images show one part: `together` finds those that do, as several "
        "exposures or frames, by their patches; they stay in one fold and count as one part. `apart`: each counts.",
    )
    false_reject_rate: float = Field(
        default=0.05, ge=1e-9, lt=1, description="Probability that a good image fails, for which the threshold is set."
    )
    confidence: float | None = Field(
        default=None,
        ge=1e-9,
        le=1 - 1e-9,
        description="Confidence that the threshold keeps that rate, for example 0.95. None: it is kept on average.",
    )
    unsure: float | None = Field(
        default=None,
        ge=1e-9,
        le=1 - 1e-9,
        description="Confidence of an interval of the threshold, for example 0.95: scores inside it are `unsure`. "
        "None: no score is.",
    )
    gate: Literal["means", "none"] = Field(
        default="means",
        description="With `means`, an image whose patches are on average unlike those of every good image, as of "
        "another product or through a covered lens, is `unsure` whatever its score: it is `not this part` "
        "(docs/audit.md). `none`: no image is.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="For everything that is drawn.")
