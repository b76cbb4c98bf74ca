"""Which cells there are, and when two of them are the same."""

import shutil
from dataclasses import replace

import pytest

from patchcore import DataError, Recipe, UsageError
from patchcore.benchmark.cells import Options, Source, digest, plan, short, sources
from patchcore.benchmark.measure import from_json, to_json


def names(found):
    return [(one.dataset, one.category) for one in found]


def test_a_path_is_a_category_a_data_set_or_a_folder_of_data_sets(tmp_path, category):
    for place in ("all/nuts/brown", "all/nuts/green", "all/other/red"):
        category(tmp_path / place)
    (tmp_path / "all/nuts/licence.txt").touch()
    (tmp_path / "all/nuts/.hidden/train").mkdir(parents=True)
    assert names(sources(tmp_path / "all/nuts/brown")) == [("nuts", "brown")]
    assert names(sources(tmp_path / "all/nuts")) == [("nuts", "brown"), ("nuts", "green")]
    assert names(sources(tmp_path / "all")) == [("nuts", "brown"), ("nuts", "green"), ("other", "red")]
    assert sources(tmp_path / "all/nuts")[1].path == tmp_path / "all/nuts/green"
    assert names(sources(tmp_path / "all/nuts", "hazel")) == [("hazel", "brown"), ("hazel", "green")]


def test_a_table_is_a_category(tmp_path):
    (tmp_path / "cells.csv").write_text("path,label\n")
    assert names(sources(tmp_path / "cells.csv")) == [("cells", "cells")]


def test_a_category_without_good_images_is_still_one(tmp_path, category):
    category(tmp_path / "brown")
    shutil.rmtree(category(tmp_path / "green") / "train")
    assert [one.category for one in sources(tmp_path)] == ["brown", "green"]


def test_a_folder_without_labels_is_refused(tmp_path, hazelnut):
    with pytest.raises(DataError, match="holds no labelled dataset"):
        sources(hazelnut / "train")


def test_the_plan_is_every_category_with_every_recipe_and_seed(tmp_path, category):
    found = [Source("nuts", name, category(tmp_path / name)) for name in ("brown", "green")]
    cells = plan(found, {"default": Recipe(), "fast": Recipe.named("fast")}, [3, 4])
    assert [(c.source.category, c.recipe_name, c.seed) for c in cells] == [
        (name, recipe, seed) for name in ("brown", "green") for recipe in ("default", "fast") for seed in (3, 4)
    ]
    assert all(cell.recipe.seed == cell.seed for cell in cells)
    assert {cell.recipe.size for cell in cells if cell.recipe_name == "fast"} == {192}
    assert len({cell.key for cell in cells}) == 8


def test_the_plan_has_a_cell_for_every_number_of_shots(tmp_path, category):
    source = Source("nuts", "brown", category(tmp_path / "brown"))
    cells = plan([source], {"default": Recipe(), "fast": Recipe.named("fast")}, [3, 4], shots=(2, 6))
    assert [(c.recipe_name, c.shots, c.seed) for c in cells] == [
        (recipe, shots, seed) for recipe in ("default", "fast") for shots in (2, 6) for seed in (3, 4)
    ]
    assert str(cells[0]) == "nuts brown default shots 2 seed 3"
    assert str(plan([source], {"default": Recipe()}, [3])[0]) == "nuts brown default seed 3"


def test_a_category_is_not_run_on_more_images_than_it_has(tmp_path, category):
    brown, green = (Source("nuts", name, category(tmp_path / name)) for name in ("brown", "green"))
    (green.path / "train/good/00.jpg").unlink()
    broken = Source("nuts", "broken", tmp_path / "broken")  # its own process says what is wrong
    assert short([brown, green, broken], (None, 1, 6, 7)) == {(green, 6): 5, (brown, 7): 6, (green, 7): 5}
    cells = plan([brown, green], {"default": Recipe()}, [0], shots=(None, 5, 6))
    assert [(c.source.category, c.shots) for c in cells] == [
        ("brown", None), ("brown", 5), ("brown", 6), ("green", None), ("green", 5)
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"shots is 7.*: nuts brown has 6, nuts green has 5\. Expected at most 6\."):
        plan([brown, green], {"default": Recipe()}, [0], shots=(1, 7))


