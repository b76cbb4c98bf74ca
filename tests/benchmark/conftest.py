"""Cells of a benchmark, and rows as they give them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from patchcore import Recipe
from patchcore.benchmark.cells import Cell, Source

METRICS = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_f1_max", "aupro_30", "aupro_05")


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    """A row of results.jsonl, every metric of it the same."""

    def make(category: str, value: float | None, recipe: str = "default", seed: int = 0, **more: Any) -> dict[str, Any]:
        names = {"dataset": "nuts", "category": category, "recipe": recipe, "shots": None, "seed": seed}
        rates = {"images": 7, "coverage": 1.0, "false_reject_rate": 0.0, "miss_rate": 0.25, "skipped": []}
        costs = {"fit_seconds": 2.0, "milliseconds": 20.0, "peak_memory_mb": 800.0, "model_mb": 5.0}
        about = {"device": "cpu", "engine": "torch", "precision": "fp32", "processor": "Fast | One", "cores": 2}
        versions = {"patchcore": "1.2", "torch": "2", "timm": "1", "numpy": "2", "python": "3.11", "date": "2026-01-02"}
        run = {"threads": 2, "jobs": 1, "set": ["size=128"], "key": f"{category}{recipe}{seed}"}
        metrics = dict.fromkeys(METRICS, value)
        return {**names, **metrics, **rates, **costs, **about, **versions, **run, **more}

    return make


@pytest.fixture
def cell(small_recipe: Recipe) -> Callable[..., Cell]:
    """A cell of a path."""

    def make(path: Path, recipe: str = "default", seed: int = 0, **more: Any) -> Cell:
        return Cell(Source("nuts", path.name, path), recipe, small_recipe.replace(seed=seed), seed, **more)

    return make
