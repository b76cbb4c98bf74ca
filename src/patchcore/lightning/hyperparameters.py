"""Hyperparameters of anomalib v0, as a flat dict or as the sections of its files."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from patchcore.errors import UsageError, validated

_Sides = int | tuple[int, ...]


class _Network(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), title="a dict of them")

    backbone: str | None = None
    coreset_sampling_ratio: float | None = None
    input_size: _Sides | None = None
    layers: tuple[str | int, ...] | None = None
    num_neighbors: int | None = None
    pre_trained: bool | str | None = None


class _Flat(_Network):
    apply_tiling: bool | None = None
    tile_size: _Sides | None = None
    tile_stride: _Sides | None = None
    seed: int | None = None


# Further names in v0's files: for its own tools, which are not the model's, or with one value that is supported.
_TOOLS: Any = Field(None, exclude=True)


class _Model(_Network):
    early_stopping: Any = _TOOLS
    metric: Any = _TOOLS
    name: Any = _TOOLS
    normalize_scores: Any = _TOOLS
    threshold: Any = _TOOLS
    weight_file: Any = _TOOLS
    normalization_method: Literal["min_max"] | None = _TOOLS


class _Framing(BaseModel):
    model_config = ConfigDict(title="a dict of them")  # the section's other names are for reading the data

    image_size: _Sides | None = None
    center_crop: _Sides | None = None
    normalization: Literal["imagenet"] | None = Field(
        None, description="Images get the mean and standard deviation that the weights were trained with."
    )


class _Tiling(BaseModel):
    model_config = _Network.model_config

    apply_tiling: bool | None = Field(None, alias="apply")
    tile_size: _Sides | None = None
    tile_stride: _Sides | None = Field(None, alias="stride")
    random_tile_count: Any = _TOOLS
    remove_border_count: Literal[0] | None = _TOOLS
    use_random_tiling: Literal[False] | None = _TOOLS


def settings_of(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The stated arguments of `PatchcoreModel`, and `coreset_sampling_ratio`, `seed` and `image_size` if stated.

    `image_size` is what images are resized to before they are cropped to `input_size`. Errors: UsageError.
    """
    settings: dict[str, Any]
    if "model" in hparams:
        dataset, project = hparams.get("dataset") or {}, hparams.get("project") or {}
        settings = validated(_Model, hparams["model"] or {}, "Section model").model_dump(exclude_none=True)
        tiling = validated(_Tiling, dataset.get("tiling") or {}, "Section dataset.tiling")
        framing = validated(_Framing, dataset, "Section dataset")
        stated = {"input_size": framing.center_crop or framing.image_size, "seed": project.get("seed")}
        rest = validated(_Flat, stated, "Sections dataset and project")
        settings = {**rest.model_dump(exclude_none=True), **tiling.model_dump(exclude_none=True), **settings}
        if framing.center_crop is not None:
            settings["image_size"] = _uncropped(framing, settings["input_size"])
    else:
        settings = validated(_Flat, hparams, "Hyperparameters").model_dump(exclude_none=True)
    missing = [name for name in ("layers", "input_size") if name not in settings]
    if missing:
        raise UsageError(
            f"The hyperparameters have no {' and no '.join(missing)}; got {', '.join(hparams) or 'none'}. Give them "
            "flat, {'layers': ['layer2', 'layer3'], 'input_size': (224, 224)}, or in a section `model`."
        )
    settings["input_size"] = _both(settings["input_size"])
    return settings


def _uncropped(framing: _Framing, input_size: Any) -> tuple[int, int]:
    """(height, width) that images are resized to before a crop. Errors: UsageError."""
    crop = sides("dataset.center_crop", _both(framing.center_crop))
    if framing.image_size is None:
        raise UsageError(
            f"dataset.center_crop is {crop}, without dataset.image_size: state what images are resized to."
        )
    size = sides("dataset.image_size", _both(framing.image_size))
    if crop[0] > size[0] or crop[1] > size[1]:
        raise UsageError(f"dataset.center_crop is {crop}; expected at most dataset.image_size, {size}.")
    if tuple(_both(input_size)) != crop:
        raise UsageError(f"model.input_size is {input_size}, and dataset.center_crop {crop}: leave one of them out.")
    return size


def _both(value: Any) -> Any:
    """A side as (height, width)."""
    return (value, value) if isinstance(value, int) else value


def plain(value: Any) -> Any:
    """Convert Namespaces and OmegaConf objects, at any depth, to dicts and lists."""
    if type(value).__module__.partition(".")[0] == "omegaconf":
        from omegaconf import OmegaConf

        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def sides(name: str, value: Any) -> tuple[int, int]:
    """(height, width) from a pair of numbers of any type. Errors: UsageError."""
    try:
        height, width = (int(side) for side in value)
    except (TypeError, ValueError):
        raise UsageError(f"{name} is {value!r}; expected (height, width) in pixels.") from None
    if height < 1 or width < 1:
        raise UsageError(f"{name} is {value!r}; both sides must be at least 1.")
    return height, width
