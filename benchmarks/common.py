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

    from patchcore.data.reading import Reading
    from patchcore.data.resolve import resolve
    from patchcore.pipeline.workers import through

    def half(batch: Any) -> Any:
        return [one.values.half() for one in embedder(batch)]

    return torch.cat(list(through(half, resolve(images).samples, Reading(), None)))


def as_seen(embedder: Any, images: list[Path]) -> Any:
    """The images as the network sees them, (N, 3, H, W)."""
    import torch

    from patchcore.data.sample import Sample
    from patchcore.pipeline.workers import load

    return torch.stack([embedder._placed(load(Sample(path.name, path), 10**8))[0][1] for path in images])


def calibrated_weights(name: str, side: int, folder: Path) -> Path:
    """Write a weights file of a timm network: random weights (seed 0), with the batch statistics of 32 real images."""
    import timm
    import torch
    from safetensors.torch import save_file

    from patchcore import Recipe
    from patchcore.backbones import build
    from patchcore.pipeline.embed import Embedder

    recipe = Recipe(backbone=name, size=side, resize="stretch", exposure="even", pool="mean")
    embedder = Embedder(recipe, build(name, "random", recipe.taps, (side, side)), torch.device("cpu"))
    seen = as_seen(embedder, mono_cells()[:32])
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain mean over the batches
            module.reset_running_stats()
    with torch.no_grad():
        model.train()(seen)
    path = folder / f"{name}.safetensors"
    save_file(model.state_dict(), path)
    return path
