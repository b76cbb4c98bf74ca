"""Recipes to compare, and the file of one."""

import json

import pytest

from patchcore import Recipe, RecipeError
from patchcore.tuning.candidates import bases, recipe_file, variants


def test_values_with_commas_between_them_are_variants():
    assert variants([]) == [((), "")]
    assert variants(["size=192,256", "ratio=0.01", "coreset=random, k_center"]) == [
        ((f"size={size}", "ratio=0.01", f"coreset={coreset}"), f"size={size} coreset={coreset}")
        for size in (192, 256)
        for coreset in ("random", "k_center")
    ]


def test_a_comma_in_brackets_is_part_of_a_value():
    assert variants(["size=[192,256]"]) == [(("size=[192, 256]",), "")]
    assert [assigned for assigned, _ in variants(["scales=[1],[1,0.75]"])] == [("scales=[1]",), ("scales=[1, 0.75]",)]
    assert [assigned for assigned, _ in variants(["crop=null,224"])] == [("crop=null",), ("crop=224",)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size", "'size' sets nothing; expected field=value"),
        ("size=", "has an empty value"),
        ("resize=area,", "empty value"),
    ],
)
def test_what_sets_nothing_is_said(text, said):
    with pytest.raises(RecipeError, match=said):
        variants([text])


def again(path, content):
    path.write_text(json.dumps(content), "utf-8")
    return Recipe.read(path)


def test_the_file_of_a_recipe_says_what_differs_and_gives_it_again(tmp_path):
    for name in Recipe.names():
        recipe = Recipe.named(name)
        assert recipe_file(recipe, bases(name)) == {"base": name}
        changed = recipe.set("backbone=efficientnet_lite1", "taps=[8]", "seed=3", "value_range=[0,4095]")
        content = recipe_file(changed, bases(name))
        if not recipe.members:
            assert set(content) - {"base"} == {"backbone", "taps", "seed", "value_range"}
        assert again(tmp_path / "r.json", content) == changed


def test_the_file_of_an_ensemble_gives_it_again(tmp_path):
    (tmp_path / "mine.json").write_text('{"base": "fast", "size": 160}', "utf-8")
    mine = str(tmp_path / "mine.json")
    recipe = Recipe.ensemble(Recipe.named("default"), Recipe.read(mine)).set("ratio=0.05", "seed=4")
    content = recipe_file(recipe, [*bases("default"), *bases(mine)])
    assert content["members"] == [
        {"base": "default", "ratio": 0.05},
        {"base": "fast", "size": 160, "ratio": 0.05},
    ]
    assert again(tmp_path / "r.json", content) == recipe

    both = {"members": ["default", {"base": "fast", "size": 128}], "false_reject_rate": 0.1}
    (tmp_path / "both.json").write_text(json.dumps(both), "utf-8")
    recipe = Recipe.read(tmp_path / "both.json")
    content = recipe_file(recipe, bases(str(tmp_path / "both.json")))
    assert again(tmp_path / "r.json", content).each == recipe.each


def test_an_ensemble_that_has_a_name_can_be_a_base_and_a_part(tmp_path):
    (tmp_path / "mine.json").write_text('{"base": "accurate", "seed": 3}', "utf-8")
    recipe = Recipe.read(tmp_path / "mine.json")
    assert again(tmp_path / "r.json", recipe_file(recipe, bases(str(tmp_path / "mine.json")))) == recipe

    recipe = Recipe.ensemble(Recipe.named("accurate"), Recipe.named("fast"))
    assert again(tmp_path / "r.json", recipe_file(recipe, [*bases("accurate"), *bases("fast")])) == recipe
