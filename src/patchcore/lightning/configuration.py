"""Configuration files of anomalib v1 and v2: what their sections make. A file never imports anything."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from omegaconf import OmegaConf

from patchcore.errors import UsageError, nearest_name
from patchcore.lightning.hyperparameters import plain

T = TypeVar("T")
Made = tuple[str, dict[str, Any]]  # the name of a class, and its arguments
_HERE = {"model": "patchcore.lightning.lightning_model", "data": "patchcore.lightning.data"}  # where classes are
_SUCH = {"model": "model.pre_trained", "data": "data.train_batch_size"}


def model_of(path: str | Path, replaced: Mapping[str, Any]) -> Made:
    """The model that a file names, with the arguments in `replaced` (`model.NAME`) instead of its own.

    Errors: FileNotFoundError; UsageError.
    """
    return _only(path, replaced, "model")


def data_of(path: str | Path, replaced: Mapping[str, Any]) -> Made:
    """The data module that a file names, alone or in a section `data`; `replaced` has `data.NAME`. Errors: the same."""
    return _only(path, replaced, "data")


class Whole(NamedTuple):
    """What a whole file makes."""

    engine: dict[str, Any]  # arguments
    model: Made
    data: Made
    seed: int | None


def all_of(path: str | Path, replaced: Mapping[str, Any]) -> Whole:
    """What a whole file makes; `replaced` has `model.NAME`, `data.NAME`, `trainer.NAME` or the name of a section.

    What has no effect is named in one warning. Errors: FileNotFoundError; UsageError.
    """
    found = _with(_read(path), replaced, tuple(_HERE))
    model, data = (_made(path, found.pop(name, None), name) for name in _HERE)
    if "task" in found:  # of the data too
        data[1]["task"] = found["task"]
    trainer, metrics = _section(path, found, "trainer"), _section(path, found, "metrics")
    scale, seed = found.pop("normalization", None), found.pop("seed_everything", None)
    engine = {name: value for name, value in trainer.items() if not _is_object(value)}
    engine |= {name: found.pop(name) for name in ("task", "default_root_dir") if name in found}
    engine["image_metrics"], engine["pixel_metrics"] = metrics.pop("image", None), metrics.pop("pixel", None)
    engine["normalization"] = scale.get("normalization_method") if isinstance(scale, Mapping) else scale
    left = {f"trainer.{name}": value for name, value in trainer.items() if _is_object(value)}
    left |= {f"metrics.{name}": value for name, value in metrics.items()} | found
    if named := [name for name, value in left.items() if not _idle(value)]:
        warnings.warn(
            f"{path}: {', '.join(named)} {'have' if len(named) > 1 else 'has'} no effect: thresholds come from "
            "held-out good images, and callbacks, loggers and drawings are made in Python.",
            stacklevel=3,
        )
    stated = {name: value for name, value in engine.items() if value is not None}
    return Whole(stated, model, data, None if isinstance(seed, bool) else seed)


def _read(path: str | Path) -> dict[str, Any]:
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no configuration file {path}.")
    try:
        found = plain(OmegaConf.load(path))
    except Exception as error:  # the YAML reader and interpolations have their own errors
        raise UsageError(f"The configuration {path} cannot be read: {error}. Expected YAML.") from error
    return found if isinstance(found, dict) else {}


def _with(found: dict[str, Any], replaced: Mapping[str, Any], objects: tuple[str, ...]) -> dict[str, Any]:
    """A configuration with single values replaced, by their dotted names. Errors: UsageError."""
    for name, value in replaced.items():
        section, _, own = name.partition(".")
        if section in objects:
            own = own.removeprefix("init_args.")
            if not own or "." in own:
                raise UsageError(f"from_config got {name!r}; expected {section}.NAME, such as {_SUCH[section]!r}.")
            if isinstance(there := found.get(section), str):
                there = {"class_path": there}
            found[section] = there = dict(there or {})
            there["init_args"] = {**(there.get("init_args") or {}), own: value}
        elif len(objects) == 1:
            raise UsageError(f"from_config got {name!r}; expected {objects[0]}.NAME, such as {_SUCH[objects[0]]!r}.")
        elif own:
            found[section] = {**(found.get(section) or {}), own: value}
        else:
            found[section] = value
    return found


def _only(path: str | Path, replaced: Mapping[str, Any], section: str) -> Made:
    """The one object of a file that is wanted."""
    found = _read(path)
    if section == "data" and "class_path" in found:
        found = {"data": found}
    found = _with(found, replaced, (section,))
    made = _made(path, found.pop(section, None), section)
    if found:
        warnings.warn(
            f"{path}: only the section `{section}` is read here; {', '.join(sorted(found))} has no effect.",
            stacklevel=4,
        )
    return made


def _made(path: str | Path, given: Any, section: str) -> Made:
    if isinstance(given, str):
        given = {"class_path": given}
    if not isinstance(given, dict) or not isinstance(given.get("class_path"), str):
        raise UsageError(f"The configuration {path} has no {section}; expected a section {section}: with class_path.")
    if strange := sorted(set(given) - {"class_path", "init_args"}):
        raise UsageError(f"{path}: {section} has {strange[0]!r}; expected class_path and init_args.")
    arguments = dict(given.get("init_args") or {})
    return given["class_path"], {name: _transforms(path, name, value) for name, value in arguments.items()}


def _transforms(path: str | Path, name: str, value: Any) -> Any:
    """A value, or the transforms of torchvision that it describes. Errors: UsageError for any other object."""
    if isinstance(value, list) and any(map(_is_object, value)):
        return [_transforms(path, name, one) for one in value]
    if not _is_object(value):
        return value
    from torchvision.transforms import v2

    package, _, last = value["class_path"].rpartition(".")
    kind = getattr(v2, last, None)
    if not package.startswith("torchvision.transforms") or not (
        isinstance(kind, type) and issubclass(kind, v2.Transform)
    ):
        raise UsageError(
            f"{path}: {name} is an object of {value['class_path']}; a file makes transforms of torchvision alone. Make "
            "others in Python, and give them to the class."
        )
    return kind(**{key: _transforms(path, name, one) for key, one in (value.get("init_args") or {}).items()})


def _section(path: str | Path, found: dict[str, Any], name: str) -> dict[str, Any]:
    """Takes a section out of a configuration; empty without one. Errors: UsageError."""
    given = found.pop(name, None)
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(f"{path}: {name} is {given!r:.100}; expected names with values.")
    return dict(given or {})


def _is_object(value: Any) -> bool:
    return (isinstance(value, Mapping) and "class_path" in value) or (
        isinstance(value, list) and any(map(_is_object, value))
    )


def _idle(value: Any) -> bool:
    """Whether a value asks for nothing: null, false, or a section of such."""
    if isinstance(value, Mapping):
        return all(map(_idle, value.values()))
    return value is None or value is False


def kind_of(base: type[T], name: str, section: str = "model") -> type[T]:
    """The class of a name: one of this package, by its last part, or one already imported, by its whole path.

    Errors: UsageError.
    """
    rooms = vars(import_module(_HERE[section]))
    ours = {key: one for key, one in rooms.items() if isinstance(one, type) and issubclass(one, base)}
    ours.pop("AnomalyModule", None)  # which is no model by itself
    kinds = [one for one in _kinds(base) if not one.__module__.startswith("patchcore.")]
    own = {f"{one.__module__}.{one.__qualname__}": one for one in kinds}
    known = {**ours, **own}
    package, _, last = name.rpartition(".")
    foreign = package and package.partition(".")[0] not in ("anomalib", "patchcore")
    found = own.get(name) or (None if foreign else ours.get(last))
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
