"""The runtime without torch: the same results as the library, and errors that help."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import patchcore_runtime
import pytest
from patchcore_runtime import ExportError, ImageError, SignatureError, load, regions, verify
from PIL import Image
from scipy import ndimage

import patchcore
from patchcore.model import signature
from patchcore.verdict import draw

FORMATS = ("onnx", "openvino")
ROOT = Path(patchcore_runtime.__file__).parent


@pytest.fixture(scope="module", params=FORMATS)
def model(request):
    return load(request.getfixturevalue(f"exported_{request.param}"))


@pytest.fixture(scope="module")
def images(hazelnut, tmp_path_factory):
    """Images of every kind that the library treats in a way of its own."""
    folder = tmp_path_factory.mktemp("images")
    found = [*sorted((hazelnut / "test").rglob("*.jpg")), *sorted((hazelnut / "train").rglob("*.jpg"))]
    with Image.open(found[0]) as image:
        image = image.resize((211, 160))
    grey = np.asarray(image.convert("L"))
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(folder / "turned.jpg", exif=turned)
    image.convert("L").save(folder / "grey.png")
    image.convert("RGBA").save(folder / "alpha.png")
    image.quantize(32).save(folder / "palette.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
    deep = np.asarray(image).astype(np.uint16) * 200
    return [*found, *sorted(folder.iterdir()), image, deep, np.asarray(image) / 255, grey]


def same(result, expected):
    """The promise: 1e-4 relative, and the same verdict."""
    assert result.score == pytest.approx(expected.score, rel=1e-4)
    assert result.normalised == pytest.approx(expected.normalised, rel=1e-4)
    assert result.decision == expected.decision
    assert (result.threshold, result.pixel_threshold) == (expected.threshold, expected.pixel_threshold)
    assert result.coverage == expected.coverage == 1
    assert result.map.dtype == np.float32
    np.testing.assert_allclose(result.map, expected.map, rtol=0, atol=1e-4 * expected.map.max(), strict=True)
    scores = expected.patch_scores.numpy()
    np.testing.assert_allclose(result.patch_scores, scores, rtol=0, atol=1e-4 * scores.max(), strict=True)
    assert (result.mask == expected.mask).mean() > 0.99  # but for rounding, and for where the worst patch lies
    assert result.mask.any() == (result.decision == "fail")
    assert result.nearest_rows.shape == tuple(expected.nearest_rows.shape)
    assert (result.nearest_rows == expected.nearest_rows.numpy()).mean() > 0.99  # but for rows at the same distance


def test_every_image_has_the_library_s_result(model, detector, images):
    assert model.manifest["search_axes"][0] > 0
    results = model.predict(images)
    assert {result.decision for result in results} == {"pass", "fail"}
    for number, (result, image) in enumerate(zip(results, images, strict=True)):
        same(result, detector.predict(image))
        assert result.name == (str(image) if isinstance(image, Path) else f"#{number}")


def test_a_result_has_the_fields_of_the_library_s():
    theirs = {name for name in vars(patchcore.Result) if not name.startswith("_")}
    theirs |= {field.name for field in dataclasses.fields(patchcore.Result)}
    ours = {field.name for field in dataclasses.fields(patchcore_runtime.Result)} | {"mask"}
    inside = {"sample", "frame", "recipe", "max_pixels", "colour", "mark", "of"}  # what maps are made from there
    inside |= {"areas", "area_scores", "units", "registration", "reason", "foreign", "original"}  # none is exported
    assert ours >= theirs - inside - {
        "overlay", "pixels", "worst_patch", "nearest_image", "told", "regions", "p_value"
    }  # fmt: skip


def test_a_defect_is_found_as_the_library_finds_it():
    rng = np.random.default_rng(0)
    for number in range(30):
        noise = ndimage.gaussian_filter(rng.normal(size=(60, 80)), 1 + number / 6)
        values = (noise / noise.std()).astype(np.float32)
        values[:, : number % 3] = np.nan
        at = np.unravel_index(np.nanargmax(values), values.shape)
        for threshold in (0.5, 1.5, 9.0):
            found = regions.defect(values, threshold)
            assert found[at]
            np.testing.assert_array_equal(found, draw.defect(values, threshold, at))


def test_an_array_of_several_images_is_several_images(model, detector):
    batch = np.random.default_rng(0).integers(0, 255, (3, 40, 56, 3), np.uint8)
    results = model.predict(batch)
    assert [result.name for result in results] == ["#0", "#1", "#2"]
    for result, image in zip(results, batch, strict=True):
        same(result, detector.predict(image))


def test_results_of_several_threads_are_those_of_one(model, hazelnut):
    paths = sorted(hazelnut.rglob("*.jpg")) * 2
    alone = model.predict(paths)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(model.predict, paths))
    assert [result.score for result in together] == [result.score for result in alone]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a.map, b.map)


@pytest.mark.parametrize("given", [b"folder", None, 3])
def test_what_is_no_folder_says_so(given):
    with pytest.raises(ExportError, match=r"got (bytes|NoneType|int); expected the path of an exported folder"):
        load(given)


@pytest.mark.parametrize("given", ["x" * 5000, "a\0b", "https://x.y/model"])
def test_a_path_that_can_be_none_holds_no_model(given):
    with pytest.raises(ExportError, match=r"no manifest\.json in it"):
        load(given)


@pytest.mark.parametrize("threads", [0, 1_000_000, 2.5, "2"])
def test_a_wrong_number_of_threads_is_said(threads, model):
    with pytest.raises(ExportError, match=f"threads is {threads!r}; it must be a whole number, at least 1 and at most"):
        load(model.folder, threads=threads)


def test_a_result_says_what_it_is(model, hazelnut):
    text = repr(model.predict(hazelnut / "test/colour/00.jpg"))
    assert text.startswith("Result('")
    assert "'fail', map " in text


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("gone.png", r"gone\.png: no such file"),
        (np.zeros((4, 5, 2), np.uint8), r"#0: an array of shape \(4, 5, 2\); expected"),
        (np.full((4, 5), 200.0), r"#0: a float image with values from 200 to 200; expected 0 to 1"),
        (np.full((4, 5), np.nan), "#0: a float image with NaN"),
    ],
)
def test_an_image_that_cannot_be_used_says_why(model, image, message):
    with pytest.raises(ImageError, match=message):
        model.predict(image)


def test_a_long_strip_is_refused_as_in_the_library(exported_onnx, detector):
    strip = np.zeros((1, 100_000), np.uint8)
    recipe = detector.recipe.replace(resize="area")
    model = patchcore_runtime.load(exported_onnx)
    model.manifest["recipe"] = recipe.to_dict()
    with pytest.raises(ImageError, match="1 pixels, which resized for the network") as ours:
        model.predict(strip)
    with pytest.raises(patchcore.ImageError) as theirs:
        patchcore.Detector(recipe).fit([strip])
    assert ours.value.reason == theirs.value.reason


def test_a_damaged_jpeg_has_a_warning_in_its_result(model, detector, hazelnut, tmp_path):
    data = bytearray((hazelnut / "train/good/00.jpg").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 512] = bytes(512)
    (tmp_path / "hole.jpg").write_bytes(data)
    assert model.predict(tmp_path / "hole.jpg").warnings == detector.predict(tmp_path / "hole.jpg").warnings != ()


def test_images_that_leave_bits_of_uint16_unused_get_a_hint_once(exported_onnx, caplog):
    images = list(np.random.default_rng(0).integers(0, 1024, (2, 96, 96, 1)).astype(np.uint16))
    model = patchcore_runtime.load(exported_onnx)
    model.predict([images[0] * np.uint16(60), images[1]])
    assert not caplog.messages
    model.predict(images)
    model.predict(images[0])
    (hint,) = caplog.messages
    assert "that looks like 10 bits" in hint
    assert "value_range=[0,1023]" in hint
    model.manifest["recipe"]["value_range"] = [0, 1023]
    stated = patchcore_runtime.Model(model.folder, model.manifest)
    stated.predict(images)
    assert len(caplog.messages) == 1


def test_an_image_above_the_limit_is_refused(model, hazelnut):
    with pytest.raises(ImageError, match="more than the limit of 1000"):
        model.predict(hazelnut / "test/colour/00.jpg", max_pixels=1000)


# ---- folders


def test_the_vectors_agree_here(exported_onnx, exported_openvino):
    for folder in (exported_onnx, exported_openvino):
        agreement = verify(load(folder, verify=True))
        assert agreement.within
        assert agreement.images >= 4


def rehashed(folder):
    """Make the list of hashes right again, as somebody would who alters both."""
    names = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    lines = [f"{signature._sha256(folder / name)}  {name}\n" for name in names if (folder / name).exists()]
    (folder / "SHA256SUMS").write_text("".join(lines))


def altered(folder, **fields):
    """Another value in the manifest."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_the_list_of_hashes_is_one_that_the_system_s_own_tool_checks(folder):
    def check():
        return subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
                              cwd=folder, capture_output=True, text=True, check=False)  # fmt: skip

    assert (check().returncode, check().stdout) == (0, "")
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there - listed == {"SHA256SUMS", "signature.json"}
    altered(folder, threshold=1e9)
    assert check().returncode == 1


