import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcore.errors import PatchcoreError, RecipeError
from patchcore.recipe import Recipe


def explained(**fields):
    """What a wrong recipe says of itself."""
    with pytest.raises(RecipeError) as caught:
        Recipe(**fields)
    return str(caught.value)


# ---- wrong fields


@pytest.mark.parametrize(
    ("written", "meant"), [("sice", "size"), ("ratios", "ratio"), ("backbon", "backbone"), ("neighbors", "neighbours")]
)
def test_an_unknown_field_suggests_the_nearest(written, meant):
    assert explained(**{written: 1}) == f"There is no recipe field {written!r}. Did you mean {meant!r}?"


def test_a_value_without_a_field_says_how_recipes_are_made():
    with pytest.raises(RecipeError, match=r"Recipe got 'fast' without .* Recipe\.named\('fast'\)\."):
        Recipe("fast")


def test_an_unknown_field_that_is_like_no_other_suggests_nothing():
    assert explained(xyzzy=1) == "There is no recipe field 'xyzzy'."


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("size", 0, "greater than 0"),
        ("size", "large", "a whole number; or a list; or 'auto'"),
        ("size", (256,), "a list with more values"),
        ("crop", -1, "greater than 0"),
        ("resize", "squash", "'area', 'stretch', 'short_side' or 'letterbox'"),
        ("value_range", (0,), "a list with more values"),
        ("taps", (), "at least 1 item"),
        ("patch_size", 0, "greater than 0"),
        ("patch_stride", 0, "greater than 0"),
        ("pool", "max", "'mean', 'quarters' or 'bins'"),
        ("pool_border", "mirror", "'zeros' or 'inside'"),
        ("align", "bicubic", "'bilinear' or 'nearest'"),
        ("merge", "sum", "'concat' or 'bins'"),
        ("scaling", "yes", "'auto', 'none', 'taps' or 'channel'"),
        ("tap_bins", 0, "greater than 0"),
        ("bins", 0, "greater than 0"),
        ("coreset", "kmeans", "'k_center', 'merge', 'random' or 'identity'"),
        ("ratio", 0, "greater than 0"),
        ("ratio", 1.5, "less than or equal to 1"),
        ("ratio", float("nan"), "finite|equal to 1"),
        ("max_rows", 0, "greater than 0"),
        ("projection", "pca", "'none', 'dense' or 'sparse'"),
        ("projection_dims", 0, "greater than 0"),
        ("start", "last", "'first', 'random' or 'mean_of_ten'"),
        ("neighbours", 0, "greater than 0"),
        ("distance", "cosine", "'l2' or 'squared_l2'"),
        ("image_score", "mean", "'max', 'reweighted' or 'top_share'"),
        ("reweight_neighbours", 0, "greater than 0"),
        ("top_share", 0, "greater than 0"),
        ("top_share", 2, "less than or equal to 1"),
        ("upsample", "bicubic", "'bilinear' or 'nearest'"),
        ("sigma", -1, "greater than or equal to 0"),
        ("map_border", "zeros", "'mirror' or 'symmetric'"),
        ("calibration_share", 1, "less than 1"),
        ("calibration_share", -0.1, "greater than or equal to 0"),
        ("false_reject_rate", 0, "greater than or equal to 0"),
        ("false_reject_rate", 1, "less than 1"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 0.5, "whole number"),
        ("seed", 2**70, "less than"),  # more than a generator takes
        ("size", 99_999_999, "less than or equal to 65536"),
        ("patch_size", 10**6 + 1, "less than or equal to 255"),
        ("patch_stride", 10**9, "less than"),
        ("tap_bins", 10**9, "less than or equal to 65536"),
        ("bins", 10**9, "less than or equal to 65536"),
        ("max_rows", 2**63, "less than"),
        ("projection_dims", 10**9, "less than or equal to 65536"),
        ("neighbours", 10**9, "less than or equal to 10000"),
        ("reweight_neighbours", 10**9, "less than or equal to 10000"),
        ("sigma", 1e300, "less than or equal to 1000"),
    ],
)
def test_a_wrong_value_says_what_was_got_what_is_taken_and_what_the_field_is(field, value, says):
    with pytest.raises(RecipeError, match=says) as caught:
        Recipe(**{field: value})
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"Recipe field {field} got ")
    assert Recipe.model_fields[field].description in first
    if not isinstance(value, tuple):
        assert repr(value) in first


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"size": "abc"}, "size got 'abc': Input should be a whole number; or a list; or 'auto'. Size in pixels"),
        ({"size": -3}, r"size got -3: Input should be greater than 0\. Size"),
        ({"size": (1, 2, 3)}, r"size got \(1, 2, 3\): Tuple should have at most 2 items"),
        ({"taps": (8, -1)}, r"taps got -1: Input should be greater than 0\. Layers"),
        ({"taps": (8, None)}, r"taps got None: Input should be a whole number; or a text\. Layers"),
    ],
)
def test_one_mistake_is_one_line_where_a_field_takes_several_types(fields, says):
    text = explained(**fields)
    assert re.match(f"Recipe field {says}", text)
    assert len(text.splitlines()) == 1
    assert len(explained(**fields, sigma=-1).splitlines()) == 2


