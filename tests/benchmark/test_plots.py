"""Plots, opened as images."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from patchcore import MissingExtraError
from patchcore.benchmark import plots
from patchcore.benchmark.runner import Outcome

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
BLUE, ORANGE = "#0072B2", "#E69F00"


def share(path, colour):
    """The share of an image's pixels that have a colour."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.int16)
    return (abs(pixels - ImageColor.getrgb(colour)).max(-1) <= 2).mean()


@pytest.fixture
def outcome(row):
    figures = {"default": (0.95, 0.85, 30.0), "fast": (0.9, 0.7, 12.0)}
    return Outcome([
        row(category, values[number], recipe, seed, milliseconds=values[2] + seed)
        for number, category in enumerate(("brown", "green"))
        for recipe, values in figures.items()
        for seed in (0, 1)
    ])  # fmt: skip


def test_both_plots_are_images_with_every_recipe_in_its_colour(outcome, tmp_path):
    assert plots.write(outcome, tmp_path) == ["latency.png", "categories-nuts.png"]
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width >= 500
            assert image.height >= 400
        for colour in (BLUE, ORANGE):
            assert share(path, colour) > 0.0003, path
    assert len(list(tmp_path.iterdir())) == 2


def test_points_lie_at_the_means(outcome):
    (axes,) = plots.latency(outcome).axes
    large = [line for line in axes.lines if line.get_markersize() > 8]
    points = {line.get_label(): tuple(map(float, line.get_xydata()[0])) for line in large}
    assert points == {
        "default (0.900, 30.5 ms)": pytest.approx((30.5, 0.9)),
        "fast (0.800, 12.5 ms)": pytest.approx((12.5, 0.8)),
    }
    small = sorted(tuple(xy) for line in axes.lines if line.get_markersize() < 8 for xy in line.get_xydata())
    assert np.allclose(small, [(12.5, 0.7), (12.5, 0.9), (30.5, 0.85), (30.5, 0.95)])


def test_no_axis_runs_above_1_and_a_mark_at_1_is_whole(row):
    outcome = Outcome([row("brown", 1.0), row("brown", 0.98, "fast")])
    for figure in (plots.latency(outcome), plots.categories(outcome, "nuts")):
        assert all(axes.get_ylim()[1] == 1 for axes in figure.axes)
    (axes,) = plots.latency(outcome).axes
    assert not any(line.get_clip_on() for line in axes.lines)
    low = plots.latency(Outcome([row("brown", 0.6), row("brown", 0.7, "fast")])).axes[0]
    assert 0.7 < low.get_ylim()[1] < 1


def test_bars_reach_from_chance_to_the_mean(outcome):
    figure = plots.categories(outcome, "nuts")
    assert [axes.get_ylabel() for axes in figure.axes] == ["image AUROC", "pixel AUROC"]
    for axes in figure.axes:
        tops = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in axes.patches]
        wanted = [0.95, 0.85, 0.9, 0.9, 0.7, 0.8]  # default: brown, green, average; fast
        assert np.allclose(tops, [(0.5, value) for value in wanted])
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["brown", "green", "average"]


@pytest.fixture
def few(row):
    """Figures that say where they come from: 0.5 + shots / 100, less a tenth for `fast`, plus the seed in hundreds."""
    return Outcome([
        row("brown", 0.5 + shots / 100 - 0.1 * (recipe == "fast") + seed / 100, recipe, seed, shots=shots)
        for recipe in ("default", "fast") for shots in (1, 2, 8) for seed in (0, 2)
    ])  # fmt: skip