def test_a_machine_that_scores_otherwise_is_found_out(folder):
    vectors = folder / "vectors" / "vectors.json"
    cases = json.loads(vectors.read_text())
    cases[0]["expected"]["score"][0] *= 1.001
    vectors.write_text(json.dumps(cases))
    rehashed(folder)
    load(folder)
    with pytest.raises(ExportError, match="computes something else than the library did"):
        load(folder, verify=True)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "origins.npy", "vectors/0_image.npy"])
def test_a_file_with_one_changed_byte_is_refused(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ExportError, match=rf"{Path(name).name}: altered or damaged.*Copy it again"):
        load(folder)


@pytest.mark.parametrize("name", ["model.onnx", "vectors/0_map.npy", "SHA256SUMS"])
def test_a_folder_that_lacks_a_file_says_which(folder, name):
    (folder / name).unlink()
    with pytest.raises(ExportError, match=rf"{name} is missing\. Copy the folder again"):
        load(folder)


@pytest.mark.parametrize(
    "fields", [{"threshold": 1e9}, {"pixel_threshold": 1}, {"tolerance": {"score": 9, "map": 9}}, {"files": {}}]
)
def test_an_edited_manifest_is_found_out(folder, fields):
    altered(folder, **fields)
    with pytest.raises(ExportError, match=r"manifest\.json: altered or damaged"):
        load(folder)


