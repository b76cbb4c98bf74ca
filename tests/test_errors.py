"""Errors travel between processes, as pools send them: by pickle."""

import copy
import importlib
import pickle
import pkgutil

import patchcore_runtime
import pytest

import patchcore
from patchcore.errors import ImageError, MissingExtraError, PatchcoreError, SignatureError

WITH_MORE = {
    ImageError: ("a.png", "damaged"),
    MissingExtraError: ("faiss-cpu", "faiss", "Search"),
    patchcore_runtime.ImageError: ("a.png", "damaged"),
}


def kinds():
    """Every error of ours, wherever it is defined."""
    for module in pkgutil.walk_packages(patchcore.__path__, "patchcore."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ImportError:  # an extra that is not installed; such a module defines none
                continue
    waiting, found = [PatchcoreError, patchcore_runtime.ExportError], []
    while waiting:
        found.append(waiting.pop())
        waiting += found[-1].__subclasses__()
    return [one for one in found if one.__module__.startswith("patchcore")]


def all_of_it(error):
    return type(error), error.args, str(error), vars(error), getattr(error, "msg", None), getattr(error, "name", None)


def again(error):
    yield from (pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1))
    yield from (copy.copy(error), copy.deepcopy(error))


def test_every_error_comes_back_from_pickle_and_copy_with_all_that_it_says():
    found = kinds()
    assert {ImageError, SignatureError, patchcore_runtime.ImageError} <= set(found)
    for kind in found:
        error = kind(*WITH_MORE.get(kind, ("what is wrong",)))
        error.__notes__ = ["seen at the third camera"]
        for one in again(error):
            assert all_of_it(one) == all_of_it(error)


def test_an_image_error_that_says_where_its_file_lies_says_so_afterwards():
    error = ImageError("a.png", "damaged").at("/parts/a.png")
    for one in again(error):
        assert (str(one), one.name, one.reason) == ("/parts/a.png: damaged", "a.png", "damaged")


class CameraError(ImageError):
    def __init__(self, name: str, *, number: int) -> None:
        super().__init__(name, f"camera {number} gave nothing")
        self.number = number


@pytest.mark.parametrize("error", [CameraError("a.png", number=3), PatchcoreError(), PatchcoreError("two", 2)])
def test_a_user_s_own_kind_comes_back_too(error):
    for one in again(error):
        assert all_of_it(one) == all_of_it(error)
