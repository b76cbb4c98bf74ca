"""Tables of benchmark rows, as CSV, as Markdown and for the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchcore.benchmark.journal import Row
from patchcore.benchmark.published import AVERAGE, METRICS, Published
from patchcore.benchmark.runner import Outcome
from patchcore.errors import counted
from patchcore.files import appearing, text
from patchcore.files.text import shown

if TYPE_CHECKING:
    from rich.table import Table

COSTS = ("fit_seconds", "milliseconds", "peak_memory_mb", "model_mb")
_CONDITIONS = (  # what an average says too, where its cells agree
    "backbone", "device", "engine", "precision", "processor", "cores", "threads", "python", "patchcore", "torch",
    "timm", "numpy", "date", "set", "jobs",
)  # fmt: skip
_NAMES = ("dataset", "category", "recipe", "shots", "seed")
VERDICTS = ("false_reject_rate", "miss_rate")
_RATES = ("coverage", *VERDICTS)
_DECIMALS = dict.fromkeys((*METRICS, *_RATES), 4) | {"fit_seconds": 1, "milliseconds": 1, "peak_memory_mb": 0}
_ABOUT = {
    "fit_seconds": "from image paths to thresholds",
    "milliseconds": "median time for one image, from path to verdict and map",
    "peak_memory_mb": "peak memory of the cell's process, interpreter and libraries included (1 MB = 1e6 bytes)",
    "model_mb": "the detector's file, with its weights",
}


def of(rows: Iterable[Row], **names: Any) -> list[Row]:
    """The rows with these values in these columns."""
    return [row for row in rows if all(row[name] == value for name, value in names.items())]


def values_of(rows: Iterable[Row], column: str) -> list[Any]:
    """The distinct values of a column, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))


def compared(outcome: Outcome, dataset: str) -> list[str]:
    """The categories that every recipe and seed has finished. All averages are over these."""
    left_out = {cell.source.category for cell, _ in outcome.errors if cell.source.dataset == dataset}
    return [name for name in values_of(of(outcome.rows, dataset=dataset), "category") if name not in left_out]


def averages(outcome: Outcome) -> list[Row]:
    """A row for each dataset, recipe, number of shots and seed: the means over the `compared` categories.

    A metric's mean leaves out categories without it (those without masks). `categories` is the number compared.
    There is no row for a number of shots that one of them cannot supply.
    """
    means = []
    for dataset in values_of(outcome.rows, "dataset"):
        names = compared(outcome, dataset)
        rows = [row for row in of(outcome.rows, dataset=dataset) if row["category"] in names]
        for recipe in values_of(rows, "recipe"):
            own = of(rows, recipe=recipe)
            for shots, seed in dict.fromkeys((row["shots"], row["seed"]) for row in own):
                same = of(own, shots=shots, seed=seed)
                if len(same) < len(names):  # one of them has too few good images
                    continue
                figures = {column: _mean(same, column) for column in (*METRICS, *_RATES, *COSTS)}
                row = {"dataset": dataset, "category": AVERAGE, "recipe": recipe, "shots": shots, "seed": seed}
                alike = {k: v for k, v in same[0].items() if k in _CONDITIONS and all(r.get(k) == v for r in same)}
                means.append({**row, **figures, "categories": len(names), **alike})
    return means


def _several(outcome: Outcome, dataset: str) -> list[Row]:
    """The averages of a dataset over more than one category; an average of one adds nothing."""
    return [row for row in of(averages(outcome), dataset=dataset) if row["categories"] > 1]


def _mean(rows: Iterable[Row], column: str) -> float | None:
    values = [row[column] for row in rows if row[column] is not None]
    return statistics.fmean(values) if values else None


def figure(rows: Sequence[Row], column: str) -> str:
    """A column's mean over rows that differ only in their seed, with the standard deviation if there are several."""
    values = [row[column] for row in rows if row[column] is not None]
    if not values:
        return "-"
    decimals = _DECIMALS.get(column, 1)
    spread = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{decimals}f}{spread}"