@pytest.mark.parametrize("text", ["", "nothing at all", "\0", "abc  manifest.json", f"{'0' * 64}  "])
def test_a_damaged_list_of_hashes_is_refused(folder, text):
    (folder / "SHA256SUMS").write_text(text)
    with pytest.raises(ExportError, match=r"SHA256SUMS: damaged\. Copy the folder again"):
        load(folder)


def test_a_graph_that_the_engine_does_not_take_is_refused_in_one_sentence(folder):
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:5000])
    rehashed(folder)
    with pytest.raises(ExportError, match=r"model\.onnx: onnx cannot load it \(.*\)\. Export again") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["high", [], {}, True, 1e39])
def test_a_threshold_that_is_no_number_is_refused(folder, value):
    altered(folder, threshold=value)
    rehashed(folder)
    with pytest.raises(ExportError, match=r"manifest\.json: damaged: threshold is .*; expected a number, or null"):
        load(folder)


@pytest.mark.parametrize("format", FORMATS)
def test_images_of_one_value_have_the_library_s_score(format, request, detector):
    model = load(request.getfixturevalue(f"exported_{format}"))
    for value in (0, 77, 255):
        same(model.predict(flat := np.full((64, 80, 3), value, np.uint8)), detector.predict(flat))


def test_a_list_without_the_graph_or_the_manifest_protects_neither(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    for name in ("manifest.json", "model.onnx"):
        (folder / "SHA256SUMS").write_text("".join(line for line in lines if name not in line))
        with pytest.raises(
            ExportError, match=r"SHA256SUMS: manifest\.json and the graph, model\.onnx, have to be in it"
        ):
            load(folder)


def test_a_graph_outside_the_folder_is_refused(folder):
    shutil.copy(folder / "model.onnx", folder.parent / "other.onnx")
    altered(folder, graph="../other.onnx")
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{signature._sha256(folder.parent / 'other.onnx')}  ../other.onnx\n")
    rehashed(folder)
    with pytest.raises(ExportError, match=r"SHA256SUMS: it lists '\.\./other\.onnx'; expected names"):
        load(folder)


@pytest.mark.parametrize("name", ["engine", "graph", "static", "threshold", "tolerance", "value_ranges"])
def test_a_manifest_that_lacks_something_says_what(folder, name):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rehashed(folder)
    with pytest.raises(ExportError, match=rf"manifest\.json: it lacks {name}\."):
        load(folder)


def test_a_hint_for_openvino_is_refused_by_another_engine(exported_onnx, exported_openvino):
    with pytest.raises(ExportError, match=r"precision is 'bf16', which is a hint for OpenVINO; .* was made for onnx"):
        load(exported_onnx, precision="bf16")
    load(exported_openvino, precision="bf16")


def test_what_is_no_exported_folder_says_so(tmp_path, detector):
    detector.save(tmp_path / "nuts.patchcore")
    for path in (tmp_path, tmp_path / "gone", tmp_path / "nuts.patchcore"):
        with pytest.raises(ExportError, match=r"no manifest\.json in it; expected a folder that `patchcore export`"):
            load(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}'])
def test_a_damaged_manifest_says_so(folder, text):
    (folder / "manifest.json").write_text(text)
    rehashed(folder)
    with pytest.raises(ExportError, match=r"manifest\.json: damaged"):
        load(folder)


def test_a_newer_folder_says_what_to_do(folder):
    altered(folder, format=2)
    rehashed(folder)
    with pytest.raises(ExportError, match=r"format 2; this version reads formats up to 1\. Upgrade"):
        load(folder)


# ---- signatures


def test_a_signed_folder_loads(exported_onnx, exported_openvino, keys):
    for folder in (exported_onnx, exported_openvino):
        assert load(folder, require_signature=keys / "public.pem").predict(np.zeros((9, 9), np.uint8)).score > 0


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "vectors/vectors.json"])
def test_one_changed_byte_of_a_signed_folder_is_detected_before_it_is_read(folder, keys, name, monkeypatch):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 3] ^= 1
    (folder / name).write_bytes(data)
    monkeypatch.setattr("patchcore_runtime.folder.read", lambda folder: pytest.fail("it was read"))
    with pytest.raises(SignatureError, match=rf"{Path(name).name}: changed after signing"):
        load(folder, require_signature=keys / "public.pem")


