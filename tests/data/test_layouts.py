"""Each layout on a small tree of exactly its shape, and on halves of it."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchcore import Detector
from patchcore.data import layouts
from patchcore.data.layouts import categories, elpv
from patchcore.data.masks import read_mask
from patchcore.data.resolve import detect, resolve
from patchcore.errors import DataError

SIZE = (6, 5)
SHARED = Path(__file__).parents[3] / "shared" / "data"


def image(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (90, 120, 60)).save(path)


def mask(path, value=255):
    """A mask whose upper left pixel is defective; with 0, an empty one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(SIZE[::-1], np.uint8)
    pixels[0, 0] = value
    Image.fromarray(pixels).save(path)


def names(found):
    return [sample.name for sample in found]


def looked_at(found):
    """Name, kind and mask (below the tree) of what is tested on."""
    return [(s.name, s.kind, s.mask and "/".join(s.mask.parts[-2:])) for s in found.test]


# ---- trees of the exact shapes


def mvtec_ad(root):
    image(*(root / f"train/good/{n:03}.png" for n in range(3)))
    image(root / "test/good/000.png", root / "test/hole/000.png", root / "test/scratches/026.png")
    mask(root / "ground_truth/hole/000_mask.png")
    mask(root / "ground_truth/scratches/026_mask.png")
    return root


def mvtec_ad2(root):
    image(root / "train/good/000_regular.png", root / "train/good/001_regular.png")
    image(root / "validation/good/000_regular.png")
    image(root / "test_public/good/000_regular.png", root / "test_public/good/000_overexposed.png")
    image(root / "test_public/bad/000_regular.png")
    mask(root / "test_public/ground_truth/bad/000_regular_mask.png")
    image(root / "test_private/000.png", root / "test_private/001.png", root / "test_private_mixed/000.png")
    return root


def mvtec_loco(root):
    image(root / "train/good/000.png", root / "train/good/001.png")
    image(root / "validation/good/000.png", root / "validation/good/001.png")
    image(root / "test/good/000.png", root / "test/logical_anomalies/000.png")
    image(root / "test/structural_anomalies/000.png", root / "test/structural_anomalies/001.png")
    for name in ("logical_anomalies/000/000", "logical_anomalies/000/001", "structural_anomalies/000/000"):
        mask(root / f"ground_truth/{name}.png", 254)
    mask(root / "ground_truth/structural_anomalies/001/000.png", 253)
    (root / "defects_config.json").write_text("[]")
    return root