def test_two_categories_of_one_name_are_refused(tmp_path):
    twice = [Source("nuts", "brown", tmp_path / "a"), Source("nuts", "brown", tmp_path / "b")]
    with pytest.raises(UsageError, match=r"a and .*b have the same name, nuts/brown.*config file"):
        plan(twice, {"default": Recipe()}, [0])


def test_what_changes_a_score_changes_the_key_and_nothing_else_does(tmp_path, category, cell):
    path = category(tmp_path / "brown")
    one = cell(path, data=digest(path))
    same = [
        replace(one, options=Options(threads=1, memory="2GB")),
        replace(one, source=replace(one.source, path=tmp_path / "moved")),
        replace(one, assignments=("size=128",)),  # the recipe says it already
    ]
    assert {other.key for other in same} == {one.key}
    others = [
        replace(one, recipe=one.recipe.replace(ratio=0.1)),
        replace(one, recipe_name="other"),
        replace(one, seed=1),
        replace(one, shots=4),
        replace(one, shots=8),
        replace(one, source=replace(one.source, category="green")),
        replace(one, options=Options(precision="bf16")),
        replace(one, options=Options(skip_bad=True)),
        replace(one, data="other"),
    ]
    assert len({one.key, *(other.key for other in others)}) == len(others) + 1


def test_other_code_of_our_own_is_another_key(tmp_path, monkeypatch, cell):
    from patchcore.benchmark import cells

    def package(name, **files):
        for file, content in files.items():
            (tmp_path / name / "maths").mkdir(parents=True, exist_ok=True)
            (tmp_path / name / "maths" / f"{file}.py").write_text(content)
        return tmp_path / name

    def key(package):
        monkeypatch.setattr(cells, "_PACKAGE", package)
        return cell(tmp_path).key

    ours = cell(tmp_path).key
    assert ours == cell(tmp_path).key
    one, moved = package("one", a="1", b="2"), package("moved", a="1", b="2")
    others = [package("changed", a="1", b="3"), package("renamed", a="1", c="2"), package("joined", a="12", b="")]
    assert key(one) == key(moved)
    assert len({ours, key(one), *map(key, others)}) == len(others) + 2


def test_weights_of_the_same_name_with_other_contents_are_another_key(tmp_path, cell):
    keys = set()
    for content in (b"a", b"b"):
        file = tmp_path / content.decode() / "net.pt"
        file.parent.mkdir()
        file.write_bytes(content)
        one = cell(tmp_path)
        keys.add(replace(one, recipe=one.recipe.replace(weights=str(file))).key)
    assert len(keys) == 2


def test_the_digest_sees_images_come_go_and_change_but_not_move(tmp_path, category):
    path = category(tmp_path / "brown")
    before = digest(path)
    moved = path.rename(tmp_path / "moved")
    assert digest(moved) == before
    (moved / "test/colour/00.jpg").rename(moved / "test/good/00.jpg")
    assert digest(moved) != before
    (moved / "test/good/00.jpg").rename(moved / "test/colour/00.jpg")
    assert digest(moved) == before
    with (moved / "ground_truth/colour/00_mask.png").open("ab") as file:
        file.write(b"0")
    assert digest(moved) != before
    assert digest(tmp_path / "nothing") == ""


def test_a_cell_reads_back_from_its_line(tmp_path, cell):
    ensemble = Recipe.ensemble(Recipe.named("fast"), Recipe()).replace(seed=3)
    for one in (cell(tmp_path, seed=2, assignments=("a=1",), shots=4), replace(cell(tmp_path), recipe=ensemble)):
        again = from_json(to_json(one))
        assert again == one
        assert again.key == one.key
        assert "\n" not in to_json(one)
