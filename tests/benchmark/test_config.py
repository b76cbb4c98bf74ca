"""The file of a benchmark."""

import json
from pathlib import Path

import pytest

from patchcore import UsageError
from patchcore.benchmark.config import read


@pytest.fixture
def write(tmp_path):
    def write(*whole, **content):
        (tmp_path / "bench.json").write_text(json.dumps(whole[0] if whole else content), "utf-8")
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
        ({}, "there is no 'data'. A path, a list.*Expected a JSON object with at least `data`, for example"),
        ([], "bench.json: got .*Expected a JSON object with at least `data`, for example"),
        ({"data": [], "recipe": ["default"]}, "there is no key 'recipe'. Did you mean 'recipes'?"),
        ({"data": "nowhere"}, "data has 'nowhere'; expected the path of an existing folder or table"),
        ({"data": {"a": 3}}, "data got 3: Input should be a text. A path, a list of paths"),
        ({"data": [], "recipes": 3}, "recipes got 3: .*A list of recipe names"),
        (
            {"data": [], "seeds": [-1]},
            "seeds got -1: Input should be greater than or equal to 0. A list of whole numbers",
        ),
        ({"data": [], "shots": [0]}, "shots got 0: .*A list of whole numbers from 1 on"),
        ({"data": [], "shots": 4}, "shots got 4: .*A list of whole numbers from 1 on"),
        ({"data": [], "seeds": [True]}, "seeds got True: Input should be a whole number. A list of whole numbers"),
    ],
)
def test_what_is_wrong_is_said(write, content, said):
    with pytest.raises(UsageError, match=said):
        read(write(content))


PEER = {
    "name": "SystemX",
    "source": "its paper, table 3",
    "date": "2024-05",
    "figures": {"nuts/brown": {"image_auroc": 1}},
}


def test_figures_of_others_are_read_with_their_source_and_date(write, tmp_path, category):
    category(tmp_path / "nuts/brown")
    figures = {"nuts/brown": {"image_auroc": 0.99, "aupro_30": 0.9}, "nuts/average": {"image_auroc": 0.98}}
    (one,) = read(write(data="nuts", published=[PEER | {"figures": figures}])).published
    assert str(one) == "SystemX: its paper, table 3 (2024-05)"
    assert one.figures == {("nuts", "brown"): figures["nuts/brown"], ("nuts", "average"): {"image_auroc": 0.98}}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {k: v for k, v in PEER.items() if k != "source"},
            "entry 2: there is no 'source'.*an object with a name, a source, a date",
        ),
        (
            {k: v for k, v in PEER.items() if k != "date"},
            "entry 2: there is no 'date'.*an object with a name, a source, a date",
        ),
        (PEER | {"source": "  "}, "source got '  ': .*a name, a source, a date"),
        (PEER | {"date": "last year"}, "date got 'last year': .*A year, a month or a day, for example 2024-05"),
        (PEER | {"year": 2024}, "there is no key 'year'"),
        (PEER | {"figures": {}}, "figures got {}: .*Metrics by category"),
        (
            PEER | {"figures": {"nuts/braun": {}}},
            "'nuts/braun', which this benchmark does not measure. Did you mean 'nuts/brown'",
        ),
        (
            PEER | {"figures": {"nuts/brown": {"image_auroc": 99.1}}},
            "nuts/brown: image_auroc got 99.1: .*A share between 0 and 1",
        ),
        (
            PEER | {"figures": {"nuts/brown": {"milliseconds": 3}}},
            "nuts/brown: there is no key 'milliseconds'.*Known: image_auroc.*another machine are not",
        ),
        ("SystemX", "got 'SystemX'. Expected an object with a name"),
    ],
)
def test_figures_of_others_that_nobody_could_check_are_refused(write, tmp_path, category, entry, said):
    category(tmp_path / "nuts/brown")
    with pytest.raises(UsageError, match=said):
        read(write(data="nuts", published=[PEER, entry]))


def test_images_of_an_installed_package_need_no_path(write, monkeypatch, tmp_path):
    pytest.importorskip("elpv_dataset", reason="elpv-dataset is not installed")
    (one,) = read(write(data="installed:elpv/mono")).sources
    assert (one.dataset, one.category) == ("elpv", "mono")
    assert [one.category for one in read(write(data={"cells": "installed:elpv"})).sources] == ["mono", "poly"]
    with pytest.raises(UsageError, match="'installed:elpv/round'; expected the path of"):
        read(write(data="installed:elpv/round"))
    monkeypatch.setattr("patchcore.data.layouts.elpv.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"is not installed: pip install 'patchcore\[demo\]'"):
        read(write(data="installed:elpv/mono"))


ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    not (ROOT.parent / "shared" / "data").is_dir(),
    reason="the datasets are not here: ../shared/data beside the repository",
)
def test_the_file_of_the_documented_tables_can_be_read():
    pytest.importorskip("elpv_dataset", reason="elpv-dataset is not installed")
    config = read(ROOT / "benchmarks" / "table.json")
    measured = {(one.dataset, one.category) for one in config.sources}
    assert all(set(one.figures) <= measured for one in config.published)
    assert all(one.source and one.date for one in config.published)


def test_no_data_is_said(write):
    with pytest.raises(UsageError, match="data is empty"):
        read(write(data=[]))


@pytest.mark.parametrize("content", ["data: nuts", "[" * 1000, '{"data": ' + "[" * 1000 + "]" * 1000 + "}", "\udcff"])
def test_what_is_no_json_is_said(tmp_path, content):
    (tmp_path / "bench.json").write_text(content, "utf-8", "surrogateescape")
    with pytest.raises(UsageError, match=r"bench\.json cannot be read: .* Expected JSON, for example"):
        read(tmp_path / "bench.json")
    with pytest.raises(UsageError, match=r"gone\.json cannot be read: .* Expected JSON, for example"):
        read(tmp_path / "gone.json")


def test_a_category_of_elpv_is_no_folder(write):
    root = pytest.importorskip("elpv_dataset", reason="elpv-dataset is not installed").__path__[0]
    (source,) = read(write(data={"cells": f"{root}/data/mono"})).sources
    assert (source.dataset, source.category) == ("cells", "mono")


def test_a_key_that_is_there_twice_is_an_error(tmp_path):
    (tmp_path / "bench.json").write_text('{"data": "a", "seeds": [0], "seeds": [1]}')
    with pytest.raises(UsageError, match=r"bench\.json cannot be read: 'seeds' is in it twice; give each key once"):
        read(tmp_path / "bench.json")