def visa(root, objects=("candle", "pcb1")):
    rows = [("object", "split", "label", "image", "mask")]
    for name in objects:
        for n, split in enumerate(("train", "train", "test")):
            path = f"{name}/Data/Images/Normal/{n:04}.JPG"
            image(root / path)
            rows.append((name, split, "normal", path, ""))
        path, truth = f"{name}/Data/Images/Anomaly/000.JPG", f"{name}/Data/Masks/Anomaly/000.png"
        image(root / path)
        mask(root / truth, 3)  # the third kind of defect
        rows.append((name, "test", "anomaly", path, truth))
        (root / name / "image_anno.csv").write_text("image,label,mask\n")
    (root / "split_csv").mkdir(parents=True)
    with (root / "split_csv/1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def btad(root):
    for category, images, masks in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        folder = root / category
        image(folder / f"train/ok/0000.{images}", folder / f"train/ok/0001.{images}")
        image(folder / f"test/ok/0000.{images}", folder / f"test/ko/0000.{images}")
        mask(folder / f"ground_truth/ko/0000.{masks}")
    return root


def kolektor(root):
    """Five items of three parts; Part1 of every other item is defective."""
    for n in range(1, 6):
        for part in range(3):
            image(root / f"kos{n:02}/Part{part}.jpg")
            mask(root / f"kos{n:02}/Part{part}_label.bmp", 255 * (part == 1 and n % 2))
    return root


def magnetic_tile(root):
    for name in ("exp0_num_743", "exp1_num_10181", "exp1_num_10334"):  # only the last is kept for testing
        image(root / f"MT_Free/Imgs/{name}.jpg")
        mask(root / f"MT_Free/Imgs/{name}.png", 0)
    for kind in ("Blowhole", "Break", "Crack", "Fray", "Uneven"):
        image(root / f"MT_{kind}/Imgs/exp1_num_7.jpg")
        mask(root / f"MT_{kind}/Imgs/exp1_num_7.png")
    image(root / "MT_Uneven/Imgs/exp3_num_45042.jpg")
    mask(root / "MT_Uneven/Imgs/exp3_num_45042.png", 0)
    return root


def solar_cells(root):
    """The SHA-1 of cell0001.png, cell0003.png, cell0010.png and cell0012.png leaves less than 30 (by sha1sum)."""
    lines = []
    for n, probability, kind in (
        (1, 0.0, "mono"),
        (2, 0.0, "mono"),
        (3, 1.0, "mono"),
        (4, 1.0, "mono"),
        (5, 0.3333333333333333, "mono"),
        (10, 0.0, "poly"),
        (11, 0.0, "poly"),
        (12, 0.6666666666666666, "poly"),
    ):
        image(root / f"images/cell{n:04}.png")
        lines.append(f"images/cell{n:04}.png  {probability}                 {kind}\n")
    (root / "labels.csv").write_text("".join(lines))
    return root


# ---- what is read of them


def test_mvtec_ad_and_mpdd(tmp_path):
    found = detect(mvtec_ad(tmp_path / "MPDD" / "bracket_black"))
    assert names(found.train) == ["train/good/000.png", "train/good/001.png", "train/good/002.png"]
    assert looked_at(found) == [
        ("test/good/000.png", "good", None),
        ("test/hole/000.png", "hole", "hole/000_mask.png"),
        ("test/scratches/026.png", "scratches", "scratches/026_mask.png"),
    ]


def test_in_the_mvtec_ad_layout_a_mask_may_have_the_images_name_and_another_format(tmp_path):
    # What prepare_data.py of VisA writes.
    image(tmp_path / "train/good/0000.JPG", tmp_path / "test/good/0001.JPG", tmp_path / "test/bad/000.JPG")
    mask(tmp_path / "ground_truth/bad/000.png")
    assert looked_at(detect(tmp_path)) == [
        ("test/bad/000.JPG", "bad", "bad/000.png"),
        ("test/good/0001.JPG", "good", None),
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ground_truth/hole/000_gt.png", r"1 image \(ground_truth/hole/000_gt\.png\)\. The mask of test/KIND/STEM"),
        ("ground_truth/000_mask.png", r"1 image \(ground_truth/000_mask\.png\)"),
        ("ground_truth/hole/000.gif", r"1 file that is no image by its extension \(\.gif\)"),
        ("ground_truth/Hole/000_mask.png", r"1 image \(ground_truth/Hole/000_mask\.png\)"),
        ("ground_truth/hole/000_mask.bmp", None),
        ("ground_truth/good/000_mask.png", None),
    ],
)
def test_masks_of_no_image_are_said(tmp_path, name, said, caplog):
    image(tmp_path / "train/good/000.png", tmp_path / "test/good/000.png", tmp_path / "test/hole/000.png")
    mask(tmp_path / name)
    detect(tmp_path)
    assert re.search(f"of no image in test: {said}", caplog.text) if said else caplog.text == ""


def test_mvtec_ad2_is_tested_on_its_public_set(tmp_path):
    found = detect(mvtec_ad2(tmp_path / "can"))
    assert names(found.train) == ["train/good/000_regular.png", "train/good/001_regular.png"]
    assert looked_at(found) == [
        ("test_public/bad/000_regular.png", "bad", "bad/000_regular_mask.png"),
        ("test_public/good/000_overexposed.png", "good", None),
        ("test_public/good/000_regular.png", "good", None),
    ]
    assert found.description == (
        "MVTec AD 2, 2 good to train on, 2 good and 1 defective to test on; not used: 1 image of validation/good, "
        "2 images of test_private, 1 image of test_private_mixed"
    )


def test_mvtec_ad2_without_its_private_sets(tmp_path):
    root = mvtec_ad2(tmp_path / "can")
    for name in ("validation", "test_private", "test_private_mixed"):
        shutil.rmtree(root / name)
    assert detect(root).description == "MVTec AD 2, 2 good to train on, 2 good and 1 defective to test on"


