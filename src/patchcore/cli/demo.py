"""`patchcore demo`: solar cells, from images to verdicts."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from patchcore.cli.common import (
    AnyPath,
    command,
    device_option,
    json_option,
    print_json,
    say,
    tell,
    threads_option,
)
from patchcore.files import appearing, targets
from patchcore.files.text import write_csv

_LICENCE = (
    "Images: ELPV dataset (Buerhop-Lutz et al. 2018; Deitsch et al. 2019, 2021), from the PyPI package\n"
    "elpv-dataset. Data licence CC BY-NC-SA 4.0: non-commercial use only."
)


@click.command(epilog="Example: patchcore demo -o demo_out --limit 100")
@click.option("-o", "--output", type=AnyPath(path_type=Path, file_okay=False), default="demo_out", show_default=True)
@click.option("--recipe", "recipe_name", default="default", show_default=True, help="Recipe name, or a JSON file.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of split and recipe.")
@click.option("--limit", type=click.IntRange(1), help="Use at most this many training images.")
@device_option
@threads_option
@json_option
@command
def demo(
    output: Path,
    recipe_name: str,
    seed: int,
    limit: int | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Fit and evaluate on real solar-cell images, and draw the results.

    Uses monocrystalline cells: defect probability 0 is good, 1 is defective. 30 % of the good images are kept for
    testing. Writes cells.csv, cells.patchcore, sheet.png and scores.png into the output folder.

    JSON keys: those of `evaluate` except skipped, plus output.
    """
    from patchcore.cli.evaluate import show
    from patchcore.cli.recipes import read_recipe

    recipe = read_recipe([recipe_name], (), seed)

    from patchcore.data.resolve import detect
    from patchcore.detector import Detector
    from patchcore.measure.evaluation import evaluate

    images = _images()
    targets.folder(output, ["cells.csv", "cells.patchcore", "sheet.png", "scores.png"])
    output.mkdir(parents=True, exist_ok=True)
    table = output / "cells.csv"
    _write_table(table, images, seed)
    found = detect(table)
    say(f"Solar cells: {found.description}")
    detector = Detector(recipe, device=device, threads=threads).fit(found, limit=limit, progress=True)
    detector.save(output / "cells.patchcore")
    evaluation = evaluate(detector, found.test, progress=True)
    _draw_sheet(evaluation.results, output / "sheet.png")
    _draw_scores(evaluation.results, output / "scores.png")
    show(evaluation, as_json)
    tell(
        f"See {output / 'sheet.png'} (best and worst cases) and {output / 'scores.png'} (scores and threshold).",
        as_json,
    )
    say(_LICENCE)
    if as_json:
        print_json({**evaluation.figures(), "output": str(output)})


def _images() -> Path:
    """The image folder of the package elpv-dataset."""
    from patchcore.data.layouts import elpv
    from patchcore.errors import MissingExtraError

    folder = elpv.installed()
    if folder is None:
        raise MissingExtraError("elpv-dataset", "demo", "The demonstration")
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "demo", "The demonstration")
    return folder


def _write_table(table: Path, data: Path, seed: int) -> None:
    """Write the split as a CSV table with the columns path, label, split."""
    from patchcore.data.layouts import elpv

    rows = []
    for name, good in elpv.cells(data, "mono"):
        digest = hashlib.sha1(f"{seed}:{name}".encode(), usedforsecurity=False).digest()
        testing = not good or int.from_bytes(digest[:8], "big") < 0.3 * 2**64
        rows.append((str(data / name), "good" if good else "defect", "test" if testing else "train"))
    with appearing(table) as temporary:
        write_csv(temporary, [("path", "label", "split"), *rows])


def _draw_sheet(results: list[tuple[Any, Any]], path: Path) -> None:
    """Draw the clearest and hardest cases of both kinds, with and without the heat map, which may hide the defect."""
    from PIL import Image

    from patchcore.cli.sheet import sheet
    from patchcore.data.sample import GOOD

    good = sorted((r for s, r in results if s.kind == GOOD), key=lambda r: r.score)
    bad = sorted((r for s, r in results if s.kind != GOOD), key=lambda r: r.score)
    rows = [
        ("clear defect", bad[::-1][:4]),
        ("least visible defect", bad[:4]),
        ("clear good", good[:4]),
        ("most suspicious good", good[::-1][:4]),
    ]
    images = []
    for title, row in rows:
        for result in row:
            plain = Image.fromarray(result.pixels())
            images.append((title, plain))
            images.append((f"{result.decision}\nnormalised score {result.normalised:.2f}", result.overlay()))
    heading = "Solar cells: heat where the image differs from every good one"
    with appearing(path) as temporary:
        sheet(images, 8, title=heading, tile=160, legend=True).save(temporary, "PNG")


def _draw_scores(results: list[tuple[Any, Any]], path: Path) -> None:
    """Draw a histogram of the scores of good and defective images, with the threshold."""
    import numpy as np
    from matplotlib.figure import Figure

    from patchcore.data.sample import GOOD

    good = [r.score for s, r in results if s.kind == GOOD]
    bad = [r.score for s, r in results if s.kind != GOOD]
    bins = np.linspace(min(good + bad), max(good + bad), 40).tolist()
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.hist(good, bins, alpha=0.85, color="#4477aa", label=f"good ({len(good)})")
    axes.hist(bad, bins, histtype="step", linewidth=2, color="#aa3311", label=f"defective ({len(bad)})")
    threshold = results[0][1].threshold
    axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.3g}")
    axes.set_xlabel("image score")
    axes.set_ylabel("images")
    axes.legend()
    with appearing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