@pytest.mark.parametrize("field", ["sigma", "value_range"])
@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_numbers_that_are_none_are_refused(field, number):
    value = (0.0, number) if field == "value_range" else number
    assert explained(**{field: value}).startswith(f"Recipe field {field} got ")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"scales": (0.5, 1)}, "Recipe: scales is [0.5, 1.0]; the first must be 1."),
        ({"patch_size": 4}, "Recipe: patch_size is 4; it must be odd."),
        ({"crop": 224}, "Recipe: crop needs resize='short_side', not 'area'."),
        ({"crop": 224, "resize": "stretch"}, "Recipe: crop needs resize='short_side', not 'stretch'."),
        (
            {"resize": "short_side", "size": (256, 300)},
            "Recipe: resize='short_side' takes one side as size, not (256, 300).",
        ),
        (
            {"resize": "short_side", "size": 200, "crop": 224},
            "Recipe: crop is 224, larger than the short side, 200.",
        ),
        (
            {"value_range": (5, 5)},
            "Recipe: value_range is (5.0, 5.0); the first value must be the smaller.",
        ),
        ({"tile_stride": 64}, "Recipe: tile_stride is 64, and there is no tile; set both."),
        (
            {"tile": (64, 128), "tile_stride": 96},
            "Recipe: tile_stride is 96, larger than tile, (64, 128): parts would be left out.",
        ),
    ],
)
def test_fields_that_do_not_go_together_say_why(fields, says):
    assert explained(**fields) == says


def test_every_wrong_field_is_named_at_once():
    lines = explained(ratio=2, sigma=-1, sice=3).splitlines()
    assert len(lines) == 3
    assert {line.split()[2] for line in lines[:2]} == {"ratio", "sigma"}
    assert "'sice'" in lines[2]


def test_a_recipe_error_is_caught_as_what_it_is():
    with pytest.raises(PatchcoreError):
        Recipe(ratio=2)
    with pytest.raises(ValueError, match="ratio"):
        Recipe(ratio=2)


# ---- values


def test_a_recipe_cannot_be_changed():
    recipe = Recipe()
    with pytest.raises(RecipeError, match=r"does not change; take another one: recipe\.replace\(ratio=0\.5\)"):
        recipe.ratio = 0.5
    assert recipe == Recipe()


def test_a_copy_with_other_fields_is_checked():
    assert Recipe().model_copy(update={"size": 96}) == Recipe(size=96)
    assert Recipe(size=96).model_copy() == Recipe(size=96)
    for wrong in ({"size": -5}, {"sise": 96}):
        with pytest.raises(RecipeError):
            Recipe().model_copy(update=wrong)


def test_a_recipe_of_what_is_given():
    assert Recipe.of(None) == Recipe()
    assert Recipe.of("fast") == Recipe.named("fast")
    assert Recipe.of(Recipe(size=96)) == Recipe(size=96)
    with pytest.raises(RecipeError, match=r"got dict, where a recipe was expected\. Fields: Recipe\(\*\*fields\)"):
        Recipe.of({"size": 96})
    with pytest.raises(RecipeError, match=r"There is no recipe 'a\.json'\. For a file: Recipe\.read\('a\.json'\)\."):
        Recipe.of("a.json")


