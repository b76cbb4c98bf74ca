"""Create models from configurations, and read the meta data of models."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from patchcore.errors import MissingExtraError, UsageError, nearest_name

try:
    from omegaconf import OmegaConf
except ImportError:
    raise MissingExtraError("omegaconf", "lightning", "patchcore.inferencers") from None

from patchcore.inferencers.configuration import check_kind, section, without_effect
from patchcore.lightning.hyperparameters import plain
from patchcore.lightning.v0 import PatchcoreLightning

log = logging.getLogger(__name__)
MODELS = {"patchcore": PatchcoreLightning}
Config = Any  # a path, a dict, a Namespace or an OmegaConf object


def read_config(config: Config) -> dict[str, Any]:
    """A configuration as plain nested dicts, from a YAML file, a dict, a Namespace or OmegaConf. Errors: UsageError."""
    if not isinstance(config, str | Path):
        return plain(config)
    try:
        found = plain(OmegaConf.load(config))
    except Exception as error:  # the YAML reader and interpolations have their own errors
        raise UsageError(f"The configuration {config} cannot be read: {error}. Expected YAML.") from error
    if not isinstance(found, dict):
        got = type(found).__name__
        raise UsageError(f"The configuration {config} holds a {got}; expected sections such as model:.")
    return found


def get_model(config: Config) -> PatchcoreLightning:
    """The model that `model.name` of a configuration names, not yet fitted. Errors: UsageError, BackboneError.

    What the section `model` states without effect is named in a warning.
    """
    sections = read_config(config)
    model = model_of(sections)
    for sentence in without_effect({"model": sections.get("model")}):
        log.warning("%s", sentence)
    return model


def model_of(sections: dict[str, Any]) -> PatchcoreLightning:
    """The same, without a warning."""
    check_kind(sections)
    name = section(sections, "model").get("name", "patchcore")
    if name not in MODELS:
        raise UsageError(f"There is no model {name!r}.{nearest_name(str(name), MODELS)} Known: {', '.join(MODELS)}.")
    return MODELS[name](sections)


def get_model_metadata(model: PatchcoreLightning) -> dict[str, float]:
    """`image_threshold`, `pixel_threshold`, and the maps' `min` and `max`, from validation; NaN before that."""
    return model.meta_data
