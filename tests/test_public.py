"""The public door: what `__all__` promises."""

import doctest
import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

MODULES = ("patchcore", "patchcore.export", "patchcore.report", "patchcore.tuning")


def annotations_of(thing):
    """(where, annotation) of a function, or of a class's public fields and methods."""
    if not inspect.isclass(thing):
        yield from ((thing, one) for one in getattr(thing, "__annotations__", {}).items())
        return
    for name, value in vars(thing).items():
        value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        value = getattr(value, "fget", None) or getattr(value, "func", None) or value
        if (name == "__init__" or not name.startswith("_")) and inspect.isfunction(value):
            yield from ((value, one) for one in value.__annotations__.items())
    own = {name: one for name, one in vars(thing).get("__annotations__", {}).items() if not name.startswith("_")}
    yield from ((thing, one) for one in own.items())


@pytest.mark.parametrize("module", MODULES)
def test_no_public_signature_says_any_or_takes_unknown_keywords(module):
    wrong = []
    for name in import_module(module).__all__:
        thing = getattr(import_module(module), name)
        if isinstance(thing, str):  # a type alias
            assert not re.search(r"\bAny\b", thing)
            continue
        if not getattr(thing, "__module__", "").startswith("patchcore.") or name == "Recipe":
            continue  # another distribution's; the arguments of a recipe are its fields
        own = vars(thing).values() if inspect.isclass(thing) else [thing]
        for function in filter(inspect.isfunction, own):
            kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
            assert inspect.Parameter.VAR_KEYWORD not in kinds, function
        wrong += [(where, one) for where, one in annotations_of(thing) if re.search(r"\bAny\b", str(one[1]))]
    assert not wrong


def test_a_recipe_shows_its_fields():
    from patchcore import Recipe

    shown = inspect.signature(Recipe).parameters
    assert {"size", "backbone", "members", "seed"} <= set(shown)
    assert [one for one in Recipe.__annotations__.values() if re.search(r"\bAny\b", str(one))] == []


def test_every_promised_name_has_a_docstring():
    for module in MODULES:
        for name in import_module(module).__all__:
            thing = getattr(import_module(module), name)
            assert isinstance(thing, str) or (thing.__doc__ or "").strip(), name


@pytest.mark.parametrize("name", ["Calibration", "Detector", "Recipe", "detect", "evaluate"])
def test_the_examples_in_the_docstrings_are_true(name, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    done = doctest.testmod(sys.modules[getattr(import_module("patchcore"), name).__module__])
    assert done.attempted
    assert not done.failed
