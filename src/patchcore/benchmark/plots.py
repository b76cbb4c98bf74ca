"""Plots of benchmark rows: accuracy by latency, by category and by number of images. Needs the extra `benchmark`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from patchcore.benchmark.journal import Row
from patchcore.benchmark.published import AVERAGE
from patchcore.benchmark.runner import Outcome
from patchcore.benchmark.tables import averages, compared, limits, of, split_of, values_of
from patchcore.errors import MissingExtraError
from patchcore.files import appearing

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), which colour-blind people can tell apart. Each has its
# own marker and hatch.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
_MARKS = "osD^vPX*"
_HATCHES = ("", "///", "...", "\\\\\\", "xxx", "+++", "ooo", "---")
_CHANCE = 0.5  # AUROC of random guessing
_TITLES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}


def check() -> None:
    """Errors: MissingExtraError."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "benchmark", "Plotting")


def write(outcome: Outcome, folder: Path) -> list[str]:
    """Write latency.png, categories-NAME.png for each dataset, and shots.png if fits were limited; return their names.
    With limited fits, the other plots show the largest number of shots. Errors: MissingExtraError."""
    check()
    names = []
    if limits(outcome.rows):
        if figure := shots(outcome):
            names.append(_save(figure, folder / "shots.png"))
        sets = [of(outcome.rows, dataset=dataset) for dataset in values_of(outcome.rows, "dataset")]
        outcome = replace(outcome, rows=[row for rows in sets for row in of(rows, shots=limits(rows)[-1])])
    if figure := latency(outcome):
        names.append(_save(figure, folder / "latency.png"))
    for dataset in values_of(outcome.rows, "dataset"):
        if figure := categories(outcome, dataset):
            safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in dataset)
            names.append(_save(figure, folder / f"categories-{safe}.png"))
    return names


def _save(figure: Any, path: Path) -> str:
    with appearing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return path.name


def latency(outcome: Outcome) -> Any:
    """Image AUROC against milliseconds per image: a panel per dataset, a large point per recipe (average over
    categories and seeds), small points for categories. None if no dataset has an image AUROC."""
    from matplotlib.figure import Figure

    means = [row for row in averages(outcome) if row["image_auroc"] is not None]
    sets, recipes = values_of(means, "dataset"), values_of(outcome.rows, "recipe")
    if not sets:
        return None
    figure = Figure(figsize=(1.2 + 5.2 * len(sets), 4.6), layout="constrained")
    panels = figure.subplots(1, len(sets), squeeze=False)[0]
    for axes, dataset in zip(panels, sets, strict=True):
        names = compared(outcome, dataset)
        for number, recipe in enumerate(recipes):
            style: dict[str, Any] = {"color": _COLOURS[number % 8], "marker": _MARKS[number % 8], "linestyle": "none"}
            style |= {"clip_on": False, "zorder": 3}  # a marker at 1 is not cut off by the axis
            if len(names) > 1:
                points = [
                    _point(of(outcome.rows, dataset=dataset, recipe=recipe, category=name), "image_auroc")
                    for name in names
                ]
                shown = [point for point in points if point is not None]
                axes.plot([x for x, _ in shown], [y for _, y in shown], **style, markersize=4, alpha=0.45)
            if (point := _point(of(means, dataset=dataset, recipe=recipe), "image_auroc")) is not None:
                label = f"{recipe} ({point[1]:.3f}, {point[0]:.3g} ms)"
                axes.plot(*point, **style, markersize=11, markeredgecolor="black", label=label)
        axes.set_title(dataset)
        axes.set_xlabel("milliseconds for one image")
        axes.margins(0.12)
        axes.set_xlim(left=0)  # keeps the margin on the right
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.0))  # there is no AUROC above 1
        axes.grid(alpha=0.3)
        title = f"mean of {len(names)} categories" if len(names) > 1 else None
        axes.legend(fontsize="small", title=title, loc="upper center", bbox_to_anchor=(0.5, -0.13))  # below the axes
    panels[0].set_ylabel("image AUROC")
    return figure


def _point(rows: Sequence[Row], metric: str) -> tuple[float, float] | None:
    """Milliseconds and a metric, each averaged over seeds."""
    both = [(row["milliseconds"], row[metric]) for row in rows if None not in (row["milliseconds"], row[metric])]
    return (statistics.fmean(x for x, _ in both), statistics.fmean(y for _, y in both)) if both else None


