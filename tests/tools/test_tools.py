"""tools/train.py and tools/inference.py, as they are started and step by step."""

import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from patchcore.errors import DataError

ROOT = Path(__file__).parents[2]


def tool(name: str):
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train, inference = tool("train"), tool("inference")


def started(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """A tool in a process of its own, at another place than the repository's."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def run_as_main(name: str, arguments: list[str], monkeypatch) -> object:
    """A tool as it is started, in this process: what it exits with."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(ROOT / "tools" / f"{name}.py"), run_name="__main__")
    return done.value.code


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """The configuration that comes with the tools, for smaller images."""
    found = yaml.safe_load((ROOT / "tools/config/patchcore.yaml").read_text())
    found["dataset"] |= {"image_size": 128, "num_workers": 0}
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(found))
    return path


@pytest.fixture(scope="module")
def results(config, hazelnut, tmp_path_factory) -> Path:
    """What train.py writes."""
    folder = tmp_path_factory.mktemp("results")
    done = started(
        "train", "--model", "patchcore", "--config", config, "--data", hazelnut, "--output", folder, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("image AUROC 1.000 | pixel AUROC 0.9"), done.stdout
    return folder


def arguments(results: Path, source: object, target: Path, *more: object) -> list[str]:
    known = ["--config", results / "config.yaml", "--weight_path", results / "weights/model.ckpt"]
    return [str(word) for word in (*known, "--image_path", source, "--save_path", target, *more)]


def test_train_writes_what_inference_reads_and_its_seed_is_42(results):
    assert yaml.safe_load((results / "config.yaml").read_text())["project"]["seed"] == 42
    assert (results / "meta_data.json").is_file()


def test_images_of_a_folder_become_overlays_of_their_size_with_a_label(results, hazelnut, tmp_path, capsys):
    assert inference.stream(arguments(results, hazelnut / "test/colour", tmp_path)) == 0
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == [f"{path.name}.png" for path in sorted((hazelnut / "test/colour").iterdir())]
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(written)
    assert all(float(score) > 0.5 for _, score, _ in lines)
    overlay = np.asarray(Image.open(tmp_path / "00.jpg.png"))
    image = np.asarray(Image.open(hazelnut / "test/colour/00.jpg"))
    assert overlay.shape == image.shape
    assert (overlay[:3, :60] == 255).all()  # the label's ground
    assert np.abs(overlay.astype(int) - image)[150:350, 150:350].mean() > 10  # heat


def test_one_image_with_meta_data_of_its_own(results, hazelnut, tmp_path, capsys, monkeypatch):
    words = arguments(results, hazelnut / "test/good/04.jpg", tmp_path, "--meta_data", results / "meta_data.json")
    assert run_as_main("inference", words, monkeypatch) == 0
    name, score, _ = capsys.readouterr().out.split("\t")
    assert name == "04.jpg"
    assert float(score) < 0.5
    assert [path.name for path in tmp_path.rglob("*.png")] == ["04.jpg.png"]


@pytest.fixture
def video(hazelnut, tmp_path) -> Path:
    """A good part, then a defective one."""
    path = tmp_path / "belt.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (512, 512))
    for name in ("good/04.jpg", "good/04.jpg", "colour/00.jpg"):
        writer.write(cv2.imread(str(hazelnut / "test" / name)))
    writer.release()
    return path


def test_every_image_of_a_video_gets_its_verdict(results, video, hazelnut, tmp_path, capsys):
    assert inference.stream(arguments(results, video, tmp_path / "out")) == 0
    scores = [float(line.split("\t")[1]) for line in capsys.readouterr().out.splitlines()]
    assert sorted(path.name for path in (tmp_path / "out/belt").iterdir()) == [f"00000{i}.png" for i in range(3)]
    assert scores[0] == scores[1] < 0.5 < scores[2]
    # The colours are the right way round: the same score as for the file, but for the video's losses.
    inference.stream(arguments(results, hazelnut / "test/colour/00.jpg", tmp_path / "out"))
    assert float(capsys.readouterr().out.split("\t")[1]) == pytest.approx(scores[2], abs=0.1)


def test_a_limit_stops_the_stream(results, video, tmp_path, capsys):
    inference.stream(arguments(results, video, tmp_path / "out", "--limit", 1))
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_bad_image_is_named_and_the_others_go_on(results, hazelnut, tmp_path, capsys):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no image")
    (folder / "b.jpg").write_bytes((hazelnut / "test/good/04.jpg").read_bytes())
    assert inference.stream(arguments(results, folder, tmp_path / "out")) == 1
    said = capsys.readouterr()
    assert "a.png: not an image that can be read" in said.err
    assert said.out.startswith("b.jpg\t")


@pytest.mark.skipif(os.path.exists("/dev/video97"), reason="there is a camera 97 here")
def test_a_camera_that_is_not_there_says_so(results, tmp_path, capfd):
    with pytest.raises(DataError, match="Camera 97 cannot be opened"):
        inference.stream(arguments(results, 97, tmp_path / "out"))


def test_without_data_train_says_which_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_as_main("train", ["--model", "patchcore"], monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: There is no dataset at datasets/MVTec/bottle. Expected the MVTec AD layout")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("train", "--model patchcor", "Error: There is no model 'patchcor'. Did you mean 'patchcore'?"),
        ("train", "--config gone.yaml", "Error: The configuration gone.yaml cannot be read"),
        ("inference", "--weight_path gone.ckpt", "Error: gone.ckpt does not exist."),
        ("inference", "--image_path gone.png", "Error: gone.png: no such file or folder"),
        ("inference", "--config gone.yaml", "Error: The configuration gone.yaml cannot be read"),
    ],
)
def test_wrong_usage_is_exit_code_2(name, words, said, results, hazelnut, tmp_path, monkeypatch, capsys):
    right = ["--data", str(hazelnut)] if name == "train" else arguments(results, hazelnut, tmp_path / "out")
    assert run_as_main(name, [*right, *words.split()], monkeypatch) == 2
    assert capsys.readouterr().err.startswith(said)


def test_a_checkpoint_that_is_none_is_exit_code_1(results, hazelnut, tmp_path, monkeypatch, capsys):
    (tmp_path / "broken.ckpt").write_bytes(b"no checkpoint")
    words = arguments(results, hazelnut, tmp_path / "out", "--weight_path", tmp_path / "broken.ckpt")
    assert run_as_main("inference", words, monkeypatch) == 1
    assert "Error: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["patchcore", "wide_resnet50"])
def test_the_configurations_that_come_along_are_whole(name):
    from patchcore.inferencers import get_model
    from patchcore.lightning.torch_model import about_to_load

    found = yaml.safe_load((ROOT / f"tools/config/{name}.yaml").read_text())
    with about_to_load():
        model = get_model(found)
    assert model.coreset_sampling_ratio == 0.1
    assert model.seed == 42
    assert (model.model.backbone, model.model.input_size) == {
        "patchcore": ("efficientnet_lite0", (256, 256)),
        "wide_resnet50": ("wide_resnet50_2", (224, 224)),
    }[name]


def test_the_names_of_anomalib_s_own_options_are_taken(tmp_path):
    args = train.get_args(["--model", "patchcore", "--model_config_path", str(tmp_path)])
    assert (args.config, args.seed) == (tmp_path, None)
    words = "--model_config_path c --weight_path w --image_path 0 --save_path s --meta_data m"
    args = inference.get_args(words.split())
    assert (args.config, args.weight_path, args.image_path) == (Path("c"), Path("w"), "0")