def test_lines_go_through_the_means_of_each_number_of_images(few, tmp_path):
    figure = plots.shots(few)
    assert [axes.get_ylabel() for axes in figure.axes] == ["image AUROC", "pixel AUROC"]
    assert [tick.get_text() for tick in figure.axes[-1].get_xticklabels()] == ["1", "2", "8"]
    for axes in figure.axes:
        for container, less in zip(axes.containers, (0, 0.1), strict=True):
            line, _, (bars,) = container
            assert np.allclose(line.get_xydata(), [(n, 0.51 + n / 100 - less) for n in (1, 2, 8)])
            spread = [abs(upper - lower) / 2 for (_, lower), (_, upper) in bars.get_segments()]
            assert np.allclose(spread, np.std([0, 0.02], ddof=1))
    assert plots.write(few, tmp_path) == ["shots.png", "latency.png", "categories-nuts.png"]
    for colour in (BLUE, ORANGE):
        assert share(tmp_path / "shots.png", colour) > 0.0003


def test_the_other_plots_show_the_most_images(few, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "latency", lambda outcome: seen.extend(r["shots"] for r in outcome.rows))
    plots.write(few, tmp_path)
    assert set(seen) == {8}


def test_a_data_set_without_masks_has_no_pixel_panel(few, row):
    less = dict.fromkeys(("pixel_auroc", "pixel_f1_max", "aupro_30", "aupro_05"))
    few.rows += [row("mono", 0.9, shots=shots, dataset="cells", **less) for shots in (1, 2, 8)]
    shown = [axes.axison for axes in plots.shots(few).axes]
    assert shown == [True, True, True, False]


def test_worse_than_chance_is_shown_from_zero(row):
    figure = plots.categories(Outcome([row("brown", 0.3)]), "nuts")
    bar = figure.axes[0].patches[0]
    assert (bar.get_y(), bar.get_height()) == pytest.approx((0, 0.3))


def test_what_has_no_figures_has_no_plot(row, tmp_path):
    assert plots.write(Outcome([row("brown", None)]), tmp_path) == []
    assert plots.write(Outcome(), tmp_path) == []


def test_a_category_that_failed_for_a_recipe_leaves_a_gap(outcome, cell, tmp_path):
    outcome.rows = [r for r in outcome.rows if (r["category"], r["recipe"]) != ("green", "fast")]
    outcome.errors = [(cell(tmp_path / "green", "fast", seed), "broke") for seed in (0, 1)]
    assert plots.write(outcome, tmp_path) == ["latency.png", "categories-nuts.png"]
    assert len(plots.categories(outcome, "nuts").axes[0].patches) == 5


def test_without_matplotlib_the_pip_line_is_given(monkeypatch, tmp_path):
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'patchcore\[benchmark\]'"):
        plots.write(Outcome(), tmp_path)


def test_the_axis_says_how_many_images_make_the_bank(few, row):
    for one in few.rows:
        one |= {"train_images": one["shots"], "calibration_images": int(one["shots"] > 1)}
    few.rows[-1]["calibration_images"] = 3  # where it differs, the number alone is true
    axes = plots.shots(few).axes[-1]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1\n1 + 0", "2\n1 + 1", "8"]
    assert axes.get_xlabel() == "good images given\nin the bank + held out for the threshold"


def test_a_category_is_not_drawn_at_a_number_that_it_has_not(few, row, tmp_path, monkeypatch):
    few.rows += [row("green", 0.9, recipe, shots=n) for recipe in ("default", "fast") for n in (1, 2)]
    few.rows += [row("mono", 0.9, recipe, shots=1, dataset="cells") for recipe in ("default", "fast")]
    few.rows = [one for one in few.rows if one["seed"] == 0]
    nuts, cells = plots.shots(few).axes[0].containers, plots.shots(few).axes[1].containers
    assert [list(container[0].get_xdata()) for container in nuts] == [[1, 2]] * 2
    assert [list(container[0].get_xdata()) for container in cells] == [[1]] * 2
    seen = []
    monkeypatch.setattr(plots, "latency", lambda outcome: seen.extend(outcome.rows))
    plots.write(few, tmp_path)
    most = {(r["dataset"], r["category"], r["shots"]) for r in seen}
    assert most == {("nuts", "brown", 8), ("cells", "mono", 1)}
