"""Log a benchmark to MLflow: a run for each cell, with its settings, figures and machine.

pip install mlflow-skinny
patchcore benchmark --data parts --recipes default,fast -o benchmark_out
MLFLOW_TRACKING_URI=sqlite:///mlflow.db python examples/mlflow_logging.py benchmark_out

A cell that has a run already gets no second one, so it may be called after every benchmark.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlflow

# What a cell is, and what it was measured with; all other numbers are figures.
SETTINGS = ("dataset", "category", "recipe", "shots", "seed", "set", "backbone", "device", "engine", "precision")
MACHINE = ("processor", "cores", "threads", "python", "patchcore", "torch", "timm", "numpy", "date", "jobs")


def log_benchmark(folder: Path, experiment: str = "patchcore") -> int:
    """Log what is new in results.jsonl of a benchmark's folder; how many cells that is."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text("utf-8").splitlines() if line]
    chosen = mlflow.set_experiment(experiment)
    runs = mlflow.search_runs([chosen.experiment_id], output_format="list")
    known = {run.data.tags.get("patchcore.key") for run in runs}
    new = [row for row in rows if row["key"] not in known]
    for row in new:
        name = "-".join(str(row[key]) for key in ("dataset", "category", "recipe", "seed"))
        with mlflow.start_run(run_name=name):
            mlflow.set_tags({"patchcore.key": row["key"], **{key: row[key] for key in MACHINE}})
            mlflow.log_params({key: row[key] for key in SETTINGS})
            numbers = {key: value for key, value in row.items() if key not in (*SETTINGS, *MACHINE)}
            mlflow.log_metrics({key: value for key, value in numbers.items() if isinstance(value, int | float)})
    return len(new)


if __name__ == "__main__":
    print(f"{log_benchmark(Path(sys.argv[1]))} cells logged to {mlflow.get_tracking_uri()}")