@pytest.mark.parametrize(
    ("spoil", "key", "message"),
    [
        (lambda f: None, "other.pem", "signed with another key"),
        (lambda f: (f / "signature.json").unlink(), "public.pem", r"not signed: there is no signature\.json in it"),
        (lambda f: (f / "signature.json").write_text("{}"), "public.pem", "not a signature, or a damaged one"),
        (lambda f: (f / "origins.npy").unlink(), "public.pem", r"origins\.npy: removed after signing"),
        (lambda f: (f / "more.py").touch(), "public.pem", r"more\.py: added after signing"),
    ],
)
def test_both_packages_refuse_the_same_folders(folder, keys, spoil, key, message):
    spoil(folder)
    with pytest.raises(SignatureError, match=message):
        load(folder, require_signature=keys / key)
    with pytest.raises(patchcore.errors.SignatureError, match=message):
        signature.check_signature(folder, keys / key)


def test_verify_checks_the_signature_first(run, folder, keys):
    def verified(key):
        return run("verify", folder, "--require-signature", keys / key, "--json")

    done = verified("public.pem")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["decisions"] == 0
    assert verified("other.pem").exit_code == 1
    (folder / "model.onnx").write_bytes(b"another graph")
    done = verified("public.pem")
    assert done.exit_code == 1
    assert "model.onnx: changed after signing" in done.stderr


def test_a_folder_that_was_not_signed_is_refused_but_loads_without_the_demand(folder, keys):
    (folder / "signature.json").unlink()
    load(folder, verify=True)
    with pytest.raises(SignatureError, match="not signed"):
        load(folder, verify=True, require_signature=keys / "public.pem")


def test_a_list_of_hashes_made_right_again_is_detected(folder, keys):
    (folder / "model.onnx").write_bytes(b"another graph")
    document = json.loads((folder / "signature.json").read_text())
    document["files"]["model.onnx"] = signature._sha256(folder / "model.onnx")
    (folder / "signature.json").write_text(json.dumps(document))
    with pytest.raises(SignatureError, match="not a signature by the key that it names"):
        load(folder, require_signature=keys / "public.pem")


