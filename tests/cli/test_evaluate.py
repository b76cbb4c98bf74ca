"""`patchcore evaluate`."""

import shutil
from importlib.util import find_spec

import pytest
from cli_helpers import SMALL, lines

KEYS = {
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "pixel_auroc",
    "pixel_f1_max",
    "aupro_30",
    "aupro_05",
    "images",
    "skipped",
    "coverage",
    "false_reject_rate",
    "miss_rate",
    "unsure_rate",
    *(f"pixel_{name}_at_threshold" for name in ("f1", "overlap", "area")),
    *(f"mask_{name}" for name in ("f1", "overlap", "area")),
}


def test_the_figures_are_one_line_of_json(run_process, model_file, hazelnut):
    done = run_process("evaluate", model_file, hazelnut, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = lines(done.stdout)
    assert set(row) == KEYS
    assert row["image_auroc"] == row["image_ap"] == row["image_f1_max"] == 1
    assert row["pixel_auroc"] > 0.95
    assert row["images"] == 7
    assert row["coverage"] == 1
    assert row["miss_rate"] == 0
    assert 0 <= row["false_reject_rate"] <= 1


@pytest.mark.parametrize(
    "option",
    [
        "--precision=bf16",
        pytest.param(
            "--engine=openvino",
            marks=pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed"),
        ),
    ],
)
def test_another_engine_or_precision_gives_the_same_figures_here(option, run, model_file, hazelnut):
    done = run("evaluate", model_file, hazelnut, option, "--json")
    assert done.exit_code == 0
    (row,) = lines(done.stdout)
    assert row["image_auroc"] == 1
    assert row["pixel_auroc"] > 0.95


def test_people_get_tables_on_standard_output_and_remarks_on_standard_error(run, model_file, hazelnut):
    done = run("evaluate", model_file, hazelnut)
    assert done.exit_code == 0
    assert "MVTec AD layout" in done.stderr
    cells = [line.replace("│", " ").replace("|", " ").split() for line in done.stdout.splitlines()]
    assert ["image_auroc", "1.0000"] in cells
    assert ["colour", "0", "0", "4"] in cells
    assert "figures:" not in done.stderr


def test_a_table_without_masks_has_no_pixel_figures(run, model_file, hazelnut, tmp_path):
    rows = [(f"test/{kind}/{path.name}", kind) for kind in ("good", "colour")
            for path in sorted((hazelnut / "test" / kind).iterdir())]  # fmt: skip
    shutil.copytree(hazelnut / "test", tmp_path / "test")
    (tmp_path / "nuts.csv").write_text("path,label\n" + "".join(f"{p},{kind}\n" for p, kind in rows), "utf-8")
    done = run("evaluate", model_file, tmp_path / "nuts.csv", "--json")
    assert done.exit_code == 0
    (row,) = lines(done.stdout)
    assert row["image_auroc"] == 1
    assert row["pixel_auroc"] is row["pixel_f1_max"] is row["aupro_30"] is row["aupro_05"] is None
    assert "No pixel metrics: they need a mask for every defective image; 0 of 4 have one." in done.stderr


def test_good_images_alone_have_no_figures_and_it_says_why(run, model_file, hazelnut, tmp_path):
    rows = "".join(f"{path},good\n" for path in sorted((hazelnut / "test/good").iterdir()))
    (tmp_path / "good.csv").write_text(f"path,label\n{rows}", "utf-8")
    done = run("evaluate", model_file, tmp_path / "good.csv")
    assert done.exit_code == 0
    assert "No image metrics: they need good and defective images" in done.stderr
    assert "No pixel metrics: they need defective images with masks." in done.stderr


@pytest.fixture
def broken(hazelnut, tmp_path):
    """The dataset with a test image that cannot be read."""
    root = tmp_path / "hazelnut"
    shutil.copytree(hazelnut, root)
    (root / "test/colour/01.jpg").write_bytes(b"this is no image")
    return root


def test_a_bad_image_stops_the_evaluation(run, model_file, broken):
    done = run("evaluate", model_file, broken, "--json")
    assert done.exit_code == 1
    assert f"Error: {broken / 'test/colour/01.jpg'}: not an image" in done.stderr
    assert done.stdout == ""


def test_a_bad_image_can_be_left_out_and_is_listed(run, model_file, broken):
    done = run("evaluate", model_file, broken, "--json", "--skip-bad")
    assert done.exit_code == 0
    (row,) = lines(done.stdout)
    assert row["skipped"] == ["test/colour/01.jpg"]
    assert row["images"] == 6
    assert "Left out 1 image that could not be read:" in done.stderr


def test_a_bad_mask_is_named(run, model_file, hazelnut, tmp_path):
    shutil.copytree(hazelnut, tmp_path / "hazelnut")
    (tmp_path / "hazelnut/ground_truth/colour/00_mask.png").write_bytes(b"")
    done = run("evaluate", model_file, tmp_path / "hazelnut")
    assert done.exit_code == 1
    assert "00_mask.png: an empty file" in done.stderr


def test_a_crop_is_said_with_what_it_leaves(run, hazelnut, tmp_path):
    crop = ["--set=resize=short_side", "--set=size=160", "--set=crop=128"]
    done = run("fit", hazelnut, "-o", tmp_path / "m", "--limit", 3, *(a for a in SMALL if "size=" not in a), *crop)
    assert done.exit_code == 0, done.stderr
    done = run("evaluate", tmp_path / "m", hazelnut, "--json")
    assert "as little as 64.0% of an image" in done.stderr.replace("\n", " ")
    assert lines(done.stdout)[0]["coverage"] == pytest.approx(0.64)


def test_a_folder_without_labels_is_said_at_once_with_what_to_do(run, model_file, hazelnut, tmp_path):
    for command in (["evaluate"], ["report", "-o", tmp_path / "r.html"]):
        done = run(command[0], model_file, hazelnut / "train/good", *command[1:])
        assert done.exit_code == 1
        assert done.stdout == ""
        assert done.stderr == (
            f"Error: {hazelnut / 'train/good'}: 10 images without labels, so there is nothing to measure verdicts "
            "against. Give a folder that has test/good and test/<kind of defect>, or a .csv table with a column label. "
            "For verdicts alone: patchcore predict.\n"
        )
