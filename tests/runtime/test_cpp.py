"""The C++ program, built with the OpenVINO of the wheel: the same scores as the library."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SOURCE = Path(__file__).parents[2] / "runtime" / "cpp"


@pytest.fixture(scope="module")
def program(once):
    for tool in ("cmake", "g++"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed (Debian: apt-get install cmake g++)")
    openvino = f"-DOpenVINO_DIR={pytest.importorskip('openvino.utils').get_cmake_path()}"

    def fill(build):
        for command in (
            ["cmake", "-S", SOURCE, "-B", build, openvino, "-DCMAKE_CXX_FLAGS=-Werror"],
            ["cmake", "--build", build],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

    return once("cpp", fill) / "patchcore_score"


@pytest.fixture(scope="module")
def score(program):
    """(rows of text, what was said on standard error, exit code)."""

    def run(folder, *images):
        done = subprocess.run([program, folder, *images], capture_output=True, text=True, check=False)
        return [line.split("\t") for line in done.stdout.splitlines()], done.stderr, done.returncode

    return run


def test_it_is_short():
    assert len((SOURCE / "score.cpp").read_text("utf-8").splitlines()) < 150


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_it_agrees_on_the_test_vectors(score, format, request):
    vectors = request.getfixturevalue(f"exported_{format}") / "vectors"
    cases = json.loads((vectors / "vectors.json").read_text("utf-8"))
    assert {np.load(vectors / case["image"]).dtype.name for case in cases} == {"uint8", "uint16", "float32"}
    rows, said, code = score(vectors.parent, *(vectors / case["image"] for case in cases))
    assert (said, code) == ("", 0)
    expected = [
        (str(vectors / case["image"]), number, *(case["expected"][key][number] for key in ("score", "normalised")),
         ("pass", "unsure", "fail")[case["expected"]["decision"][number]],
         np.load(vectors / case["arrays"]["map"])[number].max())
        for case in cases for number in range(len(case["expected"]["score"]))
    ]  # fmt: skip
    assert len(rows) == len(expected) >= 4
    for (path, number, *figures), (*of, value, normalised, verdict, largest) in zip(rows, expected, strict=True):
        assert [path, int(number)] == of
        assert float(figures[0]) == pytest.approx(value, rel=1e-4)
        assert float(figures[1]) == pytest.approx(normalised, rel=1e-4)
        assert figures[2] == verdict
        assert float(figures[3]) == pytest.approx(largest, rel=1e-4)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_reads_images_of_8_and_16_bits_grey_and_colour(
    score, exported_openvino, detector, hazelnut, tmp_path, depth, channels
):
    with Image.open(hazelnut / "test/colour/00.jpg") as image:
        pixels = np.asarray(image.resize((90, 70)).convert("L" if channels == 1 else "RGB"))
    pixels = pixels.reshape(70, 90, channels)
    if depth == 16:  # values that 8 bits do not hold
        pixels = pixels.astype(np.uint16) * 250 + np.arange(90, dtype=np.uint16)[:, None]
    body = pixels.astype(">u2" if depth == 16 else "u1").tobytes()
    path = tmp_path / "part"
    path.write_bytes(b"P%d\n# made by a test\n90 70\n%d\n" % (5 if channels == 1 else 6, 2**depth - 1) + body)
    ((_, _, value, _, verdict, _),), _, _ = score(exported_openvino, path)
    expected = detector.predict(pixels)
    assert float(value) == pytest.approx(expected.score, rel=1e-4)
    assert verdict == expected.decision


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a PGM or PPM file"),
        (b"GIF89a" + bytes(100), "expected a PGM or PPM file"),
        (b"P6 2 2 100\n" + bytes(12), "expected a PGM or PPM file (P5, P6) with values up to 255 or 65535"),
        (b"P6 2 2 255\n" + bytes(11), "cut off"),
        (b"P5 0 2 255\n", "expected a PGM"),
        (b"P5 999999 999999 65535\n" + bytes(99), "cut off"),
        (b"\x93NUMPY\x01\x00", "expected an array (N, H, W, C)"),
    ],
)
def test_what_is_no_image_is_refused_with_its_name(score, exported_openvino, tmp_path, data, message):
    path = tmp_path / "bad"
    path.write_bytes(data)
    rows, said, code = score(exported_openvino, path)
    assert (rows, code) == ([], 1)
    assert said.startswith(f"{path}: ")
    assert message in said


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 4, 5, 2), np.uint8), "expected an array (N, H, W, C)"),
        (np.zeros((4, 5, 3), np.uint8), "expected an array (N, H, W, C)"),
        (np.zeros((1, 4, 5, 3)), "expected an array (N, H, W, C) of uint8, uint16 or float32"),
        (np.zeros((1, 4, 5, 3), ">u2"), "expected an array (N, H, W, C)"),
        (np.full((1, 4, 5, 3), 1.5, np.float32), "floats outside 0 to 1"),
        (np.full((1, 4, 5, 3), np.nan, np.float32), "floats outside 0 to 1"),
    ],
)
def test_an_array_that_cannot_be_used_is_refused(score, exported_openvino, tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    rows, said, code = score(exported_openvino, tmp_path / "a.npy")
    assert (rows, code) == ([], 1)
    assert message in said


def test_an_image_that_cannot_be_used_does_not_stop_the_others(score, exported_openvino, tmp_path):
    vector = exported_openvino / "vectors" / "0_image.npy"
    rows, said, code = score(exported_openvino, tmp_path, tmp_path / "gone.ppm", vector)
    assert [row[0] for row in rows] == [str(vector)]
    assert [line.split(": ")[0] for line in said.splitlines()] == [str(tmp_path), f"{tmp_path}/gone.ppm"]
    assert code == 1


def altered(folder, copy, **fields):
    """A copy with another manifest."""
    shutil.copytree(folder, copy)
    manifest = json.loads((copy / "manifest.json").read_text("utf-8"))
    (copy / "manifest.json").write_text(json.dumps({**manifest, **fields}, indent=1))
    return copy


def test_images_of_another_size_than_the_only_one_are_refused(score, exported_openvino, tmp_path):
    vector = exported_openvino / "vectors" / "0_image.npy"
    height, width = np.load(vector).shape[1:3]
    folder = altered(exported_openvino, tmp_path / "copy", static=[height, width + 1])
    rows, said, code = score(folder, vector)
    assert (rows, code) == ([], 1)
    only = f"[{height},{width + 1}]"
    assert said == f"{vector}: [height,width] is [{height},{width}]; this model takes {only} only (--static).\n"
    folder = altered(exported_openvino, tmp_path / "other", static=[height, width])
    assert score(folder, vector)[0] == score(exported_openvino, vector)[0]


def test_a_folder_that_is_none_is_refused(score, exported_openvino, tmp_path):
    assert score(tmp_path, "a.ppm") == ([], f"{tmp_path}/manifest.json: cannot be read.\n", 1)
    (tmp_path / "manifest.json").write_text("{}")
    advice = "Give a folder that `patchcore export` wrote, with --format onnx or openvino."
    assert advice in score(tmp_path, "a.ppm")[1]
    assert advice in score(altered(exported_openvino, tmp_path / "copy", engine="torch"), "a.ppm")[1]
    assert advice in score(altered(exported_openvino, tmp_path / "newer", format=10), "a.ppm")[1]


def test_standard_output_holds_results_alone_whatever_the_engine_says(program, exported_openvino):
    vector = exported_openvino / "vectors" / "0_image.npy"
    quiet = subprocess.run([program, exported_openvino, vector], capture_output=True, text=True, check=True)
    told = {**os.environ, "ONEDNN_VERBOSE": "profile_create", "OPENVINO_LOG_LEVEL": "5"}
    loud = subprocess.run([program, exported_openvino, vector], capture_output=True, text=True, check=True, env=told)
    assert loud.stderr != ""
    assert loud.stdout == quiet.stdout
    assert len(quiet.stdout.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_results_that_cannot_be_written_are_a_failure(program, exported_openvino):
    with open("/dev/full", "w") as full:
        vector = exported_openvino / "vectors" / "0_image.npy"
        assert subprocess.run([program, exported_openvino, vector], stdout=full, check=False).returncode == 1


def test_it_says_how_it_is_used(program):
    usage = "Usage: patchcore_score DIR IMAGE...\n"
    for arguments, code in ([], 2), (["folder"], 2), (["--help"], 0):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (code, usage)
