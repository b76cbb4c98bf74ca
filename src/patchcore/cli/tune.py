"""`patchcore tune`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from patchcore.cli.common import (
    AnyPath,
    BadImages,
    cells,
    check_images,
    check_new,
    command,
    console,
    data_path,
    device_option,
    engine_option,
    force_option,
    json_option,
    listed,
    max_pixels_option,
    precision_option,
    print_json,
    say,
    tell,
    threads_option,
)
from patchcore.cli.recipes import COMPARED, read_recipes
from patchcore.errors import DataError, UsageError, counted
from patchcore.files import appearing

if TYPE_CHECKING:
    from rich.table import Table

    from patchcore.tuning import Candidate, Choice, Figures


@click.command(epilog="Example: patchcore tune parts --defects test --max-ms 50 -o recipe.json")
@click.argument("data", type=data_path)
@click.option(
    "--defects",
    metavar="FOLDER|test",
    help="Defective images: a folder, a table, or `test` for the test split of DATA, which is then no longer an "
    "independent test.",
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
    metavar="FIELD=A,B,...",
    help="Change one field of all recipes; several values make one variant of each recipe per value. May be repeated.",
)
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Number of folds.")
@click.option(
    "--part",
    metavar="REGEX",
    help="Regular expression for the part number in an image's name, for example 'part(\\d+)_': images of one part "
    "stay in one fold. By default the column `part` of a table; without one, each image counts as its own part.",
)
@click.option(
    "--tolerance", type=click.FloatRange(0, 1, min_open=True), default=0.01, show_default=True,
    help="AUROC that may be given up for speed.",
)  # fmt: skip
@click.option("--max-ms", type=click.FloatRange(0, min_open=True), help="Most milliseconds per image.")
@click.option("--max-size", type=click.FloatRange(0, min_open=True), help="Largest detector file, in MB of 1e6 bytes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the folds.")
@click.option(
    "-o",
    "--output",
    type=AnyPath(path_type=Path, dir_okay=False),
    default="recipe.json",
    show_default=True,
    help="The recipe file to write, for `patchcore fit --recipe`.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and list them.")
@force_option
@max_pixels_option
@device_option
@threads_option
@engine_option
@precision_option
@json_option
@command
def tune(
    data: Path,
    defects: str | None,
    recipes: str | None,
    assignments: tuple[str, ...],
    folds: int,
    part: str | None,
    tolerance: float,
    max_ms: float | None,
    max_size: float | None,
    seed: int,
    output: Path,
    skip_bad: bool,
    force: bool,
    max_pixels: int,
    device: str,
    threads: int | None,
    engine: str,
    precision: str,
    as_json: bool,
) -> None:
    """Choose a recipe by cross-validation on your parts, and write it as a file.

    DATA is what `fit` takes; its good training images are split into folds. For each fold, every recipe is fitted on
    the other folds, and scores the held-out good images and all defective ones. Defective images are never in a memory
    bank, and never set a threshold.

    Chooses the fastest of the recipes that are shown to be at most --tolerance below the best. If the data cannot
    tell, keeps `default` (or the first of --recipes) and says how many images would be needed. Without --defects,
    accuracy is not compared.

    JSON keys, a line for each recipe: recipe, auroc, auroc_low, auroc_high, fold_auroc, below_best, below_best_low,
    below_best_high, false_reject_rate, false_reject_low, false_reject_high, asked, miss_rate, milliseconds,
    fit_seconds, model_mb, calibration_images, limits_broken, chosen, file; and a last one: chosen, best, supported,
    why, notes, needed_defective, needed_good, good, parts, defective, folds, seed, tolerance, path, skipped, and the
    machine. Values with _low and _high are 95 % confidence limits.
    """
    names = listed(recipes, "--recipes") if recipes is not None else COMPARED
    for name in "+".join(names).split("+"):
        if name.endswith(".json") and Path(name).resolve() == output.resolve():
            raise UsageError(f"{output} is one of --recipes, and would be overwritten. Choose another -o.")
    check_new(output, force, [data, defects])
    # What is wrong with them is said before the rest is loaded; fields of several values come later.
    read_recipes(names, tuple(one for one in assignments if "," not in one and not one.endswith("=")))

    from patchcore import tuning
    from patchcore.backbones import engines
    from patchcore.backbones.engines import choose_device
    from patchcore.benchmark.machine import machine
    from patchcore.data.reading import Reading
    from patchcore.data.resolve import detect

    candidates, keep = _candidates(names, assignments)
    engines.check(engine, precision, choose_device(device))
    found = detect(data)
    check_images(output, found, Path(defects) if defects and defects != "test" else None)
    if not found.train:
        raise DataError(f"{data}: {found.description}; there are no good images to learn from.")
    shown, notes = tuning.defects_at(defects, data, found) if defects else ([], [])
    say(f"{data}: {found.description}")
    bad = BadImages()
    images = tuning.gather(found.train, shown, part, reading=Reading(max_pixels, bad if skip_bad else None, threads))
    bad.report("Left out")
    fold = images.folds(folds, seed)
    parts = len(set(images.units))
    apart = ""
    if parts < len(images.good):
        apart = f" of {counted(parts, 'part')}, images of one part{' and copies' if images.copies else ''} together"
    elif part is None:
        apart = ", each counted as its own part (if several show the same part, use --part)"
    say(
        f"{counted(len(candidates), 'recipe')}, {folds} folds of {counted(len(images.good), 'good image')}{apart}; "
        f"{counted(len(images.defective), 'defective image')}"
    )
    measured = tuning.cross_validate(
        candidates,
        images,
        fold,
        device=device,
        threads=threads,
        engine=engine,
        precision=precision,
        reading=Reading(max_pixels),
        progress=True,
    )
    limits = tuning.Limits(max_ms, max_size, tolerance)
    choice = tuning.choose(measured, images, keep, limits)
    figures = [one.figures(images) for one in measured]
    notes += choice.notes
    console(as_json).print(_table(figures, choice, limits))
    about = machine()
    cores = counted(about["cores"], "core")
    tell(f"Measured on {about['processor']}, {cores}, with patchcore {about['patchcore']}.", as_json)
    tell(choice.why, as_json)
    for note in notes:
        say(f"Note: {note}")
    chosen = next((one for one in candidates if one.name == choice.name), None)
    if chosen:
        with appearing(output) as temporary:
            temporary.write_text(json.dumps(chosen.file, indent=2) + "\n", "utf-8")
        tell(f"Wrote {output}. Next: patchcore fit {data} -o model.patchcore --recipe {output}", as_json)
    if as_json:
        for candidate, one in zip(candidates, figures, strict=True):
            print_json(_line(candidate, one, choice, limits))
        needed = choice.needed or (None, None)
        print_json(
            {
                "chosen": choice.name,
                "best": choice.best,
                "supported": choice.supported,
                "why": choice.why,
                "notes": notes,
                "needed_defective": needed[0],
                "needed_good": needed[1],
                "good": len(images.good),
                "parts": parts,
                "defective": len(images.defective),
                "folds": folds,
                "seed": seed,
                "tolerance": tolerance,
                "path": str(output) if chosen else None,
                "skipped": [error.name for error in bad.errors],
                **about,
            }
        )
    if not chosen:
        say("No file was written. Raise the limits, or give faster recipes.")
        raise SystemExit(1)


def _candidates(names: Sequence[str], assignments: tuple[str, ...]) -> tuple[list[Candidate], str]:
    """The recipes to compare, and the name of the one to keep if the data cannot tell."""
    from patchcore.recipe.recipe import Recipe
    from patchcore.tuning.candidates import Candidate, bases, recipe_file, variants

    found = []
    for combination, differs in variants(assignments):
        for (label, recipe), name in zip(read_recipes(names, combination).items(), names, strict=True):
            start = [base for one in name.split("+") for base in bases(one)]
            found.append(Candidate(f"{label} {differs}".strip(), recipe, recipe_file(recipe, start)))
    keep = next((one for one in found if one.recipe == Recipe()), found[0])
    return found, keep.name


def _line(candidate: Candidate, figures: Figures, choice: Choice, limits: Any) -> dict[str, Any]:
    """The line of JSON for a recipe."""
    line = {**asdict(figures), "fold_auroc": list(figures.fold_auroc)}
    loss = choice.losses.get(candidate.name)
    line |= {
        "below_best": 0.0 if candidate.name == choice.best else loss and loss.value,
        "below_best_low": loss and loss.low,
        "below_best_high": loss and loss.high,
        "limits_broken": limits.broken(figures),
        "chosen": candidate.name == choice.name,
        "file": candidate.file,
    }
    return line


def _table(figures: Sequence[Figures], choice: Choice, limits: Any) -> Table:
    """The table for people, with the chosen recipe in bold."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        caption="In brackets: 95 % limits. Good images are held out. > is chosen, ! breaks a limit.",
        caption_justify="left",
    )
    table.add_column("recipe")
    accuracy = any(one.auroc is not None for one in figures)
    titles = ["AUROC", "below the best", "missed"] if accuracy else []
    for title in (*titles, "false rejects", "ms an image", "fit s", "MB"):
        table.add_column(title, justify="right")
    for one in figures:
        chosen, broken = one.recipe == choice.name, limits.broken(one)
        shown = []
        if one.auroc is not None and one.auroc_low is not None and one.auroc_high is not None:
            loss = choice.losses.get(one.recipe)
            below = f"{loss.value:.4f}\n({loss.low:+.3f}, {loss.high:+.3f})" if loss else "" if broken else "the best"
            shown = [f"{one.auroc:.4f}\n({one.auroc_low:.3f}, {one.auroc_high:.3f})", below, f"{one.miss_rate:.1%}"]
        shown.append(f"{one.false_reject_rate:.1%}\n({one.false_reject_low:.1%}, {one.false_reject_high:.1%})")
        shown += [f"{one.milliseconds:.1f}", f"{one.fit_seconds:.1f}", f"{one.model_mb:.1f}"]
        mark = ">" if chosen else "!" if broken else " "
        table.add_row(*cells(f"{mark} {one.recipe}"), *shown, style="bold" if chosen else None)
    return table
