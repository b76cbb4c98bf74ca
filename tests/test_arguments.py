import inspect

import pytest

from patchcore import UsageError
from patchcore.arguments import known_arguments


class Box:
    @known_arguments
    def __init__(self, height: int, width: int = 2, *, depth: int = 3) -> None:
        self.volume = height * width * depth


def test_known_arguments_reach_the_function():
    assert Box(1).volume == 6
    assert Box(1, 4, depth=5).volume == 20


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(UsageError, match=r"Box has no argument 'widht'. Did you mean 'width'\? It takes: height, w"):
        Box(1, widht=3)


def test_what_python_itself_refuses_stays_as_it_is():
    with pytest.raises(TypeError, match="height"):
        Box(width=3)


def test_the_signature_is_the_function_s_own():
    assert list(inspect.signature(Box).parameters) == ["height", "width", "depth"]