def test_equal_recipes_are_equal_and_hash_alike():
    assert Recipe(size=128) == Recipe(size=128)
    assert hash(Recipe(size=128)) == hash(Recipe(size=128))
    assert Recipe(size=128) != Recipe()


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"size": 128}, (128, 128)),
        ({"size": (128, 256)}, (128, 256)),
        ({"resize": "short_side", "size": 256, "crop": 224}, (224, 224)),
        ({"resize": "short_side", "size": 256}, (256, 256)),
    ],
)
def test_the_window_is_what_the_network_sees(fields, window):
    assert Recipe(**fields).window == window


def test_lists_will_do_for_pairs_as_json_has_no_others():
    recipe = Recipe(size=[128, 256], taps=["layer2", 16], value_range=[0, 4095])
    assert recipe.size == (128, 256)
    assert recipe.taps == ("layer2", 16)
    assert recipe.value_range == (0.0, 4095.0)


@pytest.mark.parametrize(
    ("fields", "tiles", "seen"),
    [
        ({}, None, (320, 320)),
        ({"tile": 128}, ((128, 128), (128, 128)), (128, 128)),
        ({"tile": 128, "tile_stride": 96}, ((128, 128), (96, 96)), (128, 128)),
        ({"tile": (64, 128), "tile_stride": (32, 64)}, ((64, 128), (32, 64)), (64, 128)),
        ({"size": 1024, "tile": [64, 128]}, ((64, 128), (64, 128)), (64, 128)),
    ],
)
def test_tiles_and_what_the_network_sees_at_once(fields, tiles, seen):
    assert Recipe(**fields).tiles == tiles
    assert Recipe(**fields).seen == seen


# ---- replace, set


def test_replace_changes_what_is_given_and_leaves_the_rest():
    recipe = Recipe(size=128, sigma=2)
    other = recipe.replace(sigma=3, taps=("layer1",))
    assert (other.size, other.sigma, other.taps) == (128, 3, ("layer1",))
    assert recipe.sigma == 2


def test_replace_checks_the_whole():
    with pytest.raises(RecipeError, match="crop is 224, larger than the short side, 100"):
        Recipe(resize="short_side", crop=224).replace(size=100)
    with pytest.raises(RecipeError, match="no recipe field 'nope'"):
        Recipe().replace(nope=1)


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("ratio=0.05", "ratio", 0.05),
        ("size=[128,256]", "size", (128, 256)),
        ("backbone=resnet18", "backbone", "resnet18"),
        ("weights=/a folder/b=c.safetensors", "weights", "/a folder/b=c.safetensors"),
        ('taps=["layer2","layer3"]', "taps", ("layer2", "layer3")),
        (" sigma =2", "sigma", 2.0),
        ("value_range=null", "value_range", None),
        ("value_range=[0,4095]", "value_range", (0.0, 4095.0)),
        ('coreset="random"', "coreset", "random"),
        ("crop=None", "crop", None),
        ("projection=none", "projection", "none"),
        ("exposure= even ", "exposure", "even"),
        ("augment=flip_h", "augment", ("flip_h",)),
        ("augment=flip_h,rotate_180", "augment", ("flip_h", "rotate_180")),
        ("augment=[flip_h, rotate_180]", "augment", ("flip_h", "rotate_180")),  # as a shell leaves it
        ("augment=[]", "augment", ()),
        ("taps=4,8", "taps", (4, 8)),
        ("taps=layer2,layer3", "taps", ("layer2", "layer3")),
        ("taps=8", "taps", (8,)),
        ("value_range=0,4095", "value_range", (0.0, 4095.0)),
        ("size=256,320", "size", (256, 320)),
        ("size=320", "size", 320),
        ("members=fast,default", "members", (Recipe.named("fast"), Recipe())),
    ],
)
def test_set_takes_json_or_plain_words(assignment, field, value):
    assert getattr(Recipe().set(assignment), field) == value


def test_set_applies_several_together():
    # Either one alone would be refused.
    recipe = Recipe().set("resize=short_side", "crop=224")
    assert (recipe.resize, recipe.crop) == ("short_side", 224)
    assert Recipe().set() == Recipe()
    assert Recipe().set("seed=1", "seed=2").seed == 2


def test_set_without_an_equals_sign_is_an_error():
    with pytest.raises(RecipeError, match=r"'ratio' sets nothing; expected field=value, for example ratio=0\.05"):
        Recipe().set("ratio")


