"""Models, with the names and paths of `anomalib.models`, of which there is one: Patchcore."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from patchcore.errors import UsageError
from patchcore.lightning import anomaly_map, components, lightning_model, torch_model
from patchcore.lightning.base import AnomalyModule
from patchcore.lightning.components import base, sampling
from patchcore.lightning.components.base import dynamic_buffer
from patchcore.lightning.components.sampling import k_center_greedy
from patchcore.lightning.hyperparameters import plain
from patchcore.lightning.lightning_model import Patchcore

__all__ = ["AnomalibModule", "AnomalyModule", "Patchcore", "UnknownModelError", "get_available_models", "get_model"]

AnomalibModule = AnomalyModule  # version 2's name

# Their longer paths lead to the modules that have the same classes.
_PATHS = {
    "components": components,
    "components.base": base,
    "components.base.dynamic_buffer": dynamic_buffer,
    "components.sampling": sampling,
    "components.sampling.k_center_greedy": k_center_greedy,
    "image": sys.modules[__name__],
    "image.patchcore": lightning_model,
    "image.patchcore.anomaly_map": anomaly_map,
    "image.patchcore.lightning_model": lightning_model,
    "image.patchcore.torch_model": torch_model,
}
sys.modules.update({f"{__name__}.{path}": module for path, module in _PATHS.items()})


class UnknownModelError(UsageError):
    """There is no such model here."""


def get_available_models() -> set[str]:
    """The names that `get_model` takes."""
    return {"patchcore"}


def get_model(model: str | Mapping[str, Any] | Namespace, **init_args: Any) -> AnomalyModule:
    """A model by its name, or by a configuration with `class_path` and `init_args`; `init_args` go before its own.

    Errors: UnknownModelError; TypeError for what is neither.
    """
    known = model if isinstance(model, str) else plain(model)
    if isinstance(known, str):
        known = {"class_path": known}
    if not isinstance(known, dict) or "class_path" not in known:
        raise TypeError(f"a model of {type(model).__name__}; expected a name, or a dict with class_path and init_args.")
    path = str(known["class_path"])
    if path.rpartition(".")[2].replace("_", "").lower() != "patchcore":
        raise UnknownModelError(f"There is no model {path!r}; there is Patchcore.")
    return Patchcore(**{**(known.get("init_args") or {}), **init_args})
