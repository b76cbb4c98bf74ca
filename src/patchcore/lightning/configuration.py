"""Configuration files of anomalib v1 and v2: the section `model` and what it names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf

from patchcore.errors import UsageError, nearest_name
from patchcore.lightning.hyperparameters import plain

T = TypeVar("T")


def model_of(path: str | Path, replaced: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The class that a file names, and its arguments, with those in `replaced` (`model.NAME`) instead.

    Errors: FileNotFoundError; UsageError.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no configuration file {path}.")
    try:
        found = plain(OmegaConf.load(path))
    except Exception as error:  # the YAML reader and interpolations have their own errors
        raise UsageError(f"The configuration {path} cannot be read: {error}. Expected YAML.") from error
    model = found.get("model") if isinstance(found, dict) else None
    if isinstance(model, str):
        model = {"class_path": model}
    if not isinstance(model, dict) or not isinstance(model.get("class_path"), str):
        raise UsageError(f"The configuration {path} has no model; expected a section model: with class_path.")
    if strange := sorted(set(model) - {"class_path", "init_args"}):
        raise UsageError(f"{path}: model has {strange[0]!r}; expected class_path and init_args.")
    if unused := sorted(set(found) - {"model"}):
        warnings.warn(
            f"{path}: only the section `model` makes a model; {', '.join(unused)} has no effect.", stacklevel=3
        )
    arguments = dict(model.get("init_args") or {})
    for name, value in replaced.items():
        own = name.removeprefix("model.").removeprefix("init_args.")
        if not name.startswith("model.") or "." in own:
            raise UsageError(f"from_config got {name!r}; expected model.NAME, such as 'model.pre_trained'.")
        arguments[own] = value
    return model["class_path"], arguments


def kind_of(base: type[T], name: str) -> type[T]:
    """The class of a name: one of this package, by its last part, or one already imported, by its whole path.

    Errors: UsageError. A file never imports anything.
    """
    import_module("patchcore.lightning.lightning_model")
    ours, own = dict[str, type[T]](), dict[str, type[T]]()
    for kind in _kinds(base):
        (ours if kind.__module__.startswith("patchcore.") else own)[f"{kind.__module__}.{kind.__qualname__}"] = kind
    short = {one.__name__: one for one in ours.values() if one is not base or base.__name__ == "Patchcore"}
    known = {**short, **own}
    package, _, last = name.rpartition(".")
    foreign = package and package.partition(".")[0] not in ("anomalib", "patchcore")
    found = own.get(name) or (None if foreign else short.get(last))
    if found is None:
        raise UsageError(
            f"class_path is {name!r}.{nearest_name(last, known)} Known: {', '.join(known)}. Import a class of your own "
            "before its configuration is read."
        )
    return found


def _kinds(base: type[T]) -> Iterator[type[T]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)