def write_csv(outcome: Outcome, path: Path) -> None:
    """Write one line for each cell, then the averages, with the category `average`."""
    rows = [*outcome.rows, *averages(outcome)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    columns = [*_NAMES, *(column for column in columns if column not in _NAMES)]
    lists = [["; ".join(map(str, v)) if isinstance(v := row.get(k), list) else v for k in columns] for row in rows]
    with appearing(path) as temporary:
        text.write_csv(temporary, [columns, *lists])


def titles(outcome: Outcome) -> list[str]:
    """The columns that identify a line of `lines`; `shots` only if fits were limited."""
    return ["category", "recipe", *(["shots"] if limits(outcome.rows) else [])]


def limits(rows: Iterable[Row]) -> list[int]:
    """The numbers of good images that fits were limited to, ascending; empty if there was no limit."""
    return sorted(shots for shots in values_of(rows, "shots") if shots is not None)


def given(outcome: Outcome, dataset: str) -> list[str]:
    """How limited fits divided their good images between the bank and the threshold, as a line of text."""
    said: dict[str, list[str]] = {}
    for recipe in values_of(own := of(outcome.rows, dataset=dataset), "recipe"):
        parts = [
            f"{n} = {' or '.join(split)}" for n in limits(own) if (split := split_of(of(own, recipe=recipe, shots=n)))
        ]
        said.setdefault(", ".join(parts), []).append(recipe)
    named = [f"{text} ({', '.join(recipes)})" if len(said) > 1 else text for text, recipes in said.items() if text]
    about = "Shots (good images given) = images in the bank + images held out for the threshold"
    return [f"{about}: {'; '.join(named)}"] if named else []


def split_of(rows: Iterable[Row]) -> list[str]:
    """The distinct splits of good images in these rows, as `bank + threshold`."""
    known = [row for row in rows if "calibration_images" in row]  # a results.jsonl of 0.1.0 lacks it
    held = [(row["train_images"], row.get("held_out_images", row["calibration_images"])) for row in known]
    return [f"{images - out} + {out}" for images, out in sorted(set(held), key=lambda one: one[0] - one[1])]


def lines(outcome: Outcome, dataset: str, columns: Sequence[str] = (*METRICS, *COSTS)) -> list[list[str]]:
    """The lines of a dataset's table as text (`titles`, then `columns`): its categories, then their averages.

    Published results follow our recipes, each with the number of its line in `sources_of`.
    """
    rows = of(outcome.rows, dataset=dataset)
    body = []
    for group in (rows, _several(outcome, dataset)):
        for category in values_of(group, "category"):
            for recipe in values_of(of(group, category=category), "recipe"):
                for shots in values_of(of(group, category=category, recipe=recipe), "shots"):
                    same = of(group, category=category, recipe=recipe, shots=shots)
                    cells = [figure(same, column) for column in columns]
                    body.append([category, recipe, *([] if shots is None else [str(shots)]), *cells])
            for label, one in _published(outcome, dataset):
                theirs = one.figures.get((dataset, category), {})
                if not theirs.keys().isdisjoint(columns):
                    cells = [_given(theirs, column) for column in columns]
                    body.append([category, label, *(["-"] if limits(outcome.rows) else []), *cells])
    return body


def _published(outcome: Outcome, dataset: str) -> list[tuple[str, Published]]:
    """The published results on a dataset, with the labels of their rows."""
    about = [one for one in outcome.published if any(place[0] == dataset for place in one.figures)]
    return [(f"{one.name} [{number}]", one) for number, one in enumerate(about, 1)]


def _given(figures: Mapping[str, float], column: str) -> str:
    """A published figure, with the decimals it was given with."""
    return str(figures[column]) if column in figures else "-"


def sources_of(outcome: Outcome, dataset: str) -> list[str]:
    """The source and date of each published result in a dataset's tables."""
    return [
        f"[{number}] Not measured in this run: {one}" for number, (_, one) in enumerate(_published(outcome, dataset), 1)
    ]


def terminal(outcome: Outcome, dataset: str, width: int) -> list[Table]:
    """A dataset's table for the terminal; if that is too narrow, one table of metrics and one of costs."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    body, about = lines(outcome, dataset), titles(outcome)

    def part(columns: tuple[str, ...], begin: int) -> Table:
        table = Table(title=escape(shown(dataset)), box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
        for column in about:
            table.add_column(column)
        for column in columns:
            table.add_column(column.replace("_", "\n"), justify="right")
        for line in body:
            values = [*line[: len(about)], *line[begin : begin + len(columns)]]
            table.add_row(*(escape(shown(one)) for one in values), style="bold" if line[0] == AVERAGE else None)
        return table

    whole = part((*METRICS, *COSTS), len(about))
    if Console(width=10_000).measure(whole).maximum <= width:
        return [whole]
    return [part(METRICS, len(about)), part(COSTS, len(about) + len(METRICS))]


def write_markdown(outcome: Outcome, path: Path, plots: Sequence[str] = ()) -> None:
    """Write all tables, the measuring conditions, the failed cells, and the plots (files beside `path`)."""
    parts = ["# Benchmark\n"]
    if outcome.rows:
        parts += ["\n", *(f"- {_safe(line)}\n" for line in [*measured_with(outcome.rows), *_about(outcome.rows)])]
    for dataset in values_of(outcome.rows, "dataset"):
        parts += [f"\n## {_safe(dataset)}\n"]
        parts += [_grid([*titles(outcome), *METRICS, *COSTS], lines(outcome, dataset))]
        parts += [f"\n{_safe(line)}\n" for line in [*sources_of(outcome, dataset), *given(outcome, dataset)]]
        parts += _notes(outcome, dataset)
        parts += ["\n### Verdicts at the threshold set from good images\n"]
        parts += [_grid([*titles(outcome), *VERDICTS], lines(outcome, dataset, VERDICTS))]
        for metric in METRICS:
            parts += (_by_shots if limits(outcome.rows) else _by_category)(outcome, dataset, metric)
    parts += [f"\n![{name.partition('.')[0]}]({name})\n" for name in plots]
    if outcome.errors:
        parts += ["\n## Not finished\n\n", *(f"- {_safe(str(cell))}: {_safe(why)}\n" for cell, why in outcome.errors)]
    with appearing(path) as temporary:
        temporary.write_text("".join(parts), "utf-8")


def _by_category(outcome: Outcome, dataset: str, metric: str) -> list[str]:
    """The table of one metric, a line per recipe: the average, then every category."""
    rows, means = of(outcome.rows, dataset=dataset), _several(outcome, dataset)
    names = [name for name in values_of(rows, "category") if _mean(of(rows, category=name), metric) is not None]
    if len(names) < 2:
        return []
    body = [
        [recipe, figure(of(means, recipe=recipe), metric)]
        + [figure(of(rows, recipe=recipe, category=name), metric) for name in names]
        for recipe in values_of(rows, "recipe")
    ]
    for label, one in _published(outcome, dataset):
        theirs = [_given(one.figures.get((dataset, name), {}), metric) for name in (AVERAGE, *names)]
        body += [] if set(theirs) == {"-"} else [[label, *theirs]]
    return [f"\n### {metric}\n", _grid([metric, "Avg", *names], body)]


def _by_shots(outcome: Outcome, dataset: str, metric: str) -> list[str]:
    """The table of one metric, a column per number of good images: every category, then the average."""
    rows, numbers = of(outcome.rows, dataset=dataset), limits(of(outcome.rows, dataset=dataset))
    if _mean(rows, metric) is None:
        return []
    body = [
        [category, recipe, *(figure(of(group, category=category, recipe=recipe, shots=n), metric) for n in numbers)]
        for group in (rows, _several(outcome, dataset))
        for category in values_of(group, "category")
        for recipe in values_of(group, "recipe")
    ]
    return [f"\n### {metric} by good images\n", _grid(["category", "recipe", *map(str, numbers)], body)]


def measured_with(rows: Sequence[Row]) -> list[str]:
    """Machine, versions, seeds and changed recipe fields, one line each."""
    if not rows:
        return []

    def said(show: Callable[[Row], str]) -> str:
        return "; ".join(dict.fromkeys(map(show, rows)))

    machine = said(lambda r: f"{r['processor']}, {counted(r['cores'], 'core')}, {r['device']}")
    versions = said(lambda r: ", ".join(f"{n} {r[n]}" for n in ("patchcore", "torch", "timm", "numpy", "python")))
    at_once = said(lambda r: f"{counted(r['threads'], 'thread')} a cell, {counted(r['jobs'], 'cell')} at once")
    fields = said(lambda r: ", ".join(f"`{one}`" for one in r["set"]) or "nothing")
    seeds = values_of(rows, "seed")
    spread = "figures are means ± standard deviation over the seeds" if len(seeds) > 1 else "one seed shows no spread"
    return [
        f"Machine: {machine}; {at_once}",
        f"Versions: {versions}; engine {said(lambda r: r['engine'] + ' ' + r['precision'])}; "
        f"measured {said(lambda r: r['date'])}",
        f"Seeds: {', '.join(map(str, seeds))}; {spread}",
        f"Set in the recipes: {fields}",
    ]


def _about(rows: Sequence[Row]) -> list[str]:
    """Explanations of the cost columns."""
    at_once = ["Several cells at once slow each other down: for times, use `--jobs 1`"] if _at_once(rows) else []
    return [*(f"`{column}`: {text}" for column, text in _ABOUT.items()), *at_once]


def _at_once(rows: Iterable[Row]) -> bool:
    return any(row["jobs"] > 1 for row in rows)


def _notes(outcome: Outcome, dataset: str) -> list[str]:
    """What the averages of a dataset leave out."""
    rows, names = of(outcome.rows, dataset=dataset), compared(outcome, dataset)
    notes = []
    if left_out := [
        name
        for name in dict.fromkeys(c.source.category for c, _ in outcome.errors if c.source.dataset == dataset)
        if name not in names
    ]:
        over = f"Averages are over {', '.join(names)}." if len(names) > 1 else "There are no averages."
        notes.append(f"{over} Not every recipe and seed has finished on {', '.join(left_out)}.")
    for title, metric in (("pixel metrics", "pixel_auroc"), ("image metrics", "image_auroc")):
        without = [name for name in names if _mean(of(rows, category=name), metric) is None]
        if 0 < len(without) < len(names):
            notes.append(f"No {title}, so left out of their average: {', '.join(without)}.")
    for name in values_of(rows, "category"):
        read = {(row["train_images"], row["shots"]) for row in of(rows, category=name) if row["shots"] is not None}
        notes += [f"{name}: {had} of {asked} good images could be read." for had, asked in sorted(read) if had < asked]
        if few := [str(n) for n in limits(outcome.rows) if name in names and not of(rows, category=name, shots=n)]:
            average = ", so there are no averages for this number" if len(names) > 1 else ""
            notes.append(f"Not run on {', '.join(few)} good images: {name}, which has fewer{average}.")
    if skipped := sum(len(row["skipped"]) for row in rows):
        notes.append(f"Left out: {counted(skipped, 'image')} that could not be read, over all cells.")
    return [f"\n{_safe(note)}\n" for note in notes]


def _grid(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [list(head), ["---"] * len(head), *body]
    return "\n" + "".join(f"| {' | '.join(map(_safe, row))} |\n" for row in rows)


def _safe(text: str) -> str:
    """A text on one line, with `|` escaped for a Markdown table."""
    return shown(" ".join(text.replace("|", "\\|").split()))