def test_mvtec_loco_is_read_at_image_level(tmp_path):
    found = detect(mvtec_loco(tmp_path / "pushpins"))
    assert names(found.train) == ["train/good/000.png", "train/good/001.png"]
    assert looked_at(found) == [
        ("test/good/000.png", "good", None),
        ("test/logical_anomalies/000.png", "logical_anomalies", None),
        ("test/structural_anomalies/000.png", "structural_anomalies", None),
        ("test/structural_anomalies/001.png", "structural_anomalies", None),
    ]
    assert found.description.endswith("at image level; not used: 2 images of validation/good")


def test_visa_is_split_by_its_table(tmp_path):
    found = detect(visa(tmp_path / "VisA") / "candle")
    assert names(found.train) == ["candle/Data/Images/Normal/0000.JPG", "candle/Data/Images/Normal/0001.JPG"]
    assert looked_at(found) == [
        ("candle/Data/Images/Normal/0002.JPG", "good", None),
        ("candle/Data/Images/Anomaly/000.JPG", "anomaly", "Anomaly/000.png"),
    ]
    assert found.train[0].image == tmp_path / "VisA/candle/Data/Images/Normal/0000.JPG"
    # Its masks number the kinds of defect: nothing in them is bright.
    assert read_mask(found.test[1].mask, SIZE[::-1]).sum() == 1


def test_an_object_of_visa_is_found_from_inside_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(visa(tmp_path) / "pcb1")
    assert names(detect(".").train)[0] == "pcb1/Data/Images/Normal/0000.JPG"


@pytest.mark.parametrize(
    ("category", "images", "masks"), [("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")]
)
def test_btad(tmp_path, category, images, masks):
    found = detect(btad(tmp_path) / category)
    assert names(found.train) == [f"train/ok/0000.{images}", f"train/ok/0001.{images}"]
    assert {sample.kind for sample in found.train} == {"good"}
    assert looked_at(found) == [
        (f"test/ko/0000.{images}", "ko", f"ko/0000.{masks}"),
        (f"test/ok/0000.{images}", "good", None),
    ]


def test_kolektor_is_split_by_item(tmp_path):
    found = detect(kolektor(tmp_path))
    # `printf 0:kos04 | sha1sum` and so on put the items in the order 04, 03, 01, 02, 05: three are to train on.
    assert names(found.train) == [
        "kos01/Part0.jpg", "kos01/Part2.jpg",
        "kos03/Part0.jpg", "kos03/Part2.jpg",
        "kos04/Part0.jpg", "kos04/Part1.jpg", "kos04/Part2.jpg",
    ]  # fmt: skip
    assert [sample.part for sample in found.train] == ["kos01"] * 2 + ["kos03"] * 2 + ["kos04"] * 3
    assert looked_at(found) == [
        ("kos02/Part0.jpg", "good", None),
        ("kos02/Part1.jpg", "good", None),
        ("kos02/Part2.jpg", "good", None),
        ("kos05/Part0.jpg", "good", None),
        ("kos05/Part1.jpg", "defect", "kos05/Part1_label.bmp"),
        ("kos05/Part2.jpg", "good", None),
    ]
    assert found.description.endswith("left out: 2 defective images of the training items")


def test_magnetic_tiles_are_split_by_tile(tmp_path):
    found = detect(magnetic_tile(tmp_path))
    assert names(found.train) == ["MT_Free/Imgs/exp0_num_743.jpg", "MT_Free/Imgs/exp1_num_10181.jpg"]
    assert looked_at(found) == [
        ("MT_Free/Imgs/exp1_num_10334.jpg", "good", None),
        *((f"MT_{kind.title()}/Imgs/exp1_num_7.jpg", kind, "Imgs/exp1_num_7.png")
          for kind in ("blowhole", "break", "crack", "fray", "uneven")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "train", "test"),
    [
        ("mono", ["images/cell0002.png"], ["images/cell0001.png", "images/cell0003.png", "images/cell0004.png"]),
        ("poly", ["images/cell0011.png"], ["images/cell0010.png"]),
    ],
)
def test_elpv_is_split_by_the_names_of_its_files(tmp_path, kind, train, test):
    root = solar_cells(tmp_path)
    found = detect(root / kind)
    assert names(found.train) == train
    assert names(found.test) == test
    assert [s.kind for s in found.test] == ["good", "defect", "defect"][: len(test)]
    assert found.train[0].image == root / train[0]
    # It is no folder, and still not taken for an image.
    assert names(resolve(root / kind, learning=True).samples) == train


