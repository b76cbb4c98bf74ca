"""`patchcore datasets`, and commands on datasets as they come."""

import csv
import shutil

import pytest
from cli_helpers import SMALL, lines
from PIL import Image

from patchcore.data.layouts import datasets as known
from patchcore.data.layouts import elpv
from patchcore.data.resolve import detect


def test_datasets_lists_source_licence_and_how_to_get_it(run):
    done = run("datasets")
    assert done.exit_code == 0
    for about, _ in known():
        for text in (about.title, about.source, about.licence, about.get):
            assert text in done.stdout
    assert "plain folders" in done.stdout


def test_datasets_as_json(run):
    rows = lines(run("datasets", "--json").stdout)
    assert [row["name"] for row in rows] == [about.name for about, _ in known()]
    for row in rows:
        assert set(row) == {"name", "title", "source", "licence", "get", "tree", "reading", "cite", "path"}
        expected = elpv.installed() if row["name"] == "elpv" else None
        assert row["path"] == (None if expected is None else str(expected))


def test_datasets_where_elpv_is_not_installed(run, monkeypatch):
    monkeypatch.setattr("patchcore.data.layouts.elpv.find_spec", lambda name: None)
    assert {row["path"] for row in lines(run("datasets", "--json").stdout)} == {None}
    assert "installed here" not in run("datasets").stdout


@pytest.fixture
def visa(hazelnut, tmp_path):
    """Hazelnuts in the layout of VisA, with masks that number the kind of defect."""
    rows = [("object", "split", "label", "image", "mask")]

    def put(file, kind, split, label, mask=""):
        path = f"nut/Data/Images/{kind}/{file.stem}.JPG"
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / path)
        rows.append(("nut", split, label, path, mask))

    for file in sorted((hazelnut / "train/good").iterdir()):
        put(file, "Normal", "train", "normal")
    for file in sorted((hazelnut / "test/good").iterdir()):
        put(file, "Normal", "test", "normal")
    for file in sorted((hazelnut / "test/colour").iterdir()):
        mask = tmp_path / "nut/Data/Masks/Anomaly" / f"{file.stem}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(hazelnut / "ground_truth/colour" / f"{file.stem}_mask.png") as image:
            image.convert("L").point(lambda value: 2 if value else 0).save(mask)
        put(file, "Anomaly", "test", "anomaly", mask.relative_to(tmp_path).as_posix())
    (tmp_path / "split_csv").mkdir()
    with (tmp_path / "split_csv/1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path


def test_visa_can_be_fitted_and_measured(run, visa, tmp_path):
    done = run("fit", visa / "nut", "-o", tmp_path / "m", *SMALL)
    assert done.exit_code == 0, done.stderr
    assert "VisA" in done.stderr
    done = run("evaluate", tmp_path / "m", visa / "nut", "--json")
    assert done.exit_code == 0, done.stderr
    (row,) = lines(done.stdout)
    assert row["image_auroc"] > 0.9
    assert row["pixel_auroc"] > 0.9


@pytest.mark.skipif(elpv.installed() is None, reason="needs the package elpv-dataset")
def test_elpv_can_be_fitted_and_measured(run, hazelnut, tmp_path):
    root = tmp_path / "cells"
    (root / "images").mkdir(parents=True)
    rows = [line.split() for line in (elpv.installed() / "labels.csv").read_text("utf-8").splitlines()]
    mono = [row for row in rows if row[2] == "mono"]
    kept = [row for row in mono if row[1] == "0.0"][:16] + [row for row in mono if row[1] == "1.0"][:4]
    for name, _, _ in kept:
        shutil.copy(elpv.installed() / name, root / name)
    (root / "labels.csv").write_text("".join(f"{'  '.join(row)}\n" for row in kept))
    done = run("fit", root / "mono", "-o", tmp_path / "m", *SMALL, "--json")
    assert done.exit_code == 0, done.stderr
    done = run("evaluate", tmp_path / "m", root / "mono", "--json")
    assert done.exit_code == 0, done.stderr
    (row,) = lines(done.stdout)
    assert row["images"] == len(detect(root / "mono").test) > 4
    assert row["image_auroc"] is not None
    assert row["pixel_auroc"] is None


def test_a_category_that_is_not_there_is_wrong_usage(run, tmp_path):
    (tmp_path / "labels.csv").write_text("images/cell0001.png 0.0 mono\n")
    done = run("fit", tmp_path / "polly", "-o", tmp_path / "m")
    assert done.exit_code == 2
    assert "polly' does not exist" in done.stderr


def test_several_categories_are_an_error_that_names_them(run, visa, tmp_path):
    shutil.copytree(visa / "nut", visa / "nut2")
    done = run("fit", visa, "-o", tmp_path / "m")
    assert done.exit_code == 1
    assert "holds 2 categories (nut, nut2); give one of them" in done.stderr
