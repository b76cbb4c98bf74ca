"""Regions of interest from files."""

import json

import numpy as np
import pytest
from PIL import Image

from patchcore import Area, Roi, UsageError, read_region
from patchcore.maths.resize import Frame
from patchcore.pipeline.roi import pixels_of

SQUARE = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]


def written(path, given):
    path.write_text(json.dumps(given), "utf-8")
    return path


def test_one_area_may_stand_alone_and_several_have_names(tmp_path):
    area = {"include": [SQUARE], "exclude": [SQUARE[:3]]}
    alone = read_region(written(tmp_path / "a.json", area))
    assert alone == Roi(areas=[Area(include=[SQUARE], exclude=[SQUARE[:3]])])
    two = read_region(written(tmp_path / "b.JSON", {"areas": [{"name": "a", **area}, {"name": "b", **area}]}))
    assert two.names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "EOF"),
        ("[]", "Expected polygons with corners from 0 to 1"),
        ('{"include": [[[0, 0], [1, 0]]]}', "at least 3 items"),
        ('{"areas": [{"include": [[[0, 0], [1, 0], [0, 1]]]}, {"name": "b"}]}', "each needs a name of its own"),
        ('{"include": [[[0, 0], [100, 0], [1, 1]]]}', "less than or equal to 1"),
        ('{"include": [[[0, 0], [NaN, 0], [1, 1]]]}', "finite|less than"),
        ('{"polygons": []}', "polygons"),
        ('{"areas": []}', "areas got"),
    ],
)
def test_what_is_no_region_says_what_was_expected(tmp_path, text, said):
    path = tmp_path / "a.json"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=said) as raised:
        read_region(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["a.json", "a.png"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(UsageError, match=name):
        read_region(tmp_path / name)


def test_a_mask_is_exact_at_the_centres_of_its_pixels(tmp_path):
    mask = np.random.default_rng(0).random((40, 60)).repeat(3, 0) > 0.4
    Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "mask.png")  # 0 and 1: whatever is not black
    roi = read_region(tmp_path / "mask.png")
    assert np.array_equal(pixels_of(roi, Frame((120, 60), (120, 60), (120, 60))).numpy(), mask)


def test_a_large_mask_is_exact_to_a_pixel_of_1024(tmp_path):
    mask = np.zeros((3000, 4000), np.uint8)
    mask[701:2203, 1303:3001] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (polygon,) = read_region(tmp_path / "mask.png").areas[0].include
    low, high = np.min(polygon, 0), np.max(polygon, 0)
    wanted = np.array([1303 / 4000, 701 / 3000, 3001 / 4000, 2203 / 3000])
    assert np.abs(np.append(low, high) - wanted).max() <= 1 / 768


@pytest.mark.parametrize(("value", "what"), [(0, "nothing"), (255, "all of the image")])
def test_a_mask_that_chooses_nothing_is_refused(tmp_path, value, what):
    Image.fromarray(np.full((9, 9), value, np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(UsageError, match=f"marks {what}"):
        read_region(tmp_path / "mask.png")