@pytest.mark.skipif(elpv.installed() is None, reason="needs the package elpv-dataset")
@pytest.mark.parametrize(("kind", "good", "tested_good", "defects"), [("mono", 412, 176, 313), ("poly", 635, 285, 402)])
def test_elpv_of_the_package(kind, good, tested_good, defects):
    found = detect(elpv.installed() / kind)
    assert len(found.train) == good
    assert [s.kind for s in found.test].count("good") == tested_good
    assert [s.kind for s in found.test].count("defect") == defects
    assert not set(names(found.train)) & set(names(found.test))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the datasets are not here: ../shared/data beside the repository")
def test_the_splits_are_those_of_the_data_sets_beside_the_repository(tmp_path):
    here = SHARED / "magnetic_tile" / "magnetic_tile"
    for part in ("train", "test"):
        for path in (here / part / "good").iterdir():
            image(tmp_path / "MT_Free" / "Imgs" / f"{path.stem}.jpg")
    for kind in ("Blowhole", "Break", "Crack", "Fray", "Uneven"):
        image(tmp_path / f"MT_{kind}/Imgs/exp1_num_7.jpg")
        mask(tmp_path / f"MT_{kind}/Imgs/exp1_num_7.png")
    found = detect(tmp_path)
    assert {Path(n).stem for n in names(found.train)} == {path.stem for path in (here / "train" / "good").iterdir()}
    assert len(found.train) == 714
    assert len(found.test) == 238 + 5


def test_a_plain_folder_and_a_table_are_still_what_they_were(tmp_path):
    image(tmp_path / "parts/a.png", tmp_path / "parts/images/b.png", tmp_path / "parts/test/c.png")
    assert (
        detect(tmp_path / "parts").description
        == "folder, 3 images, 2 of them in 2 sub-folders (images, test), taken as good"
    )
    (tmp_path / "parts.csv").write_text("path,label\nparts/a.png,good\n")
    assert detect(tmp_path / "parts.csv").description.startswith("CSV table, 1 good")


def test_labels_of_ones_own_are_not_elpv(tmp_path):
    image(tmp_path / "images/a.png")
    (tmp_path / "labels.csv").write_text("path,label\nimages/a.png,good\n")
    assert detect(tmp_path).description == "folder, 1 image in 1 sub-folder (images) taken as good"


def test_a_kind_called_ok_beside_good_training_images_is_not_btad(tmp_path):
    image(tmp_path / "train/good/0.png", tmp_path / "test/ok/0.png")
    assert detect(tmp_path).description.startswith("MVTec AD layout")


# ---- half trees


