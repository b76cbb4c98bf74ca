"""Which images are good, which defective, and which stay together."""

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from patchcore import DataError, ImageError, Reading, UsageError
from patchcore.data.resolve import detect
from patchcore.data.sample import Dataset
from patchcore.tuning import Images, defects_at, gather

READING = {"reading": Reading(threads=2, max_pixels=10**8)}


def images(folder, *names):
    """An image of its own for each name; a name after `=` gives the one whose pixels it has."""
    for name in names:
        path, _, same = name.partition("=")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(zlib.crc32((same or path).encode())).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / path)
    return folder


def good_in(folder):
    return detect(folder).train


@settings(max_examples=40)
@given(st.lists(st.integers(0, 12), min_size=20, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_folds_keep_parts_together_and_are_of_about_the_same_size(units, count, seed):
    units = [*range(13), *units]  # no number is left out
    fold = Images([None] * len(units), units, [], []).folds(count, seed)
    assert all(len({int(fold[i]) for i, unit in enumerate(units) if unit == part}) == 1 for part in set(units))
    sizes = np.bincount(fold, minlength=count)
    assert sizes.min() > 0
    assert sizes.max() - sizes.min() <= np.bincount(units).max()
    assert (fold == Images([None] * len(units), units, [], []).folds(count, seed)).all()


def test_folds_differ_with_the_seed():
    alone = Images([None] * 30, list(range(30)), [], [])
    assert (alone.folds(3, 0) != alone.folds(3, 1)).any()
    assert list(np.bincount(alone.folds(4, 0))) == [8, 8, 7, 7]


def test_too_few_parts_are_said():
    with pytest.raises(DataError, match="6 good images of 3 parts for 5 folds; each fold needs at least one part"):
        Images([None] * 6, [0, 0, 1, 1, 2, 2], [], []).folds(5, 0)


def test_copies_and_images_of_one_part_are_one_unit(tmp_path):
    names = ("part1_a.png", "part1_b.png", "part2_a.png", "part3_a.png", "part4_a.png=part2_a.png")
    good = good_in(images(tmp_path, *names))
    assert gather(good, [], **READING).units == [0, 1, 2, 3, 2]
    found = gather(good, [], r"part(\d)_", **READING)
    assert found.units == [0, 0, 1, 2, 1]
    assert found.copies == 1
    assert gather(good, [], r"part\d", **READING).units == found.units


def test_a_table_says_which_part_an_image_shows(tmp_path):
    images(tmp_path, "a.png", "b.png", "c.png", "d.png")
    (tmp_path / "t.csv").write_text("path,label,part\na.png,good,one\nb.png,good,\nc.png,good,one\nd.png,bad,one\n")
    found = detect(tmp_path / "t.csv")
    defects, _ = defects_at("test", tmp_path / "t.csv", found)
    gathered = gather(found.train, defects, **READING)
    assert (gathered.units, gathered.defective_units) == ([0, 1, 0], [0])


def test_a_part_that_is_not_in_every_good_name_is_said(tmp_path):
    good = good_in(images(tmp_path, "part1.png", "other.png"))
    with pytest.raises(
        UsageError, match=r"'part\(.*matches nothing in other\.png\. Expected a match in the name of ev"
    ):
        gather(good, [], r"part(\d)", **READING)
    with pytest.raises(UsageError, match="expected a regular expression"):
        gather(good, [], "(", **READING)


def test_a_good_image_that_is_given_as_defective_is_refused(tmp_path):
    good = good_in(images(tmp_path / "good", "a.png", "b.png"))
    images(tmp_path / "bad", "x.png", "y.png=b.png")
    defects, _ = defects_at(str(tmp_path / "bad"), tmp_path / "good", detect(tmp_path / "good"))
    with pytest.raises(
        DataError, match=r"y\.png is given as defective, but has the same pixels as .*good image b\.png"
    ):
        gather(good, defects, **READING)


def test_an_image_that_cannot_be_read_is_named_or_left_out(tmp_path):
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "c.png").write_bytes(b"this is no image")
    good = good_in(tmp_path)
    with pytest.raises(ImageError, match=r"c\.png"):
        gather(good, [], **READING)
    bad = []
    assert len(gather(good, [], reading=Reading(on_bad=bad.append, threads=2)).good) == 2
    assert [error.name for error in bad] == ["c.png"]


def test_defects_of_the_test_split_have_to_be_asked_for_and_are_said_to_be_spent(hazelnut, tmp_path):
    found = detect(hazelnut)
    for where in ("test", str(hazelnut / "test"), str(hazelnut / "test" / "colour"), str(hazelnut)):
        defects, notes = defects_at(where, hazelnut, found)
        assert {Path(sample.name).name for sample in defects} == {"00.jpg", "01.jpg", "02.jpg", "03.jpg"}
        assert all(sample.kind != "good" for sample in defects)
        assert any(
            "4 defective images of the test split of" in n and "no longer an independent test" in n for n in notes
        )
    _, notes = defects_at(str(hazelnut / "test"), hazelnut, found)
    assert "left out 3 images in folders of good ones" in notes[0]
    shutil.copytree(hazelnut / "test/colour", tmp_path / "others")
    assert defects_at(str(tmp_path / "others"), hazelnut, found)[1] == []


def test_kinds_are_the_names_of_folders(tmp_path):
    images(tmp_path / "bad", "x.png", "scratch/y.png", "OK/z.png")
    defects, notes = defects_at(str(tmp_path / "bad"), tmp_path, Dataset(""))
    assert [(Path(sample.name).name, sample.kind) for sample in defects] == [("y.png", "scratch"), ("x.png", "defect")]
    assert "left out 1 image in folders of good ones" in notes[0]


def test_a_table_labels_its_defects(tmp_path):
    images(tmp_path, "x.png", "y.png")
    (tmp_path / "t.csv").write_text("path,label\nx.png,good\ny.png,scratch\n")
    defects, _ = defects_at(str(tmp_path / "t.csv"), tmp_path, Dataset(""))
    assert [(Path(sample.name).name, sample.kind) for sample in defects] == [("y.png", "scratch")]


@pytest.mark.parametrize(
    ("where", "error", "said"),
    [
        ("nowhere", UsageError, "--defects is 'nowhere', but there is no such folder or table"),
        ("test", DataError, "there are no defective images to test on"),
        ("GOOD", DataError, "all of its images are in folders of good ones"),
        ("TABLE", DataError, "expected defective images"),
        ("EMPTY", DataError, "holds no images"),
    ],
)
def test_what_holds_no_defects_is_said(tmp_path, hazelnut, where, error, said):
    images(tmp_path, "good/a.png")
    (tmp_path / "t.csv").write_text("path,label\ngood/a.png,good\n")
    (tmp_path / "empty").mkdir()
    places = {"GOOD": tmp_path / "good", "TABLE": tmp_path / "t.csv", "EMPTY": tmp_path / "empty"}
    with pytest.raises(error, match=said):
        defects_at(str(places.get(where, where)), tmp_path / "good", detect(tmp_path / "good"))
