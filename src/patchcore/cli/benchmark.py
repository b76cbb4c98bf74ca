"""`patchcore benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from patchcore.cli.cluster import address_of, cluster_option, workers_option
from patchcore.cli.common import (
    AnyPath,
    command,
    console,
    data_path,
    device_option,
    engine_option,
    json_option,
    listed,
    max_pixels_option,
    precision_option,
    print_json,
    say,
    tell,
    threads_option,
)
from patchcore.errors import MissingExtraError, UsageError, counted
from patchcore.files import targets

WRITTEN = ("results.csv", "results.md", "latency.png")  # beside results.jsonl and plots of each dataset


@click.command(epilog="Example: patchcore benchmark --data parts --recipes default,fast -o benchmark_out")
@click.argument("config", type=AnyPath(exists=True, path_type=Path, dir_okay=False), required=False)
@click.option(
    "--data",
    "roots",
    type=data_path,
    multiple=True,
    help="A category, a dataset (a folder of categories), a folder of datasets, or a CSV table; may be repeated.",
)
@click.option(
    "--recipes",
    metavar="A,B,...",
    help="Names of recipes or JSON files; A+B is an ensemble of two.  [default: default,accurate,fast]",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change one field of all recipes; may be repeated.",
)
@click.option(
    "--shots",
    metavar="N,N,...",
    help="Fit on this many good images, drawn by seed; once for each number.  [default: all images]",
)
@click.option("--seeds", metavar="N,N,...", help="Fit and evaluate once for each seed.  [default: 0]")
@click.option(
    "-o",
    "--output",
    type=AnyPath(path_type=Path, file_okay=False),
    default="benchmark_out",
    show_default=True,
    help="Folder for the results.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Cells to run at once, fewer if memory is short. They slow each other down: use 1 to measure times.",
)
@cluster_option
@workers_option
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and list them.")
@max_pixels_option
@device_option
@threads_option
@engine_option
@precision_option
@json_option
@command
def benchmark(
    config: Path | None,
    roots: tuple[Path, ...],
    recipes: str | None,
    assignments: tuple[str, ...],
    shots: str | None,
    seeds: str | None,
    output: Path,
    jobs: int,
    address: str | None,
    workers: int | None,
    skip_bad: bool,
    max_pixels: int,
    device: str,
    threads: int | None,
    engine: str,
    precision: str,
    as_json: bool,
) -> None:
    """Compare recipes on your parts, or on known datasets.

    Fits and evaluates every dataset x category x recipe x shots x seed (a cell), each in its own process. CONFIG is a
    JSON file with the keys data (a path, a list of paths, or an object of names and paths), recipes, set, shots, seeds
    and published (results of other systems, each with name, source and date). Options override the file.

    Writes into the output folder: results.jsonl (one line for each finished cell), results.csv and results.md (with
    averages over categories), latency.png, categories-NAME.png and, with --shots, shots.png. A stopped run continues
    where it was: cells in results.jsonl are not run again, unless their recipe, their images or patchcore have changed.
    Only one run at a time can use the folder. A failed cell does not stop the others; the exit code is then 1. A
    category with fewer good images than a number of shots is not run with that number.

    JSON keys: dataset, category, recipe, shots, seed, those of evaluate, train_images, calibration_images (that set the
    threshold), held_out_images (in no bank), backbone, bank_rows, fit_seconds, milliseconds, fit_memory_mb,
    peak_memory_mb, model_mb, device, engine, precision, processor, cores, threads, python, patchcore, torch, timm,
    numpy, date, set, jobs, key; for a failed cell, the first five and error.
    """
    from patchcore.cli.recipes import COMPARED, read_recipes

    if (config is None) == (not roots):
        raise UsageError("Give either CONFIG, a JSON file, or --data.")
    numbers, drawn = _numbers(shots, "--shots", "1,2,4", 1), _numbers(seeds, "--seeds", "0,1,2")
    if recipes is not None or not config:  # what is wrong with them is said before the rest is loaded
        read_recipes(listed(recipes, "--recipes") if recipes is not None else COMPARED, assignments)

    from patchcore.backbones import engines
    from patchcore.backbones.engines import choose_device
    from patchcore.benchmark import cells, plots, runner, tables
    from patchcore.benchmark import config as files

    asked = files.read(config) if config else files.Config(tuple(s for root in roots for s in cells.sources(root)))
    names = listed(recipes, "--recipes") if recipes is not None else asked.recipes or COMPARED
    assignments = assignments or asked.assignments
    chosen = read_recipes(names, assignments)
    engines.check(engine, precision, choose_device(device))
    inputs = [config, *roots, *(source.path for source in asked.sources), *"+".join(names).split("+")]
    targets.folder(output, [*WRITTEN, "results.jsonl", "logs/log"], inputs)
    if not (output / "results.jsonl").exists() and (other := [one for one in WRITTEN if (output / one).exists()]):
        raise UsageError(
            f"{output / other[0]} exists already, and no benchmark wrote it, since no results.jsonl lies beside it. "
            "Choose another output folder."
        )
    options = cells.Options(device, engine, precision, skip_bad, max_pixels, threads)
    limits = numbers or asked.shots or (None,)
    planned = cells.plan(asked.sources, chosen, drawn or asked.seeds or (0,), assignments, options, limits)
    for (source, asked_for), had in cells.short(asked.sources, limits).items():
        say(f"Not run on {asked_for} good images: {source.dataset} {source.category} has only {had}.")
    can_plot = True
    try:
        plots.check()
    except MissingExtraError as error:
        can_plot = False
        say(f"No plots. {error}")
    done = 0

    def progress(cell: cells.Cell, row: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        say(f"[{done}/{left}] {cell}: {row['error'] if 'error' in row else _short(row)}")

    with runner.alone(output):
        before = len(runner.finished(planned, output))
        left = len(planned) - before
        known = f"; {before} of them finished before" if before else ""
        say(
            f"{counted(len(planned), 'cell')}: {counted(len(asked.sources), 'category', 'categories')}, "
            f"recipes {', '.join(chosen)}{known}"
        )
        if address is None:
            outcome = runner.run(planned, output, jobs, progress)
        else:
            from patchcore import cluster

            outcome = cluster.benchmark(planned, output, address=address_of(address), workers=workers, on_end=progress)
        outcome.published = asked.published
        tables.write_csv(outcome, output / "results.csv")
        tables.write_markdown(outcome, output / "results.md", plots.write(outcome, output) if can_plot else ())
    _show(outcome, as_json)
    tell(f"See {output / 'results.md'}; beside it: results.csv, results.jsonl{', plots' if can_plot else ''}.", as_json)
    if as_json:
        for row in outcome.rows:
            print_json(row)
        for cell, reason in outcome.errors:
            print_json({**cell.names, "error": reason})
    if outcome.errors:
        raise SystemExit(1)


def _numbers(text: str | None, option: str, example: str, least: int = 0) -> tuple[int, ...]:
    """The distinct numbers of `1,2`, each at least `least`. Errors: UsageError."""
    if text is None:
        return ()
    parts = listed(text, option)
    if not all(part.isdecimal() and int(part) >= least for part in parts):
        from_one = "" if least == 0 else f" from {least}"
        raise UsageError(
            f"{option} is {text!r}; expected whole numbers{from_one}, separated by commas, for example {example}."
        )
    return tuple(dict.fromkeys(map(int, parts)))


def _short(row: dict[str, Any]) -> str:
    """The results of a cell on one line."""
    figures = (("image AUROC", row["image_auroc"]), ("pixel AUROC", row["pixel_auroc"]))
    measured = ", ".join(f"{title} {value:.4f}" for title, value in figures if value is not None)
    costs = f"fit {row['fit_seconds']:.1f} s, {row['milliseconds']:.0f} ms an image"
    return ", ".join(part for part in (measured, costs) if part)


def _show(outcome: Any, as_json: bool) -> None:
    """Print tables for people."""
    from patchcore.benchmark import tables

    page = console(as_json)
    for dataset in tables.values_of(outcome.rows, "dataset"):
        page.print(*tables.terminal(outcome, dataset, page.width))
        for line in [*tables.sources_of(outcome, dataset), *tables.given(outcome, dataset)]:
            tell(line, as_json)
    for line in tables.measured_with(outcome.rows):
        tell(line, as_json)
    if outcome.errors:
        say(f"{counted(len(outcome.errors), 'cell')} did not finish; run the same command to try again:")
        for cell, error in outcome.errors:
            say(f"  {cell}: {error}")
