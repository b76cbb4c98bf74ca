"""Arguments by name: one that is not known is an error that suggests the nearest name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from patchcore.errors import UsageError, nearest_name

P = ParamSpec("P")
R = TypeVar("R")


def known_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which answers an unknown keyword argument with the name that was meant.

    Errors: UsageError.
    """
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
    called = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                raise UsageError(
                    f"{called} has no argument {name!r}.{nearest_name(name, names)} It takes: {', '.join(names)}."
                )
        return function(*args, **kwargs)

    return checked
