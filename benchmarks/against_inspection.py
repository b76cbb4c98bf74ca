"""patchcore-inspection beside patchcore.inspection: one script on both, and its own tests on ours.

    python benchmarks/against_inspection.py CHECKOUT [IMAGES]

CHECKOUT is a folder of patchcore-inspection, which runs in this interpreter; IMAGES a folder of images, by default
those of the tests. Prints how far scores and maps of the same networks are apart, as largest relative differences, with
and without the pass in training mode; what its two programs measure with our modules under its names, one fitting an
ensemble and saving it, the other loading it; and what pytest says of CHECKOUT/test with them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from PIL import Image

from patchcore.backbones import build

ROOMS = ("backbones", "common", "metrics", "patchcore", "sampler", "utils", "datasets", "datasets.mvtec")
HERE = Path(__file__).resolve().parents[1] / "tests" / "images"
SCRIPT = """
import sys
import numpy as np
import torch
from {module}.common import FaissNN
from {module}.patchcore import PatchCore
from {module}.sampler import IdentitySampler

work, layers, more = sys.argv[1], sys.argv[2].split(","), {more}
images = torch.from_numpy(np.load(work + "/images.npy"))
model = PatchCore(torch.device("cpu"), **more)
model.load(
    backbone=torch.load(work + "/network.pt", weights_only=False),
    layers_to_extract_from=layers,
    device=torch.device("cpu"),
    input_shape=tuple(images.shape[1:]),
    pretrain_embed_dimension=256,
    target_embed_dimension=256,
    featuresampler=IdentitySampler(),
    nn_method=FaissNN(False, 1),
)
known, new = images[: len(images) // 2], images[len(images) // 2 :]
model.fit([{{"image": known}}])
scores, maps = model.predict(new)[:2]
np.save(work + "/{module}.npy", np.stack([np.asarray(one, np.float64).ravel() for one in maps]))
np.save(work + "/{module}-scores.npy", np.asarray(scores, np.float64))
"""
OURS = f"""
import importlib, pkgutil, sys
import patchcore.backbones
for one in pkgutil.walk_packages(patchcore.backbones.__path__, "patchcore.backbones."):
    importlib.import_module(one.name)  # ours, which the alias hides
for room in {ROOMS}:
    own = importlib.import_module("patchcore.inspection." + room)
    sys.modules["patchcore." + room] = own
    setattr(patchcore, room, own)
"""
PROGRAM = """
import runpy
import torch
patchcore.utils.set_torch_device = lambda gpus: torch.device("cpu")  # theirs is the first GPU, whatever is asked for
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TESTS = """
import pytest
sys.exit(pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", "--rootdir", sys.argv[1], sys.argv[1]]))
"""


def images_of(folder: Path, count: int = 12) -> np.ndarray:
    paths = sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg") and "mask" not in p.name)
    paths = paths[:: max(1, len(paths) // count)][:count]
    read = np.stack([np.asarray(Image.open(p).convert("RGB").resize((224, 224)), np.float32) for p in paths])
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return np.ascontiguousarray(((read / 255 - mean) / std).transpose(0, 3, 1, 2))


def run(work: Path, module: str, layers: str, path: Path | None, more: dict[str, object]) -> list[np.ndarray]:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    script = SCRIPT.format(module=module, more=more)
    subprocess.run([sys.executable, "-c", script, str(work), layers], env=environment, check=True)
    return [np.load(work / f"{module}{end}.npy") for end in ("-scores", "")]


def programs(checkout: Path, work: Path) -> None:
    """Fit, save and measure by one of their programs; load and measure by the other."""
    layers = [word for i in (0, 1) for name in ("blocks.2", "blocks.4") for word in ("-le", f"{i}.{name}")]
    model = ["patch_core", "-b", "efficientnet_lite0", "-b", "efficientnet_lite1", *layers]
    data = ["dataset", "--resize", "180", "--imagesize", "160", "--num_workers", "0", "-d", "hazelnut", "mvtec", HERE]
    saved = work / "fit" / "project" / "group"
    fitting = ["run_patchcore.py", "--save_patchcore_model", "--save_segmentation_images", work / "fit", *model]
    sampling = ["sampler", "-p", "0.1", "approx_greedy_coreset"]
    loading = ["load_and_evaluate_patchcore.py", work / "again"]
    loader = ["patch_core_loader", "-p", saved / "models" / "mvtec_hazelnut"]
    for program, *words in ([*fitting, *sampling, *data], [*loading, *loader, *data]):
        command = [sys.executable, "-c", OURS + PROGRAM, checkout / "bin" / program, *words]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    tables = [(folder / "results.csv").read_text() for folder in (saved, work / "again")]
    print(f"their programs, fitted and measured:\n{tables[0]}loaded and measured:\n{tables[1]}", flush=True)
    fitted, loaded = ([float(word) for word in table.replace("\n", ",").split(",") if "." in word] for table in tables)
    np.testing.assert_allclose(loaded, fitted, rtol=1e-6)  # one reads two images at a time, the other one


def lite() -> torch.nn.Module:
    """Our weights in timm's network, which both sides can load from a file."""
    weights = build("efficientnet_lite0", "pretrained", (8, 16), (224, 224)).extractor.model.state_dict()
    made = timm.create_model("tf_efficientnet_lite0")
    kept = made.load_state_dict(weights, strict=False)
    assert not kept.unexpected_keys
    return made


def main(checkout: Path, images: Path) -> int:
    torch.manual_seed(0)
    networks = {
        "EfficientNet-Lite0": (lite(), "blocks.2,blocks.4"),
        "ResNet-50, random weights": (torchvision.models.resnet50(), "layer2,layer3"),
    }
    print(f"{'largest difference':26} {'scores':>10} {'maps':>10} {'scores without':>15}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        np.save(work / "images.npy", images_of(images))
        for name, (network, layers) in networks.items():
            torch.save(network.train(), work / "network.pt")
            theirs = run(work, "patchcore", layers, checkout / "src", {})
            ours = run(work, "patchcore.inspection", layers, None, {})
            without = run(work, "patchcore.inspection", layers, None, {"training_pass": False})
            apart = [
                float(np.abs(a / b - 1).max()) for a, b in zip([*ours, without[0]], [*theirs, theirs[0]], strict=True)
            ]
            print(f"{name:26} {apart[0]:10.1e} {apart[1]:10.1e} {apart[2]:15.1e}", flush=True)
        programs(checkout, work)
    done = subprocess.run([sys.executable, "-c", OURS + TESTS, str(checkout / "test")], check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]) if len(sys.argv) > 2 else HERE))
