"""The peer's side of export_speed.py, for its own interpreter: its own OpenVINO export, timed.

peer/bin/python benchmarks/peer_anomalib_export.py WORK THREADS SECONDS
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from anomalib.models import Patchcore
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, Resize

sys.modules["openvino_telemetry"] = None  # otherwise it reports to a server
import openvino as ov  # noqa: E402


def made(work: Path) -> Patchcore:
    about = json.loads((work / "peer.json").read_text("utf-8"))
    steps = [Resize(about["size"], antialias=True)]
    steps += [CenterCrop(about["crop"])] if about["crop"] else []
    transform = Compose([*steps, Normalize(mean=about["mean"], std=about["std"])])
    model = Patchcore(
        backbone=about["backbone"],
        layers=about["layers"],
        pre_trained=False,
        num_neighbors=9,
        pre_processor=PreProcessor(transform=transform),
        post_processor=False,
        evaluator=False,
        visualizer=False,
    )
    network = model.model.feature_extractor.feature_extractor
    network.load_state_dict(torch.load(work / "weights.pt"), strict=False)
    model.model.memory_bank = torch.load(work / "bank.pt")
    return model.eval()


def main() -> None:
    work, threads, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    images = np.load(work / "images.npy")
    if images.shape[3] == 1:
        images = images.repeat(3, 3)
    path = work / "peer" / "weights" / "openvino" / "model.xml"
    if not path.exists():
        made(work).to_openvino(work / "peer", input_size=images.shape[1:3], onnx_kwargs={"dynamic_shapes": None})
    core = ov.Core()

    def compiled(count: int) -> ov.CompiledModel:
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": count}
        if count == 1:
            options |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
        return core.compile_model(path, "CPU", options)

    def look(model: ov.CompiledModel, image: np.ndarray) -> float:
        pixels = image.transpose(2, 0, 1)[None].astype(np.float32) / 255
        found = model.create_infer_request().infer([pixels])
        named = {next(iter(port.names)): value for port, value in found.items()}
        return float(named["pred_score"].item())

    one = compiled(threads)
    scores = [look(one, image) for image in images]
    times, processor, begin = [], [], time.perf_counter()
    while time.perf_counter() - begin < seconds or len(times) < 5:
        start, own = time.perf_counter(), time.process_time()
        look(one, images[len(times) % len(images)])
        times.append(time.perf_counter() - start)
        processor.append(time.process_time() - own)
    many = compiled(1)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda image: look(many, image), images[: 2 * threads]))
        done, begin = 0, time.perf_counter()
        while (passed := time.perf_counter() - begin) < seconds:
            done += len(list(pool.map(lambda image: look(many, image), images[: 4 * threads])))
    result = {"milliseconds": 1000 * statistics.median(times), "processor": 1000 * statistics.median(processor)}
    print(json.dumps({**result, "per_second": done / passed, "scores": scores}))


if __name__ == "__main__":
    main()
