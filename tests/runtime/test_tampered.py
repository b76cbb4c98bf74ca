"""Exported folders that were tampered with, their sums made right again: every one ends in one sentence of ours."""

import hashlib
import io
import json
import os
import random
import resource
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from patchcore_runtime import ExportError, cases, load, verify
from patchcore_runtime import folder as folders
from patchcore_runtime import manifest as manifests

posix = pytest.mark.skipif(os.name != "posix", reason="links and pipes are POSIX's")
STRANGE = [None, True, -1, 0, 10**30, 10**400, 0.5, 1e308, "", "../x", "/etc/passwd", ".", "a/b", "\0", "\ud800", [],
           [1, 2], [[]], {}, {"x": 1}, "nan", [1e308, -1e308], [None, None], [1, 1], "torch", "model.onnx"]  # fmt: skip


def sealed(folder: Path) -> Path:
    """Make the list of hashes right again, as somebody would who alters both."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name not in ("SHA256SUMS", "signature.json")
    )
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in files
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


def edited(path: Path, change) -> None:
    """Another JSON in a file."""
    value = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(change(value) or value))


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ExportError, match=match) as caught:
        load(folder, threads=1)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def places(value, at=()):
    """Where in a JSON there is anything: paths of keys and numbers."""
    if at:
        yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


@pytest.mark.parametrize("name", ["manifest.json", "vectors/vectors.json"])
def test_any_other_value_anywhere_is_taken_or_refused_with_the_file_s_name(exported_onnx, tmp_path, name):
    # What `load` does before the engine, on as many edits as a few seconds allow.
    rng = random.Random(0)
    folder = shutil.copytree(exported_onnx, tmp_path / "exported")
    text = (folder / name).read_text("utf-8")
    outcomes = set()
    for _ in range(100):
        value = json.loads(text)
        *above, last = rng.choice(list(places(value)))
        there = value
        for key in above:
            there = there[key]
        if rng.random() < 0.25:
            del there[last]
        else:
            there[last] = rng.choice(STRANGE)
        (folder / name).write_text(json.dumps(value).replace("e+308", "e308"))
        try:
            manifest = manifests.checked(folders.parsed(folder / "manifest.json"), folder / "manifest.json")
            for case in cases.read(folder, manifest):
                case.expected()
            outcomes.add("taken")
        except ExportError as error:
            outcomes.add(str(error))
    assert "taken" in outcomes
    assert len(outcomes) > 10
    assert all(one.isprintable() and one.startswith(str(folder)) for one in outcomes - {"taken"})


DEEP = b"[" * 900 + b"]" * 900


@pytest.mark.parametrize(
    "text",
    [b"\xff", b"[" * 100_000, b"9" * 5000, b'"1"', b"null", b'{"format": true}', b'{"format": 0}']
    + [b'{"format": 1, "x": %s}' % value for value in (DEEP, b"1e999", b"NaN", b'"\\ud800"')],
)
def test_json_that_is_no_manifest_is_refused(folder, text):
    (folder / "manifest.json").write_bytes(text)
    refused(sealed(folder), r"manifest\.json: damaged")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("graph", "../model.onnx"),
        ("graph", "\ud800"),
        ("static", [0, 64]),
        ("value_ranges", {"uint8": [0, 255]}),
        ("value_ranges", {"uint8": [1, 0], "uint16": [0, 1], "float32": [0, 1]}),
        ("tolerance", {"score": -1, "map": 1}),
        ("floor", None),
        ("check_float", 1),
        ("bank", []),
    ],
)
def test_a_value_of_a_wrong_kind_is_named(folder, field, value):
    edited(folder / "manifest.json", lambda manifest: manifest.update({field: value}))
    refused(sealed(folder), rf"manifest\.json: damaged.*({field} is|surrogates)")


@pytest.mark.parametrize("threshold", [None, 1e-3, -1.0, 30000.0])
def test_another_threshold_than_the_graph_s_is_found_out(folder, threshold):
    edited(folder / "manifest.json", lambda manifest: manifest.update(threshold=threshold))
    refused(sealed(folder), r"model\.onnx: its threshold differs from the .* of manifest\.json")


def header(dtype: str, shape: str) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


def saved(array, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header("<f4", "1000000000000,") + bytes(100), "100 bytes of values; its header says 4000000000000"),
        (header("<f4", "2**40,") + bytes(100), "no .npy file, or a damaged one"),
        (header("<f4", "-1,") + bytes(100), "its header says float32"),
        (header("|O", "1,") + bytes(8), "its header says object"),
        (saved(np.array([{"a": 1}], dtype=object), allow_pickle=True), "its header says object"),
        (b"", "no .npy file"),
        (b"\x93NUMPY\x02\0" + struct.pack("<I", 1 << 31), "not version 1.0"),
        (saved(np.zeros((0, 4, 5, 3), np.uint8)), "its header says uint8"),
        (saved(np.zeros((1, 4, 5, 2), np.uint8)), "expected images"),
        (saved(np.zeros((1, 4, 5, 3))), "expected images"),
        (saved(np.zeros((4, 5, 3), np.uint8)), "expected images"),
    ],
)
def test_an_image_that_is_not_what_its_header_says_is_refused(folder, data, message):
    (folder / "vectors" / "0_image.npy").write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(sealed(folder), rf"0_image\.npy: .*{message}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


@pytest.mark.parametrize("array", [np.zeros((1, 9, 9), np.float32), np.zeros((1, 400, 300)), np.zeros(3, np.float32)])
def test_a_map_of_another_size_than_its_image_is_refused(folder, array):
    np.save(folder / "vectors" / "0_map.npy", array)
    refused(sealed(folder), r"0_map\.npy: .*; expected float32 for 1 x 400 x 300 pixels")


@pytest.mark.parametrize("name", ["other.npy", "../origins.npy", "/etc/passwd", "", None, ["0_image.npy"]])
def test_a_vector_that_is_not_listed_is_never_opened(folder, name):
    edited(folder / "vectors" / "vectors.json", lambda found: found[0].update(image=name))
    sealed(folder)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "vectors" / "other.npy")  # to open it would be to wait
    refused(folder, r"vectors\.json: case 0: .* is not listed in SHA256SUMS")


@posix
@pytest.mark.parametrize("name", ["model.onnx", "vectors/0_map.npy", "vectors/vectors.json", "SHA256SUMS"])
def test_what_is_no_regular_file_is_not_opened(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, rf"{Path(name).name}: a folder, pipe or device; expected a file")
    for other in ("/dev/zero", folder.parent, name):  # a device, a folder, a circle
        (folder / name).unlink()
        (folder / name).symlink_to(other if other != name else Path(name).name)
        refused(folder, rf"{Path(name).name}: (a folder, pipe or device|it cannot be read)")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/dev/zero", "a//b", "vectors/../x", "a\0b", "\\x"])
def test_a_list_of_files_elsewhere_is_refused(folder, name):
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    refused(folder, r"SHA256SUMS: it lists .*; expected names of files in the folder")


def test_a_folder_without_vectors_loads_and_says_that_it_cannot_be_verified(folder):
    shutil.rmtree(folder / "vectors")
    model = load(sealed(folder), threads=1)
    with pytest.raises(ExportError, match=r"there are no test vectors in it .*Copy the whole folder, or export again"):
        verify(model)


def test_vectors_that_say_nothing_prove_nothing(folder):
    (folder / "vectors" / "vectors.json").write_text("[]")
    refused(sealed(folder), r"vectors\.json: damaged: expected a list of cases")


def test_a_graph_that_cannot_be_run_is_refused_when_it_is_loaded(folder):
    onnx = pytest.importorskip("onnx")
    x = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [None, 8, 8, None])
    y = onnx.helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, [None, 8, 8, None])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["image"], ["score"])], "other", [x], [y])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8),
        folder / "model.onnx",
    )
    refused(sealed(folder), r"model\.onnx: onnx cannot run it on 1 x 64 x 64 pixels")