def test_set_of_an_unknown_field_is_an_error():
    with pytest.raises(RecipeError, match=r"There is no recipe field 'ration'\. Did you mean 'ratio'\?"):
        Recipe().set("ration=0.1")


@pytest.mark.parametrize("value", ["much", "0,05", "5%", "True", "EVEN"])
def test_set_of_a_wrong_value_is_an_error(value):
    with pytest.raises(RecipeError, match=f"Recipe field ratio got '{value}'"):
        Recipe().set(f"ratio={value}")


@pytest.mark.parametrize("assignment", ["seed=true", "ratio=true", "sigma=false", "taps=[true]"])
def test_true_is_no_number(assignment):
    with pytest.raises(RecipeError, match=r"got .*(True|False).*; no field is true or false"):
        Recipe().set(assignment)


def test_a_recipe_file_that_states_a_field_twice_is_an_error(tmp_path):
    (tmp_path / "r.json").write_text('{"size": 128, "ratio": 0.1, "size": 256}')
    with pytest.raises(RecipeError, match=r"r\.json cannot be read: 'size' is in it twice"):
        Recipe.read(tmp_path / "r.json")


def test_a_recipe_file_may_begin_with_a_mark(tmp_path):
    (tmp_path / "r.json").write_bytes(b'\xef\xbb\xbf{"size": 128}')
    assert Recipe.read(tmp_path / "r.json").size == 128


# ---- named recipes


@pytest.mark.parametrize("name", Recipe.names())
def test_every_named_recipe_is_valid_and_described(name):
    assert isinstance(Recipe.named(name), Recipe)
    assert Recipe.names()[name]


def test_the_default_recipe_is_a_named_one():
    assert Recipe.named("default") == Recipe()


def test_the_seed_families_have_the_choices_of_their_families():
    lightning, inspection = Recipe.named("lightning"), Recipe.named("inspection")
    for recipe in (lightning, inspection):
        assert (recipe.size, recipe.crop, recipe.patch_size, recipe.ratio) == (256, 224, 3, 0.1)
        assert (recipe.pool_border, recipe.align, recipe.sigma) == ("zeros", "bilinear", 4)
        assert (recipe.neighbours, recipe.coreset, recipe.scaling) == (1, "k_center", "none")
    assert (lightning.pool, lightning.merge, lightning.distance) == ("mean", "concat", "l2")
    assert (lightning.image_score, lightning.reweight_neighbours) == ("reweighted", 9)
    assert (lightning.upsample, lightning.map_border, lightning.projection) == ("nearest", "mirror", "sparse")
    assert (lightning.start, lightning.backbone) == ("random", "wide_resnet50_2")
    assert (inspection.pool, inspection.merge, inspection.distance) == ("bins", "bins", "squared_l2")
    assert (inspection.image_score, inspection.tap_bins, inspection.bins) == ("max", 1024, 1024)
    assert (inspection.upsample, inspection.map_border, inspection.projection) == ("bilinear", "symmetric", "dense")
    assert (inspection.start, inspection.projection_dims) == ("mean_of_ten", 128)
    assert inspection.backbone == "wide_resnet50_2.tv_in1k"


def test_an_unknown_name_suggests_the_nearest_and_lists_all():
    with pytest.raises(RecipeError) as caught:
        Recipe.named("lightening")
    text = str(caught.value)
    assert text.startswith("There is no recipe 'lightening'. Did you mean 'lightning'? Known: ")
    assert all(name in text for name in Recipe.names())


# ---- files


def write(path, fields):
    path.write_text(fields if isinstance(fields, str) else json.dumps(fields), encoding="utf-8")
    return path


def test_a_recipe_file_says_what_differs_from_the_default(tmp_path):
    path = write(tmp_path / "r.json", {"size": [128, 256], "sigma": 2, "weights": "Tür.pt"})
    assert Recipe.read(path) == Recipe(size=(128, 256), sigma=2, weights="Tür.pt")
    assert Recipe.read(str(write(path, {}))) == Recipe()


def test_a_recipe_file_may_differ_from_another_recipe(tmp_path):
    path = write(tmp_path / "r.json", {"base": "inspection", "ratio": 0.01})
    assert Recipe.read(path) == Recipe.named("inspection").replace(ratio=0.01)


