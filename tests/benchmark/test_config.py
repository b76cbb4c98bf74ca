"""The file of a benchmark."""

import json

import pytest

from patchcore import UsageError
from patchcore.benchmark.config import read


@pytest.fixture
def write(tmp_path):
    def write(**content):
        (tmp_path / "bench.json").write_text(json.dumps(content), "utf-8")
        return tmp_path / "bench.json"

    return write


def test_paths_are_relative_to_the_file(write, tmp_path, category):
    category(tmp_path / "sets/nuts/brown")
    numbers = {"seeds": [0, 2], "shots": [1, 4]}
    config = read(write(data={"hazel": "sets/nuts"}, recipes=["default", "mine.json"], set=["size=96"], **numbers))
    assert [(s.dataset, s.category, s.path) for s in config.sources] == [
        ("hazel", "brown", tmp_path / "sets/nuts/brown")
    ]
    assert config.recipes == ("default", str(tmp_path / "mine.json"))
    assert config.assignments == ("size=96",)
    assert config.seeds == (0, 2)
    assert config.shots == (1, 4)


def test_data_alone_is_enough_as_a_path_or_a_list(write, tmp_path, category):
    category(tmp_path / "nuts/brown")
    for data in ("nuts", ["nuts"], ["nuts/brown"]):
        config = read(write(data=data))
        assert [(s.dataset, s.category) for s in config.sources] == [("nuts", "brown")]
        assert config.recipes == config.assignments == config.seeds == config.shots == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "expected a JSON object with at least `data`, for example"),
        ({"data": [], "recipe": ["default"]}, "there is no key 'recipe'. Did you mean 'recipes'?"),
        ({"data": "nowhere"}, "data has 'nowhere'; expected the path of a folder or table that is there"),
        ({"data": {"a": 3}}, "data has 3; expected the path"),
        ({"data": [], "recipes": 3}, "recipes is 3; expected a list of texts"),
        ({"data": [], "seeds": [-1]}, r"seeds is \[-1\]; expected a list of whole numbers"),
        ({"data": [], "shots": [0]}, r"shots is \[0\]; expected a list of whole numbers from 1 on"),
        ({"data": [], "shots": 4}, "shots is 4; expected a list of whole numbers from 1 on"),
        ({"data": [], "seeds": [True]}, "expected a list of whole numbers"),
    ],
)
def test_what_is_wrong_is_said(write, content, said):
    with pytest.raises(UsageError, match=said):
        read(write(**content))


def test_no_data_is_said(write):
    with pytest.raises(UsageError, match="data is empty"):
        read(write(data=[]))


def test_what_is_no_json_is_said(tmp_path):
    (tmp_path / "bench.json").write_text("data: nuts")
    with pytest.raises(UsageError, match=r"bench\.json cannot be read: .* Expected JSON, for example"):
        read(tmp_path / "bench.json")


def test_a_category_of_elpv_is_no_folder(write):
    root = pytest.importorskip("elpv_dataset", reason="elpv-dataset is not installed").__path__[0]
    (source,) = read(write(data={"cells": f"{root}/data/mono"})).sources
    assert (source.dataset, source.category) == ("cells", "mono")