@pytest.mark.parametrize("key", ["private.pem", "gone.pem"])
def test_what_is_no_public_key_says_so(folder, keys, key):
    with pytest.raises(ExportError, match=rf"{key}: expected an Ed25519 public key in PEM"):
        load(folder, require_signature=keys / key)


def test_without_the_library_for_signatures_the_extra_is_named(folder, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ExportError, match=r"'cryptography'.*pip install 'patchcore-runtime\[sign\]'"):
        load(folder, require_signature=keys / "public.pem")


# ---- the distribution


@pytest.mark.parametrize("format", FORMATS)
def test_a_prediction_loads_neither_torch_nor_the_library(format, request, hazelnut):
    folder = request.getfixturevalue(f"exported_{format}")
    code = (
        "import sys, patchcore_runtime; patchcore_runtime.load(sys.argv[1], verify=True).predict(sys.argv[2]); "
        "print(sorted({'torch', 'patchcore', 'timm', 'scipy', 'cv2', 'cryptography'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, folder, hazelnut / "test/colour/00.jpg"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("format", FORMATS)
def test_no_engine_reports_to_anybody(format, request, tmp_path):
    # ONNX Runtime leaves a device id and a queue of events in the home folder, unless it is told not to.
    folder = request.getfixturevalue(f"exported_{format}")
    code = "import sys, patchcore_runtime; patchcore_runtime.load(sys.argv[1], verify=True); print(*sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    done = subprocess.run([sys.executable, "-c", code, folder], env={**environment, "HOME": str(tmp_path)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert list(tmp_path.rglob("*")) == []
    assert "openvino_telemetry" not in done.stdout.split()


def test_it_imports_nothing_but_its_own_dependencies():
    import ast

    known = {*sys.stdlib_module_names, "patchcore_runtime", "numpy", "PIL", "cv2", "cryptography"}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            assert {name.split(".")[0] for name in names} <= known, path.name


def test_it_can_be_read_in_one_sitting():
    assert sum(len(path.read_text("utf-8").splitlines()) for path in ROOT.glob("*.py")) <= 1230


def test_both_packages_have_one_version():
    assert patchcore_runtime.__version__ == patchcore.__version__


def test_the_command_prints_one_object_per_image(exported_onnx, hazelnut, keys, detector):
    image = hazelnut / "test/colour/00.jpg"
    command = [sys.executable, "-m", "patchcore_runtime", exported_onnx, image, "gone.png", "--verify",
               "--require-signature", keys / "public.pem"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1  # for the image that is not there
    good, bad = (json.loads(line) for line in done.stdout.splitlines())
    assert (good["path"], good["decision"]) == (str(image), "fail")
    assert good["score"] == pytest.approx(detector.predict(image).score, rel=1e-4)
    assert bad == {"path": "gone.png", "error": "gone.png: no such file."}
    assert "largest difference of a score" in done.stderr


def command(*arguments):
    done = subprocess.run([sys.executable, "-m", "patchcore_runtime", *arguments],
                          capture_output=True, text=True, check=False)  # fmt: skip
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_a_wrong_command_line_is_told_from_a_folder_that_is_damaged(folder, tmp_path):
    for arguments, message in (
        ([tmp_path / "gone", "a.png"], "gone: expected a folder that `patchcore export` has written."),
        ([tmp_path, "a.png"], "expected a folder that `patchcore export` has written."),
        ([folder], "give images, or --verify."),
    ):
        code, printed, said = command(*arguments)
        assert (code, printed) == (2, "")
        assert said[-1].endswith(message)
    (folder / "model.onnx").write_bytes(b"x")
    code, printed, said = command(folder, "a.png")
    assert (code, printed, len(said)) == (1, "", 1)
    assert "model.onnx: altered or damaged" in said[0]


def test_a_folder_in_the_place_of_an_image_is_named_and_the_others_go_on(exported_onnx, hazelnut):
    code, printed, _ = command(exported_onnx, hazelnut, hazelnut / "test/colour/00.jpg")
    first, second = map(json.loads, printed.splitlines())
    assert (code, first["error"]) == (1, f"{hazelnut}: a folder, where an image was expected.")
    assert second["decision"] == "fail"
