"""What the golden test fits, and what it keeps of it: bytes of banks, scores, maps.

`python tests/golden/cases.py` writes golden.json again. Do that only where a change of results is meant.
"""

import hashlib
import json
import platform
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from patchcore import Detector, Recipe

HERE = Path(__file__).parent
HAZELNUT = next(path for path in HERE.parent.glob("*/hazelnut") if path.is_dir())
NEW = ("test/good/04.jpg", "test/colour/00.jpg")
SMALL = {"backbone": "resnet18", "weights": "random"}  # for recipes whose own weights are not installed

RECIPES = {
    **{name: lambda name=name: Recipe.named(name) for name in ("default", "accurate", "few_shot", "fast")},
    **{name: lambda name=name: Recipe.named(name).replace(**SMALL) for name in ("lightning", "inspection")},
    "ensemble": lambda: Recipe(
        members=[{"size": 160}, {"resize": "short_side", "size": 160, "crop": 128, "distance": "squared_l2"}]
    ),
    "tiles": lambda: Recipe(size=256, tile=128, tile_stride=64),
    "scales": lambda: Recipe(size=128, scales=(1.0, 0.75), neighbours=3, image_score="reweighted"),
    "letterbox": lambda: Recipe(size=(96, 160), resize="letterbox", exposure="as_is", scaling="none"),
}
ENGINES = ("default", "accurate")  # with OpenVINO too


def digest(*arrays) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        sha.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return sha.hexdigest()[:32]


def machine() -> str:
    """What the last bits depend on."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith(("cpu family", "model\t"))][:2]
    return f"torch {torch.__version__.partition('+')[0]}, {torch.backends.cpu.get_cpu_capability()}, {' '.join(names)}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text("utf-8").splitlines() if path.is_file() else [f"model\t: {platform.processor()}"]


def kept(results) -> dict:
    return {
        "scores": [float(one.score) for one in results],
        "decisions": [one.decision for one in results],
        "maps": [digest(one.map) for one in results],
        "patch_scores": [digest(one.patch_scores.cpu().numpy(), one.nearest_rows.cpu().numpy()) for one in results],
    }


def _thresholds(detector) -> list[float]:
    calibration = detector.fitted.calibration
    return [calibration.threshold, calibration.pixel_threshold]


def of_recipe(name: str) -> dict:
    detector = Detector(RECIPES[name]()).fit(HAZELNUT / "train" / "good")
    with tempfile.TemporaryDirectory() as folder:
        detector.save(Path(folder) / "model", weights=False)
        tensors = load_file(Path(folder) / "model")
        found = {"bank": {name: digest(tensor.numpy()) for name, tensor in sorted(tensors.items()) if "bank." in name}}
        found |= {"threshold": _thresholds(detector)}
        found |= kept(detector.predict([HAZELNUT / one for one in NEW]))
        if name in ENGINES:
            other = Detector.load(Path(folder) / "model", engine="openvino")
            found["openvino"] = kept(other.predict([HAZELNUT / one for one in NEW]))
    return found


def pixels(*paths) -> torch.Tensor:
    arrays = [np.asarray(Image.open(path).convert("RGB").resize((96, 96))) for path in paths]
    return (torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25


def train() -> torch.Tensor:
    return pixels(*sorted((HAZELNUT / "train/good").iterdir()))


def new() -> torch.Tensor:
    return pixels(*(HAZELNUT / one for one in NEW))


def of_inspection() -> dict:
    from patchcore.inspection import ApproximateGreedyCoresetSampler, PatchCore, backbones

    torch.manual_seed(3)
    model = PatchCore("cpu")
    network = backbones.load("resnet18", "random", size=(96, 96))
    sampler = ApproximateGreedyCoresetSampler(0.1, "cpu")
    model.load(network, ["layer2", "layer3"], "cpu", (3, 96, 96), 128, 96, featuresampler=sampler)
    model.fit([train()])
    scores, masks = model.predict(new())
    rows = model.anomaly_scorer.nn_method.rows()
    return {"bank": {"rows": digest(rows)}, "scores": [float(s) for s in scores], "maps": [digest(m) for m in masks]}


def of_lightning(version: int) -> dict:
    if version:
        from patchcore.lightning import PatchcoreModel

        model = PatchcoreModel(["layer2", "layer3"], "resnet18", False)
    else:
        from patchcore.lightning.v0 import PatchcoreModel

        model = PatchcoreModel(["layer2", "layer3"], (96, 96), "resnet18", pre_trained=False)
    model.train()
    model.subsample_embedding(model(train()), 0.1)
    model.eval()
    found = model(new())
    maps, scores = found if isinstance(found, tuple) else (found["anomaly_map"], found["pred_score"])
    rows = model.memory_bank.numpy()
    return {"bank": {"rows": digest(rows)}, "scores": scores.tolist(), "maps": [digest(one.numpy()) for one in maps]}


CASES = {
    **{name: lambda name=name: of_recipe(name) for name in RECIPES},
    "inspection interface": of_inspection,
    "lightning interface": lambda: of_lightning(1),
    "lightning interface of v0": lambda: of_lightning(0),
}


if __name__ == "__main__":
    path = HERE / "golden.json"
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    known[machine()] = {name: make() for name, make in CASES.items()}
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")