@pytest.mark.parametrize(
    ("make", "inside", "gone", "message"),
    [
        (mvtec_ad, "", "train", r"\(MVTec AD layout\)\. There is no train/good; .*found ground_truth, test\."),
        (mvtec_ad, "", "train/good", r"There is no train/good; expected train/good, found nothing in train\."),
        (mvtec_ad, "", "train/good/*", r"train.good holds no images"),
        (mvtec_ad2, "", "train", r"\(MVTec AD 2\)\. There is no train/good; .*found test_private, .*validation\."),
        (mvtec_ad2, "", "test_public/ground_truth", r"There is no test_public/ground_truth/bad; expected train/good"),
        (mvtec_ad2, "", "test_public/good", r"There is no test_public/good;"),
        (mvtec_loco, "", "train", r"\(MVTec LOCO AD\)\. There is no train/good;"),
        (mvtec_loco, "", "test/logical_anomalies", r"There is no test/logical_anomalies; expected train/good, "),
        (visa, "candle", "split_csv", r"There is no split_csv/1cls\.csv; .*found candle, pcb1\."),
        (visa, "candle", "candle/Data/Masks", r"1cls\.csv, line 5: half a dataset .*no .*Masks.Anomaly.000\.png"),
        (visa, "candle", "candle/Data/Images/Normal/0001.JPG", r"1cls\.csv, line 3: .* There is no .*0001\.JPG"),
        (btad, "01", "01/train", r"\(BTAD .*\)\. There is no train/ok; .*found ground_truth, test\."),
        (btad, "01", "01/ground_truth", r"There is no ground_truth/ko;"),
        (btad, "01", "01/test", r"There is no test/ok, test/ko;"),
        (kolektor, "", "kos0[2-5]", r"\(KolektorSDD\)\. Found one item, kos01; expected several"),
        (kolektor, "", "kos03/*.bmp", r"kos03: half .* Found Part0\.jpg; expected its mask Part0_label\.bmp"),
        (kolektor, "", "kos03/*", r"kos03: half a dataset .* Expected Part0\.jpg and so on; found none"),
        (magnetic_tile, "", "MT_Free", r"There is no MT_Free/Imgs; .*found MT_Blowhole, "),
        (magnetic_tile, "", "MT_Fray", r"There is no MT_Fray/Imgs;"),
        (magnetic_tile, "", "MT_Crack/Imgs/*.png", r"Found exp1_num_7\.jpg; expected its mask exp1_num_7\.png"),
        (magnetic_tile, "", "MT_Crack/Imgs/*", r"Crack.Imgs: half .* Expected images, \*\.jpg; found none"),
        (magnetic_tile, "", "MT_Free/Imgs/*10334.jpg", r"Of 2 images .* 2 are for training and 0 for testing"),
        (solar_cells, "mono", "images/*3.png", r"Of the 4 images of mono .* 1 are not there, .*cell0003\.png"),
    ],
)  # fmt: skip
def test_half_a_data_set_is_an_error_that_says_what_is_there(tmp_path, make, inside, gone, message):
    root = make(tmp_path / "whole")
    for path in list(root.glob(gone)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=message):
        detect(root / inside)


def test_a_table_of_visa_without_the_object_names_those_it_has(tmp_path):
    root = visa(tmp_path)
    (root / "candle").rename(root / "candles")
    with pytest.raises(DataError, match=r"no object 'candles'\. Did you mean 'candle'\? It has candle, pcb1"):
        detect(root / "candles")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("object,split", "object,part", r"1cls\.csv: there is no column split; expected object, .*found object, part,"),
        (
            "candle,test,normal",
            "candle,val,normal",
            r"1cls\.csv, line 4: split 'val' and label 'normal'; expected train",
        ),
    ],
)
def test_an_altered_table_of_visa_is_an_error(tmp_path, old, new, message):
    table = visa(tmp_path) / "split_csv/1cls.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        detect(tmp_path / "candle")


def test_an_altered_list_of_elpv_is_an_error_with_its_line(tmp_path):
    labels = solar_cells(tmp_path) / "labels.csv"
    labels.write_text(labels.read_text() + "images/cell0013.png good mono\n")
    with pytest.raises(DataError, match=r"labels\.csv, line 9: 'images/cell0013\.png good mono'; expected"):
        detect(tmp_path / "mono")


# ---- several categories


@pytest.fixture
def everything(tmp_path):
    """A folder of datasets, and things that are none."""
    mvtec_ad(tmp_path / "MPDD" / "tubes")
    mvtec_ad(tmp_path / "MPDD" / "connector")
    mvtec_ad2(tmp_path / "mvtec_ad_2" / "can")
    mvtec_loco(tmp_path / "mvtec_loco" / "pushpins")
    visa(tmp_path / "VisA")
    btad(tmp_path / "BTech_Dataset_transformed")
    kolektor(tmp_path / "KolektorSDD")
    magnetic_tile(tmp_path / "Magnetic-tile-defect-datasets.")
    solar_cells(tmp_path / "elpv" / "data")
    image(tmp_path / "holiday" / "a.png")
    (tmp_path / "empty").mkdir()
    return tmp_path


EVERYTHING = [
    ("btad", "01"),
    ("btad", "02"),
    ("btad", "03"),
    ("kolektorsdd", "kolektorsdd"),
    ("MPDD", "connector"),
    ("MPDD", "tubes"),
    ("magnetic_tile", "magnetic_tile"),
    ("visa", "candle"),
    ("visa", "pcb1"),
    ("elpv", "mono"),
    ("elpv", "poly"),
    ("mvtec_ad2", "can"),
    ("mvtec_loco", "pushpins"),
]


