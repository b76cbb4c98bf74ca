"""Shared by the benchmarks: machine and versions, timing, spread, and their data."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patchcore.benchmark.machine import machine as machine


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def summary(times: list[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": statistics.median(times), "min": min(times), "max": max(times), "runs": len(times)}


def write_json(path: Path | None, data: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", "utf-8")


def elpv_root() -> Path:
    """The folder of the PyPI package elpv-dataset that holds labels.csv and the images."""
    from patchcore.data.layouts import elpv

    folder = elpv.installed()
    if folder is None:
        raise SystemExit("This benchmark reads real images: pip install 'patchcore[demo]'")
    return folder


def mono_cells() -> list[Path]:
    """Real images, 300 x 300: the mono-crystalline solar cells, in the package's order."""
    lines = (elpv_root() / "labels.csv").read_text("utf-8").splitlines()
    return [elpv_root() / line.split()[0] for line in lines if " mono" in line]


def embeddings(embedder: Any, images: list[Path]) -> Any:
    """The half-precision patches of all images, (N, D)."""
    import torch

    from patchcore.data.resolve import samples

    stream = embedder.stream(
        samples(images),
        lambda one: one.patches.half(),
        batch_size=1,
        threads=torch.get_num_threads(),
        max_pixels=10**8,
    )
    return torch.cat(list(stream))


def calibrated_weights(name: str, side: int, folder: Path) -> Path:
    """Write a weights file of a timm network: random weights (seed 0), with the batch statistics of 32 real images."""
    import timm
    import torch
    from safetensors.torch import save_file

    from patchcore import Recipe
    from patchcore.backbones import build
    from patchcore.data.resolve import samples
    from patchcore.pipeline.embed import Embedder

    recipe = Recipe(backbone=name, size=side, resize="stretch")
    embedder = Embedder(recipe, build(name, "random", recipe.taps, (side, side)), torch.device("cpu"))
    framed = [embedder._framed(sample, 10**8) for sample in samples(mono_cells()[:32])]
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain mean over the batches
            module.reset_running_stats()
    with torch.no_grad():
        model.train()(torch.stack([one.images[0] for one in framed]))
    path = folder / f"{name}.safetensors"
    save_file(model.state_dict(), path)
    return path