@pytest.mark.parametrize("base", ["nope", 5, None, ["fast"], {"name": "fast"}])
def test_a_recipe_file_on_an_unknown_base_is_an_error(tmp_path, base):
    with pytest.raises(RecipeError, match=r"There is no recipe .*Known: default"):
        Recipe.read(write(tmp_path / "r.json", {"base": base}))


@pytest.mark.parametrize("text", ["", "size: 128", "{'size': 128}"])
def test_a_recipe_file_that_is_no_json_is_an_error(tmp_path, text):
    with pytest.raises(RecipeError, match=r"The recipe file .*r\.json cannot be read: .+\. Expected JSON\."):
        Recipe.read(write(tmp_path / "r.json", text))


def test_a_recipe_file_that_is_not_text_is_an_error(tmp_path):
    (tmp_path / "r.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.read(tmp_path / "r.json")


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("3", "int"), ('"fast"', "str"), ("null", "NoneType")])
def test_a_recipe_file_that_is_no_object_is_an_error(tmp_path, text, kind):
    with pytest.raises(RecipeError, match=rf"r\.json holds a {kind}; expected an object"):
        Recipe.read(write(tmp_path / "r.json", text))


def test_a_missing_recipe_file_is_an_error(tmp_path):
    with pytest.raises(RecipeError, match=r"The recipe file .*none\.json cannot be read"):
        Recipe.read(tmp_path / "none.json")


def test_a_wrong_field_in_a_recipe_file_is_an_error(tmp_path):
    with pytest.raises(RecipeError, match="Did you mean 'sigma'"):
        Recipe.read(write(tmp_path / "r.json", {"sigme": 2}))


# ---- to_dict


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(Recipe.names())),
    seed=st.integers(0, 2**32 - 1),
    sigma=st.floats(0, 100),
    ratio=st.floats(1e-6, 1),
)
def test_a_recipe_comes_back_from_json_as_it_was(name, seed, sigma, ratio):
    recipe = Recipe.named(name).replace(seed=seed, sigma=sigma, ratio=ratio)
    assert Recipe(**json.loads(json.dumps(recipe.to_dict(), allow_nan=False))) == recipe


@pytest.mark.parametrize("weights", ["pretrained", "random", "w.pt", "some/folder/w.pt", "/home/me/secret/w.pt"])
def test_no_folder_of_this_machine_is_kept(weights):
    data = Recipe(weights=weights).to_dict()
    assert data["weights"] == Path(weights).name
    assert set(data) == set(Recipe.model_fields)


# ---- ensembles

TWO = Recipe(members=("default", {"base": "fast", "ratio": 0.05}), seed=3, false_reject_rate=0.1)


def test_members_are_recipes_names_or_fields_on_a_base():
    assert TWO.members == (Recipe(), Recipe.named("fast").replace(ratio=0.05))
    assert Recipe(members=[Recipe(), Recipe(size=128)]).members == (Recipe(), Recipe(size=128))


def test_each_is_the_members_with_what_is_one_for_all_of_them():
    assert [member.seed for member in TWO.each] == [3, 3]
    assert [member.false_reject_rate for member in TWO.each] == [0.1, 0.1]
    assert [member.ratio for member in TWO.each] == [0.02, 0.05]
    assert Recipe(size=128).each == (Recipe(size=128),)


def test_an_ensemble_survives_json_and_files(tmp_path):
    assert Recipe(**json.loads(json.dumps(TWO.to_dict(), allow_nan=False))) == TWO
    fields = {"members": ["default", {"base": "fast", "ratio": 0.05}], "seed": 3, "false_reject_rate": 0.1}
    assert Recipe.read(write(tmp_path / "r.json", fields)) == TWO
    assert hash(Recipe.read(tmp_path / "r.json")) == hash(TWO)
    weights = Recipe(members=({"weights": "some/where/x.pt"}, "default")).to_dict()["members"][0]["weights"]
    assert weights == "x.pt"


def test_what_is_changed_in_an_ensemble_is_changed_in_each_member_unless_it_is_one_for_all():
    changed = TWO.replace(ratio=0.1, seed=7)
    assert [member.ratio for member in changed.each] == [0.1, 0.1]
    assert (changed.seed, changed.members[0].seed) == (7, 0)
    assert TWO.set("size=64", "calibration_share=0.5").each[1].size == 64
    assert TWO.set('members=["fast","default"]').members == (Recipe.named("fast"), Recipe())


