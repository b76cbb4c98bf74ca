"""Write docs/reference from the code (the command line, the Python API, the recipe fields), and docs/datasets.md.

python docs/generate.py           writes the files
python docs/generate.py --check   fails if they are not up to date
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from patchcore.cli import _COMMANDS, main
from patchcore.recipe import Recipe

OUT = Path(__file__).parent / "reference"
HEAD = "<!-- Written by docs/generate.py from the code: edit the docstrings, then run `make docs`. -->\n\n"

API = {
    "patchcore": ["Detector", "Recipe", "Result", "Reading", "Sample", "Dataset"],
    "patchcore.measure.evaluation": ["evaluate", "Evaluation"],
    "patchcore.verdict.calibration": ["Calibration"],
    "patchcore.model.signing": ["sign", "private_key"],
    "patchcore.model.signature": ["check", "public_key", "signature_of"],
    "patchcore_runtime": ["load", "Model", "Result", "verify", "Agreement"],
    "patchcore.export": ["save", "Saved"],
    "patchcore.report": ["render", "write", "Sources"],
    "patchcore.benchmark.cells": ["sources", "plan", "Source", "Options", "Cell"],
    "patchcore.benchmark.runner": ["run", "Outcome"],
    "patchcore.benchmark.measure": ["measure"],
    "patchcore.benchmark.tables": ["averages", "write_csv", "write_markdown"],
    "patchcore.benchmark.plots": ["write", "latency", "categories", "shots"],
    "patchcore.tuning": [
        "gather",
        "defects_at",
        "cross_validate",
        "choose",
        "Images",
        "Candidate",
        "Figures",
        "Limits",
        "Choice",
    ],
    "patchcore.data.resolve": ["detect"],
    "patchcore.data.layouts": ["categories", "Category"],
    "patchcore.inspection": [
        "PatchCore",
        "PatchMaker",
        "NetworkFeatureAggregator",
        "Preprocessing",
        "Aggregator",
        "NearestNeighbourScorer",
        "ExactNN",
        "FaissNN",
        "ApproximateFaissNN",
        "RescaleSegmentor",
        "IdentitySampler",
        "GreedyCoresetSampler",
        "ApproximateGreedyCoresetSampler",
        "RandomSampler",
        "detector_of",
    ],
    "patchcore.inspection.backbones": ["load"],
    "patchcore.inspection.datasets.mvtec": ["MVTecDataset", "DatasetSplit"],
    "patchcore.maths.augmentation": ["changed"],
    "patchcore.maths.coreset": [
        "k_center_greedy",
        "merged",
        "select",
        "project",
        "starting_point",
        "mean_distances",
        "farthest_from_mean",
    ],
    "patchcore.maths.neighbours": ["Points", "nearest", "near_pairs"],
    "patchcore.maths.axes": ["principal_axes", "best_axes"],
    "patchcore.maths.embedding": ["embed", "pool_mean", "pool_bins", "align", "patches_of"],
    "patchcore.maths.binning": ["grid_of", "unfold", "average_bins"],
    "patchcore.maths.scoring": ["patch_scores", "image_score", "reweighted_score", "top_share_score"],
    "patchcore.maths.maps": ["anomaly_map", "side_matrix", "upsample_matrix", "gaussian_matrix"],
    "patchcore.maths.tiling": ["Tiling", "split", "merge"],
    "patchcore.maths.joining": ["join"],
    "patchcore.maths.places": ["cell_box"],
    "patchcore.maths.resize": ["resize", "resize_matrix", "Frame", "place", "pad"],
    "patchcore.maths.thresholds": ["fit_threshold", "needed_scores", "decide", "normalise", "normalise_by_range"],
    "patchcore.maths.metrics": ["image_metrics", "pixel_curve", "pixel_metrics", "pro_curve", "share_interval"],
    "patchcore.maths.ranking": ["wins", "auroc_interval", "difference", "needed_units", "Difference"],
    "patchcore.backbones": ["build", "wrap", "Extractor"],
    "patchcore.lightning": [
        "Patchcore",
        "PatchcoreModel",
        "ImageDataModule",
        "AnomalyMapGenerator",
        "KCenterGreedy",
        "AnomalyModule",
        "MemoryBankMixin",
        "DynamicBufferMixin",
    ],
    "patchcore.lightning.v0": ["PatchcoreModel", "PatchcoreLightning", "AnomalyMapGenerator"],
    "patchcore.inferencers": [
        "TorchInferencer",
        "Inferencer",
        "PreProcessor",
        "train",
        "get_model",
        "get_model_metadata",
        "read_config",
        "superimpose_anomaly_map",
        "anomaly_map_to_color_map",
        "add_label",
    ],
}


def cli() -> str:
    context = click.Context(main, info_name="patchcore", terminal_width=100, **main.context_settings)
    parts = [HEAD, "# Command line\n\n", _block(main.get_help(context))]
    for name in _COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context, terminal_width=100)
        parts += [f"\n## patchcore {name}\n\n", _block(command.get_help(inner))]
    return "".join(parts)


def _block(text: str) -> str:
    return f"```\n{text}\n```\n"


def api() -> str:
    parts = [HEAD, "# Python API\n"]
    for module_name, names in API.items():
        module = import_module(module_name)
        parts.append(f"\n## {module_name}\n")
        for name in names:
            parts.append(_describe(getattr(module, name), name))
    module = import_module("patchcore.errors")
    parts.append(f"\n## patchcore.errors\n\n```\n{inspect.getdoc(module)}\n```\n")
    return "".join(parts)


def _describe(thing: Any, name: str) -> str:
    if not inspect.isclass(thing):
        return f"\n### {name}{_signature(thing)}\n\n{inspect.getdoc(thing)}\n"
    fields = "" if thing is Recipe else _signature(thing)
    text = f"\n### {name}{fields}\n\n{inspect.getdoc(thing)}\n"
    for member, value in vars(thing).items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        document = inspect.getdoc(function)
        if member.startswith("_") or not document or member in ("model_config",):
            continue
        if inspect.isfunction(function):
            text += f"\n#### {name}.{member}{_signature(function)}\n\n{document}\n"
        elif isinstance(value, property) or hasattr(value, "func"):
            text += f"\n#### {name}.{member}\n\n{document}\n"
    return text


def _signature(thing: Any) -> str:
    try:
        text = str(inspect.signature(thing)).replace("'", "")  # annotations are strings
        return re.sub(r"<function (\w+) at \w+>", r"\1", text)  # not where in memory a default lies
    except ValueError:
        return ""


def recipe() -> str:
    parts = [HEAD, "# Recipe fields\n\n| field | default | meaning |\n| --- | --- | --- |\n"]
    default = Recipe().to_dict()
    for name, field in Recipe.model_fields.items():
        text = str(field.description).replace("|", "\\|")
        parts.append(f"| `{name}` | `{json.dumps(default[name])}` | {text} |\n")
    parts.append("\n# Named recipes\n\nEach states only what differs from `default`.\n\n")
    for name, description in Recipe.names().items():
        named = Recipe.named(name).to_dict()
        differences = ", ".join(f"`{k}={json.dumps(v)}`" for k, v in named.items() if v != default[k])
        parts.append(f"- **`{name}`**: {description}.{' ' + differences if differences else ''}\n")
    return "".join(parts)


def datasets() -> str:
    """The page of the datasets, from what their readers say of themselves."""
    from patchcore.data import layouts

    head = Path(__file__).with_name("datasets.head.md").read_text("utf-8").strip()
    parts = [HEAD, f"# Datasets\n\n{head}\n\n`patchcore datasets` prints what follows.\n"]
    for about, _ in layouts.datasets():
        folders = "\n".join(about.tree.split(", "))
        parts.append(
            f"\n## {about.title}\n\n- Source: <{about.source}>\n- Licence: {about.licence}.\n"
            f"- How to get it: {about.get}\n- Cite: {about.cite}.\n\n```\n{folders}\n```\n\n{about.reading}\n"
        )
    return "".join(parts)


def run(check: bool) -> list[str]:
    """Write the files; with `check`, write nothing and return those that are not up to date."""
    stale = []
    for name, text in {"cli.md": cli(), "api.md": api(), "recipe.md": recipe(), "../datasets.md": datasets()}.items():
        path = OUT / name
        if not check:
            OUT.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
    return stale


if __name__ == "__main__":
    stale = run("--check" in sys.argv)
    if stale:
        raise SystemExit(f"Not up to date: {', '.join(stale)}. Run `make docs`.")