def test_the_categories_of_several_data_sets(everything):
    found = categories(everything)
    assert [(dataset, category) for dataset, category, _ in found] == EVERYTHING
    for one in found:
        assert {sample.kind for sample in detect(one.path).train} == {"good"}
        assert any(sample.kind != "good" for sample in detect(one.path).test) or one.category == "poly"


def test_the_categories_of_one_data_set_and_of_one_category(everything):
    assert categories(everything / "VisA") == [
        ("visa", "candle", everything / "VisA/candle"),
        ("visa", "pcb1", everything / "VisA/pcb1"),
    ]
    assert categories(str(everything / "MPDD/tubes")) == [("MPDD", "tubes", everything / "MPDD/tubes")]
    root = everything / "KolektorSDD"
    assert categories(root) == [("kolektorsdd", "kolektorsdd", root)]
    mono = everything / "elpv/data/mono"
    assert categories(mono) == [("elpv", "mono", mono)]


def test_a_category_seen_from_inside_has_its_name(everything, monkeypatch):
    monkeypatch.chdir(everything / "MPDD" / "tubes")
    assert [(one.dataset, one.category) for one in categories(".")] == [("MPDD", "tubes")]


def test_a_table_is_a_category(tmp_path):
    (tmp_path / "parts.csv").write_text("path,label\na.png,good\n")
    assert categories(tmp_path / "parts.csv") == [("parts", "parts", tmp_path / "parts.csv")]


def test_a_half_category_is_listed_so_that_reading_it_says_what_is_missing(everything):
    shutil.rmtree(everything / "MPDD/tubes/train")
    assert ("MPDD", "tubes", everything / "MPDD/tubes") in categories(everything)


@pytest.mark.parametrize("name", ["holiday", "empty", "nowhere"])
def test_a_path_without_categories_is_an_error(everything, name):
    with pytest.raises(DataError, match=rf"{name} holds no labelled dataset\. .*patchcore datasets"):
        categories(everything / name)


def test_several_categories_at_once_are_an_error_that_names_them(everything):
    with pytest.raises(DataError, match=r"VisA holds 2 categories \(candle, pcb1\); give one of them, for .*candle"):
        detect(everything / "VisA")
    with pytest.raises(DataError, match=r"data holds 2 categories \(mono, poly\); give one of them"):
        detect(everything / "elpv" / "data")
    with pytest.raises(DataError, match=rf"holds {len(EVERYTHING)} categories \(BTech_Dataset_transformed/01, "):
        detect(everything)


# ---- descriptions


def test_every_layout_of_a_data_set_is_described():
    described = {about.name for about, _ in layouts.datasets()}
    assert len(described) == len(layouts.datasets())
    assert {layout.dataset for layout in layouts.layouts() if layout.dataset} <= described
    for about, _ in layouts.datasets():
        assert about.source.startswith(("http://", "https://"))
        assert all(vars(about).values())


def test_the_list_of_tiles_to_test_on_is_whole():
    listed = (Path(layouts.__file__).parent / "magnetic_tile_test.txt").read_text("utf-8").split()
    assert len(set(listed)) == len(listed) == 238


# ---- in use


def test_a_detector_fits_and_measures_such_a_tree(tmp_path, hazelnut, small_recipe):
    """Real photographs in the layouts of BTAD and VisA."""
    from patchcore.measure.evaluation import evaluate

    good, bad = sorted((hazelnut / "train/good").iterdir()), sorted((hazelnut / "test/colour").iterdir())
    root = tmp_path / "01"
    for folder, files in (("train/ok", good[:4]), ("test/ok", good[4:6]), ("test/ko", bad)):
        (root / folder).mkdir(parents=True)
        for file in files:
            shutil.copy(file, root / folder)
    shutil.copytree(hazelnut / "ground_truth/colour", root / "ground_truth/ko")
    for path in (root / "ground_truth/ko").iterdir():
        path.rename(path.with_name(path.name.replace("_mask", "")))
    found = detect(root)
    measured = evaluate(Detector(small_recipe).fit(root), found.test).metrics
    assert measured["image_auroc"] > 0.9
    assert measured["pixel_auroc"] > 0.9