def categories(outcome: Outcome, dataset: str) -> Any:
    """Bars of image and pixel AUROC per category and recipe, then their average, with the standard deviation over
    seeds. Bars start at chance level. None if the dataset has neither metric."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows, means = of(outcome.rows, dataset=dataset), of(averages(outcome), dataset=dataset)
    metrics = [metric for metric in _TITLES if any(row[metric] is not None for row in rows)]
    if not metrics:
        return None
    recipes, names = values_of(rows, "recipe"), values_of(rows, "category")
    groups = [(name, of(rows, category=name)) for name in names] + ([(AVERAGE, means)] if len(names) > 1 else [])
    width = 0.84 / len(recipes)
    inches = max(6.0, 1.5 + len(groups) * max(0.7, 0.42 * len(recipes)))
    figure = Figure(figsize=(inches, 0.6 + 2.9 * len(metrics)), layout="constrained")
    panels = figure.subplots(len(metrics), 1, squeeze=False, sharex=True)[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        lowest = min(row[metric] for row in rows if row[metric] is not None)
        floor = _CHANCE if lowest >= _CHANCE else 0.0
        for number, recipe in enumerate(recipes):
            for place, (_, group) in enumerate(groups):
                found = [row[metric] for row in of(group, recipe=recipe) if row[metric] is not None]
                left = place + (number - (len(recipes) - 1) / 2) * width
                if not found:
                    axes.text(left, floor, " -", rotation=90, ha="center", va="bottom", fontsize=7)
                    continue
                mean = statistics.fmean(found)
                spread = statistics.stdev(found) if len(found) > 1 else None
                axes.bar(
                    left,
                    mean - floor,
                    width * 0.94,
                    bottom=floor,
                    yerr=spread,
                    capsize=2,
                    color=_COLOURS[number % 8],
                    hatch=_HATCHES[number % 8],
                    edgecolor="white",
                )
                axes.text(
                    left,
                    floor + 0.02 * (1 - floor),
                    f"{mean:.3f}",
                    rotation=90,
                    ha="center",
                    va="bottom",
                    fontsize=7,
                    bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8},
                )
        axes.set_ylim(floor, 1.0)
        axes.set_ylabel(_TITLES[metric])
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    panels[-1].set_xticks(
        range(len(groups)), [name for name, _ in groups], rotation=30 if len(groups) > 4 else 0,
        ha="right" if len(groups) > 4 else "center",
    )  # fmt: skip
    panels[0].set_title(dataset)
    handles = [
        Patch(facecolor=_COLOURS[number % 8], hatch=_HATCHES[number % 8], edgecolor="white")
        for number in range(len(recipes))
    ]
    figure.legend(handles, recipes, loc="outside lower center", ncols=min(4, len(recipes)), fontsize="small")
    return figure


def shots(outcome: Outcome) -> Any:
    """Image and pixel AUROC against the number of good images: a column per dataset, a line per recipe (average over
    categories), with the standard deviation over seeds. None without either metric."""
    from matplotlib.figure import Figure

    means = averages(outcome)
    ticks = {n: str(n) for n in limits(outcome.rows)}
    for n in ticks:
        if len(split := split_of(of(outcome.rows, shots=n))) == 1:
            ticks[n] += f"\n{split[0]}"
    metrics = [metric for metric in _TITLES if any(row[metric] is not None for row in means)]
    if not metrics:
        return None
    sets, recipes = values_of(means, "dataset"), values_of(means, "recipe")
    figure = Figure(figsize=(1.0 + 3.6 * len(sets), 0.8 + 2.9 * len(metrics)), layout="constrained")
    panels = figure.subplots(len(metrics), len(sets), squeeze=False, sharex=True)
    for line, metric in zip(panels, metrics, strict=True):
        for axes, dataset in zip(line, sets, strict=True):
            for number, recipe in enumerate(recipes):
                own = [row for row in of(means, dataset=dataset, recipe=recipe) if row[metric] is not None]
                found = {n: [row[metric] for row in of(own, shots=n)] for n in values_of(own, "shots")}
                axes.errorbar(
                    list(found),
                    [statistics.fmean(values) for values in found.values()],
                    [statistics.stdev(values) if len(values) > 1 else 0.0 for values in found.values()],
                    color=_COLOURS[number % 8],
                    marker=_MARKS[number % 8],
                    capsize=2.5,
                    label=recipe,
                )
            if not any(row[metric] is not None for row in of(means, dataset=dataset)):
                axes.set_axis_off()  # a dataset without masks
                continue
            axes.set_xscale("log", base=2)
            axes.set_xticks(list(ticks), list(ticks.values()))
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            axes.set_ylabel(_TITLES[metric] if dataset == sets[0] else "")
            axes.set_ylim(top=min(axes.get_ylim()[1], 1.01))
    for axes, dataset in zip(panels[0], sets, strict=True):
        axes.set_title(dataset)
    for column in panels.T:
        for lowest in [axes for axes in column if axes.axison][-1:]:
            lowest.tick_params(labelbottom=True)
            lowest.set_xlabel("good images given\nin the bank + held out for the threshold")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(recipes)))
    return figure
