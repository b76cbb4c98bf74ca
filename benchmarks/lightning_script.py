"""One script of anomalib 2.7 on both: what does it print, and are the scores the same?

    python benchmarks/lightning_script.py --peer PYTHON [DATA]

The script trains, tests, predicts, exports and runs the export of a Patchcore; for our side only the prefix of its
imports changes. DATA is a category in the MVTec AD layout with one kind of defects, by default that of the tests. Both
have the weights of EfficientNet-Lite0 from a file: the peer's timm is told to take them for pretrained ones. Prints what
one side alone has printed; the score of one image by the engine and by exports, on each side's own scale; and, with our
bank in both, the largest relative differences of raw scores and maps of the images that both have tested.

`--peer` is the interpreter of a separate environment, as for lightning_against_anomalib.py, with openvino, onnx and
onnxscript; the script installs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchcore.backbones import build

LAYERS = ("blocks.2", "blocks.4")
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from anomalib.data import Folder, PredictDataset
from anomalib.deploy import ExportType, OpenVINOInferencer, TorchInferencer
from anomalib.engine import Engine
from anomalib.models import Patchcore

root, kind, bank = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
datamodule = Folder(
    name="parts",
    root=root,
    normal_dir="train/good",
    normal_test_dir="test/good",
    abnormal_dir=f"test/{kind}",
    mask_dir=f"ground_truth/{kind}",
    train_batch_size=4,
    eval_batch_size=4,
    num_workers=0,
)
model = Patchcore(
    backbone="tf_efficientnet_lite0",
    layers=["blocks.2", "blocks.4"],
    pre_trained=WEIGHTS,
    coreset_sampling_ratio=0.1,
    pre_processor=Patchcore.configure_pre_processor(image_size=(224, 224)),
)
engine = Engine(accelerator="cpu", default_root_dir="results", enable_progress_bar=False, enable_model_summary=False)
engine.fit(model=model, datamodule=datamodule)
print("bank", tuple(model.model.memory_bank.shape))
print("checkpoint", Path(engine.best_model_path).relative_to(Path.cwd()) if engine.best_model_path else None)
for name, value in sorted(engine.test(model=model, datamodule=datamodule)[0].items()):
    print("test", name, round(value, 3))


def shown(title, batch):
    for name in ("image", "pred_score", "pred_label", "anomaly_map", "pred_mask", "gt_label", "gt_mask"):
        value = getattr(batch, name, None)
        print(title, name, None if value is None else (tuple(value.shape), str(value.dtype)))


predictions = engine.predict(model=model, datamodule=datamodule)
print("predictions", type(predictions).__name__, len(predictions))
shown("batch", predictions[0])
image = sorted((root / "test" / kind).iterdir())[0]
for prediction in engine.predict(model=model, dataset=PredictDataset(path=image, image_size=(224, 224))):
    print("image", Path(prediction.image_path[0]).name, tuple(prediction.anomaly_map.shape))
    alone = float(prediction.pred_score[0])
inferred, pixels = {}, np.asarray(Image.open(image).convert("RGB"))
for export_type, inferencer in ((ExportType.TORCH, TorchInferencer), (ExportType.OPENVINO, OpenVINOInferencer)):
    size = {"input_size": pixels.shape[:2]} if export_type is ExportType.OPENVINO else {}
    path = engine.export(model=model, export_type=export_type, export_root="exported", **size)
    print("export", export_type.value, path.parent, path.suffix)
    run = inferencer(path=path, device="cpu" if export_type is ExportType.TORCH else "CPU")
    prediction = run.predict(np.stack([pixels / np.float32(255)] * 2) if size else image)  # theirs takes two, no others
    shown(export_type.value, prediction)
    inferred[export_type.value] = float(prediction.pred_score.ravel()[0])
if bank.exists():  # of the other side: the same bank, so that raw scores can be compared
    model.model.memory_bank = torch.from_numpy(np.load(bank))
else:
    np.save(bank, model.model.memory_bank.numpy())
scores, maps = {}, {}
for batch in predictions:
    with torch.no_grad():
        raw = model.model.eval()(batch.image)
    for path, score, values in zip(batch.image_path, raw.pred_score, raw.anomaly_map):
        key = Path(path).parent.name + Path(path).stem
        scores[key], maps[key] = float(score), values.squeeze().numpy()
np.savez("maps.npz", **maps)
print("RESULT", json.dumps({"scores": scores, "inferred": {"engine": alone, **inferred}}))
"""
# The peer's timm takes the same file for pretrained weights.
PEER = """
import functools, timm
timm.create_model = functools.partial(timm.create_model, pretrained_cfg_overlay={"file": %r})
import os
os.environ["TRUST_REMOTE_CODE"] = "1"  # its own export, a pickle
"""


def run(python: str, script: str, work: Path, arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """What the script prints, and its results."""
    work.mkdir()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [python, "-W", "ignore", "-c", script, *arguments]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{python}:\n{done.stdout}\n{done.stderr[-3000:]}")
    words = ("bank", "checkpoint", "test ", "predictions", "batch", "image", "export", "torch", "openvino", "RESULT")
    lines = [line for line in done.stdout.splitlines() if line.startswith(words)]
    return lines[:-1], json.loads(lines[-1].removeprefix("RESULT "))


def apart(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float((np.abs(a - b) / np.abs(b)).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parents[1] / "tests" / "images" / "hazelnut"
    parser.add_argument("data", nargs="?", type=Path, default=here)
    parser.add_argument("--peer", required=True, help="interpreter of an environment that has anomalib")
    options = parser.parse_args()
    (kind,) = [p.name for p in (options.data / "test").iterdir() if p.is_dir() and p.name != "good"]
    with tempfile.TemporaryDirectory(prefix="patchcore-bench-") as folder:
        work = Path(folder)
        weights = str(work / "weights.pt")
        torch.save(build("efficientnet_lite0", "pretrained", LAYERS, (224, 224)).extractor.model.state_dict(), weights)
        arguments = [str(options.data.resolve()), kind, str(work / "bank.npy")]
        ours = SCRIPT.replace("from anomalib.", "from patchcore.lightning.").replace("WEIGHTS", repr(weights))
        found, own = run(sys.executable, ours, work / "ours", arguments)
        there, peer = run(options.peer, PEER % weights + SCRIPT.replace("WEIGHTS", "True"), work / "theirs", arguments)
        print(f"{len(set(found) & set(there))} lines are the same")
        for name, lines, others in (("there", there, found), ("here", found, there)):
            print(*(f"  {name:5} alone: {line}" for line in lines if line not in others), sep="\n")
        for side, result in (("there", peer), ("here", own)):
            print(f"  {side}: one image by", {name: round(value, 6) for name, value in result["inferred"].items()})
        names = sorted(set(own["scores"]) & set(peer["scores"]))
        scores = apart([own["scores"][n] for n in names], [peer["scores"][n] for n in names])
        maps = [np.load(work / side / "maps.npz") for side in ("ours", "theirs")]
        largest = max(apart(maps[0][n], maps[1][n]) for n in names)
        print(f"  raw scores of {len(names)} images differ by {scores:.1e}, maps by {largest:.1e}")


if __name__ == "__main__":
    main()