def test_several_recipes_are_joined_with_what_they_share():
    assert Recipe.ensemble(Recipe(size=128)) == Recipe(size=128)
    joined = Recipe.ensemble(Recipe(seed=3), Recipe(size=128), Recipe(value_range=(0, 4095)))
    assert (joined.seed, joined.value_range, len(joined.members)) == (3, (0, 4095), 3)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"members": ("default",)}, "members has 1 recipe; an ensemble has two or more"),
        ({"members": ("default", "fsat")}, "Member 2: There is no recipe 'fsat'. Did you mean 'fast'?"),
        ({"members": ("default", {"base": "slow"})}, "Member 2: There is no recipe 'slow'"),
        ({"members": ("default", {"sigme": 2})}, "Member 2: There is no recipe field 'sigme'. Did you mean 'sigma'?"),
        ({"members": ({"ratio": 3}, "default")}, "Member 1: Recipe field ratio got 3"),
        ({"members": ("default", "fast", {"seed": 0})}, "members 1 and 3 are the same recipe"),
        ({"members": ("default", TWO)}, "member 2 has members itself; list them all in one recipe"),
        ({"members": ("default", "fast"), "ratio": 0.1}, "ratio is 0.1; with members, set it in each of them instead"),
        ({"members": ("default", {"seed": 3})}, "member 2 has seed=3, and the whole 0"),
        ({"members": ({"backbone": "module"}, "fast")}, "member 1 has backbone='module'"),
        ({"members": 3}, "Recipe field members got 3"),
        ({"members": ("default", 7)}, "Recipe field members got 7"),
    ],
)
def test_members_that_cannot_be_joined_say_why(fields, says):
    assert says in explained(**fields)


def test_augmentations_to_remember_are_given_once_and_by_name():
    assert Recipe().set('augment=["flip_h", "rotate_90"]').augment == ("flip_h", "rotate_90")
    with pytest.raises(RecipeError, match="give each augmentation once"):
        Recipe(augment=("flip_h", "flip_h"))
    with pytest.raises(RecipeError, match=r"augment.*flip_v"):
        Recipe(augment=("mirror",))


def test_a_recipe_file_is_named_by_its_errors(tmp_path):
    path = tmp_path / "mine.json"
    for text, says in (
        ('{"size": 0}', "size got 0"),
        ('{"size": ' + "[" * 1000 + "]" * 1000 + "}", "within more than 100 others"),
        ('{"value_range": [0, 1e-300]}', "at least 1e-30 apart"),
        ('{"size": 8192, "scales": [1, 4]}', "at most 268435456"),
    ):
        path.write_text(text)
        with pytest.raises(RecipeError, match=rf"The recipe file .*mine\.json.*{says}"):
            Recipe.read(path)
    with pytest.raises(RecipeError, match="size got "):
        Recipe().set("size=" + "[" * 1000 + "]" * 1000)


@pytest.mark.parametrize("value", [1e99, -1e99, math.nan, math.inf, -math.inf, -1, 10**99, 1.5, "abc", True, [1], {}])
@pytest.mark.parametrize(
    "field", [name for name, one in Recipe.model_fields.items() if re.search(r"\b(int|float)\b", str(one.annotation))]
)
def test_whatever_a_number_gets_is_taken_or_refused_in_plain_words(field, value):
    try:
        taken = Recipe(**{field: value})
    except RecipeError as error:
        said = str(error)
        assert said.startswith(("Recipe field ", "Recipe: "))
        assert not re.search("parse|validation|required|integer|tuple", said.partition(". ")[0], re.IGNORECASE), said
    else:
        assert math.isfinite(np.sum(getattr(taken, field)))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": 1e99}, r"size got 1e\+99: Input is far too large or small\. Size in pixels"),
        ({"size": [1]}, r"size got \[1\]: Input should be a list with more values\. Size in pixels"),
        ({"value_range": math.nan}, r"value_range got nan: Input should be a list\. Pixel values"),
    ],
)
def test_what_a_number_should_be_is_said(fields, said):
    with pytest.raises(RecipeError, match=said):
        Recipe(**fields)
