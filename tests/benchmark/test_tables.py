"""Averages, CSV and Markdown."""

import csv
import re

import numpy as np
import pytest
from rich.console import Console

from patchcore.benchmark.published import Published
from patchcore.benchmark.runner import Outcome
from patchcore.benchmark.tables import (
    averages,
    figure,
    given,
    lines,
    measured_with,
    terminal,
    write_csv,
    write_markdown,
)


@pytest.fixture
def outcome(row):
    """Two recipes, two seeds, three categories, of which `plain` has no masks."""
    values = iter(np.random.default_rng(0).uniform(0.5, 1, 12))
    rows = []
    for category in ("brown", "green", "plain"):
        for recipe in ("default", "fast"):
            for seed in (0, 1):
                one = row(category, float(next(values)), recipe, seed)
                rows.append(one | dict.fromkeys(("pixel_auroc", "pixel_f1_max", "aupro_30", "aupro_05"))
                            if category == "plain" else one)  # fmt: skip
    return Outcome(rows)


def picked(outcome, metric, **names):
    return [r[metric] for r in outcome.rows if all(r[k] == v for k, v in names.items()) and r[metric] is not None]


def grids(text):
    """The tables of a Markdown page, by the title above: rows of cells."""
    found, title = {}, ""
    for line in text.splitlines():
        if line.startswith("#"):
            title = line.lstrip("# ")
        elif line.startswith("|"):
            found.setdefault(title, []).append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def test_averages_are_over_categories_for_each_recipe_and_seed(outcome):
    means = averages(outcome)
    assert [(m["category"], m["recipe"], m["seed"], m["categories"]) for m in means] == [
        ("average", recipe, seed, 3) for recipe in ("default", "fast") for seed in (0, 1)
    ]
    for mean in means:
        names = {"recipe": mean["recipe"], "seed": mean["seed"]}
        assert mean["image_ap"] == pytest.approx(np.mean(picked(outcome, "image_ap", **names)))
        assert mean["aupro_05"] == pytest.approx(np.mean(picked(outcome, "aupro_05", **names)))
        assert mean["fit_seconds"] == 2


def test_recipes_are_averaged_over_the_same_categories(outcome, cell, tmp_path):
    # `fast` failed on green with one seed: green counts for nobody.
    outcome.rows = [r for r in outcome.rows if (r["category"], r["recipe"], r["seed"]) != ("green", "fast", 1)]
    outcome.errors = [(cell(tmp_path / "green", "fast", 1), "out of | memory")]
    for mean in averages(outcome):
        same = [r for r in outcome.rows if r["category"] in ("brown", "plain")]
        wanted = [r["image_auroc"] for r in same if (r["recipe"], r["seed"]) == (mean["recipe"], mean["seed"])]
        assert len(wanted) == mean["categories"] == 2
        assert mean["image_auroc"] == pytest.approx(np.mean(wanted))
    write_markdown(outcome, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text("utf-8")
    assert "Averages are over brown, plain. Not every recipe and seed has finished on green." in text
    assert "## Not finished\n\n- nuts green fast seed 1: out of \\| memory\n" in text


def test_without_a_common_category_there_is_no_average(row, cell, tmp_path):
    outcome = Outcome([row("brown", 0.9)], [(cell(tmp_path / "brown", "fast"), "broke")])
    assert averages(outcome) == []
    write_markdown(outcome, tmp_path / "results.md")
    said = "There are no averages. Not every recipe and seed has finished on brown."
    assert said in (tmp_path / "results.md").read_text("utf-8")


def test_csv_has_a_line_for_every_cell_and_then_the_averages(outcome, tmp_path):
    outcome.rows[0]["skipped"] = ["a, b.jpg", "c.jpg"]
    write_csv(outcome, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:6] == ["dataset", "category", "recipe", "shots", "seed", "image_auroc"]
    assert set(outcome.rows[0]) | {"categories"} == set(table[0])
    assert len(table) == 16
    for line, one in zip(table, outcome.rows, strict=False):
        assert line["recipe"] == one["recipe"]
        assert float(line["image_auroc"]) == one["image_auroc"]
        assert line["pixel_auroc"] == ("" if one["pixel_auroc"] is None else repr(one["pixel_auroc"]))
    assert table[0]["skipped"] == "a, b.jpg; c.jpg"
    assert [line["category"] for line in table[12:]] == ["average"] * 4
    assert float(table[12]["image_auroc"]) == averages(outcome)[0]["image_auroc"]
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_seeds_give_a_mean_and_a_spread(row):
    rows = [row("brown", value, seed=seed) for seed, value in enumerate((0.9, 0.95, 1.0))]
    assert figure(rows, "image_auroc") == "0.9500 ± 0.0500"
    assert figure(rows[:1], "image_auroc") == "0.9000"
    assert figure(rows, "milliseconds") == "20.0 ± 0.0"
    assert figure([row("brown", None)], "image_auroc") == "-"


def test_markdown_has_every_figure_and_what_it_was_measured_with(outcome, tmp_path):
    write_markdown(outcome, tmp_path / "results.md", ["latency.png"])
    text = (tmp_path / "results.md").read_text("utf-8")
    found = grids(text)
    head, rule, *body = found["nuts"]
    assert head[:4] == ["category", "recipe", "image_auroc", "image_ap"]
    assert head[-4:] == ["fit_seconds", "milliseconds", "peak_memory_mb", "model_mb"]
    assert set(rule) == {"---"}
    assert body == lines(outcome, "nuts")
    assert [line[:2] for line in body] == [
        [category, recipe] for category in ("brown", "green", "plain", "average") for recipe in ("default", "fast")
    ]
    assert body[4][5:9] == ["-"] * 4
    for metric, names in (("image_auroc", ["brown", "green", "plain"]), ("pixel_auroc", ["brown", "green"])):
        head, _, default, fast = found[metric]
        assert head == [metric, "Avg", *names]
        assert [default[0], fast[0]] == ["default", "fast"]
        per_seed = [np.mean(picked(outcome, metric, recipe="fast", seed=seed)) for seed in (0, 1)]
        assert fast[1] == f"{np.mean(per_seed):.4f} ± {np.std(per_seed, ddof=1):.4f}"
        both = picked(outcome, metric, recipe="fast", category="green")
        assert fast[3] == f"{np.mean(both):.4f} ± {np.std(both, ddof=1):.4f}"
    assert "No pixel metrics, so left out of their average: plain." in text
    assert "- Machine: Fast \\| One, 2 cores, cpu; 2 threads a cell, 1 cell at once\n" in text
    assert "patchcore 1.2, torch 2, timm 1, numpy 2, python 3.11; engine torch fp32; measured 2026-01-02\n" in text
    assert "- Seeds: 0, 1; figures are means ± standard deviation over the seeds\n" in text
    assert "- Set in the recipes: `size=128`\n" in text
    assert "![latency](latency.png)" in text
    assert "use `--jobs 1`" not in text
    assert "## Not finished" not in text


def test_figures_of_others_stand_below_ours_with_their_source_and_date(outcome, tmp_path):
    figures = {("nuts", "green"): {"image_auroc": 0.9}, ("nuts", "average"): {"image_auroc": 0.95, "pixel_auroc": 0.8}}
    other = Published("Elsewhere", "a paper", "2020", {("bolts", "long"): {"image_auroc": 0.5}})
    outcome.published = (other, Published("System | X", "its paper, table 3", "2024-05", figures))
    body = lines(outcome, "nuts")
    rows = [(line[0], line[1]) for line in body]
    assert rows.index(("green", "System | X [1]")) == rows.index(("green", "fast")) + 1
    assert rows[-1] == ("average", "System | X [1]")
    assert body[-1][2:] == ["0.95", "-", "-", "0.8", *["-"] * 7]  # as it was published, without decimals of ours
    assert len(body) == 10
    write_markdown(outcome, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text("utf-8")
    assert "[1] Not measured in this run: System \\| X: its paper, table 3 (2024-05)" in text
    assert "Elsewhere" not in text
    found = grids(text)
    assert found["image_auroc"][-1] == ["System \\| X [1]", "0.95", "-", "0.9", "-"]
    assert found["pixel_auroc"][-1] == ["System \\| X [1]", "0.8", "-", "-"]
    assert found["aupro_30"][-1][0] == "fast"


def test_one_seed_is_said_to_show_no_spread(row):
    assert "Seeds: 0; one seed shows no spread" in measured_with([row("brown", 0.9)])
    assert measured_with([]) == []


def test_times_of_cells_beside_each_other_are_called_so(row, tmp_path):
    write_markdown(Outcome([row("brown", 0.9, jobs=2)]), tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text("utf-8")
    assert "2 cells at once" in text
    assert "for times, use `--jobs 1`" in text
    assert "### image_auroc" not in text  # one category has no average to show beside it


def test_nothing_finished_is_a_page_that_says_why(cell, tmp_path):
    write_markdown(Outcome([], [(cell(tmp_path / "brown"), "broke")]), tmp_path / "results.md")
    assert "- nuts brown default seed 0: broke" in (tmp_path / "results.md").read_text("utf-8")


def test_the_terminal_s_table_has_the_same_figures(outcome):
    def shown(width):
        console = Console(width=250, force_terminal=False)
        with console.capture() as capture:
            console.print(*terminal(outcome, "nuts", width))
        return [re.split(r" {2,}", line.strip()) for line in capture.get().splitlines()]

    wide, narrow = shown(200), shown(80)
    for line in lines(outcome, "nuts"):
        assert line in wide
        assert line not in narrow
        assert line[:9] in narrow
        assert line[:2] + line[9:] in narrow


@pytest.fixture
def few(row):
    """Two recipes, two categories, three seeds, on 1 and on 4 good images."""
    values = iter(np.random.default_rng(1).uniform(0.5, 1, 24))
    return Outcome([
        row(category, float(next(values)), recipe, seed, shots=shots, train_images=min(shots, 3))
        for category in ("brown", "green") for recipe in ("default", "fast") for shots in (1, 4) for seed in (0, 1, 2)
    ])  # fmt: skip


def test_averages_keep_numbers_of_images_apart(few):
    means = averages(few)
    assert [(m["recipe"], m["shots"], m["seed"]) for m in means] == [
        (recipe, shots, seed) for recipe in ("default", "fast") for shots in (1, 4) for seed in (0, 1, 2)
    ]
    for mean in means:
        names = {name: mean[name] for name in ("recipe", "shots", "seed")}
        assert mean["image_auroc"] == pytest.approx(np.mean(picked(few, "image_auroc", **names)))


def test_every_number_of_images_has_a_line_and_a_column(few, tmp_path):
    write_markdown(few, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text("utf-8")
    tables = grids(text)
    assert tables["nuts"][0][:4] == ["category", "recipe", "shots", "image_auroc"]
    assert [line[:3] for line in tables["nuts"][2:]] == [
        [category, recipe, shots]
        for category in ("brown", "green", "average") for recipe in ("default", "fast") for shots in "14"
    ]  # fmt: skip
    wide = tables["aupro_30 by good images"]
    assert wide[0] == ["category", "recipe", "1", "4"]
    assert [line[:2] for line in wide[2:]] == [
        [category, recipe] for category in ("brown", "green", "average") for recipe in ("default", "fast")
    ]
    for line in wide[2:6]:
        for shots, shown in zip((1, 4), line[2:], strict=True):
            found = picked(few, "aupro_30", category=line[0], recipe=line[1], shots=shots)
            assert shown == f"{np.mean(found):.4f} ± {np.std(found, ddof=1):.4f}"
    assert "brown: 3 of 4 good images could be read." in text
    assert "of 1 good" not in text
    write_csv(few, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        assert [line["shots"] for line in csv.DictReader(file)][:6] == list("111444")


def test_the_terminal_shows_the_number_of_images(few):
    (table,) = terminal(few, "nuts", 1000)
    assert [column.header for column in table.columns][:3] == ["category", "recipe", "shots"]
    assert list(table.columns[2].cells) == list("14141414" + "1414")
    halves = terminal(few, "nuts", 40)
    assert [[column.header for column in half.columns][:3] for half in halves] == [["category", "recipe", "shots"]] * 2
    assert list(halves[1].columns[3].cells) == ["2.0 ± 0.0"] * 12


def test_how_many_images_make_the_bank_and_set_the_threshold_is_said(few, tmp_path):
    assert given(few, "nuts") == []  # rows that do not know
    for row in few.rows:
        row |= {"train_images": row["shots"], "calibration_images": int(row["shots"] == 4)}
    said = "Shots (good images given) = images in the bank + images held out for the threshold: "
    assert given(few, "nuts") == [f"{said}1 = 1 + 0, 4 = 3 + 1"]
    write_markdown(few, tmp_path / "results.md")
    assert f"\n{said}1 = 1 + 0, 4 = 3 + 1\n" in (tmp_path / "results.md").read_text("utf-8")
    for row in few.rows:
        row |= {"calibration_images": 2} if (row["recipe"], row["shots"]) == ("fast", 4) else {}
    assert given(few, "nuts") == [f"{said}1 = 1 + 0, 4 = 3 + 1 (default); 1 = 1 + 0, 4 = 2 + 2 (fast)"]
    assert given(Outcome([row | {"shots": None} for row in few.rows]), "nuts") == []


def test_a_number_that_a_category_has_not_has_no_line_no_figure_and_no_average(few, tmp_path):
    few.rows = [row for row in few.rows if (row["category"], row["shots"]) != ("green", 4)]
    assert {mean["shots"] for mean in averages(few)} == {1}
    write_markdown(few, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text("utf-8")
    assert "Not run on 4 good images: green, which has fewer, so there are no averages for this number." in text
    found = grids(text)
    assert [line[0] for line in found["nuts"][2:] if line[2] == "4"] == ["brown", "brown"]
    wide = found["image_auroc by good images"]
    assert [(line[0], line[3] == "-") for line in wide[2:]] == [
        (category, category != "brown") for category in ("brown", "green", "average") for _ in ("default", "fast")
    ]


def test_verdicts_have_a_table_of_their_own(row, tmp_path):
    figures = {("nuts", "brown"): {"image_auroc": 0.9}}
    rows = [row("brown", 0.9, false_reject_rate=None), row("brown", 0.9, "fast", false_reject_rate=0.125)]
    write_markdown(Outcome(rows, published=(Published("X", "a paper", "2024", figures),)), tmp_path / "results.md")
    found = grids((tmp_path / "results.md").read_text("utf-8"))
    assert found["Verdicts at the threshold set from good images"] == [
        ["category", "recipe", "false_reject_rate", "miss_rate"],
        ["---"] * 4,
        ["brown", "default", "-", "0.2500"],
        ["brown", "fast", "0.1250", "0.2500"],
    ]


def test_an_average_over_one_category_is_left_out(outcome, cell, tmp_path):
    one = Outcome([r for r in outcome.rows if r["category"] == "brown"])
    assert [line[0] for line in lines(one, "nuts")] == ["brown", "brown"]
    assert [list(table.columns[0].cells) for table in terminal(one, "nuts", 1000)] == [["brown", "brown"]]
    # Two categories, of which one has not finished for all: there is nothing to average over, either.
    two = Outcome([r for r in outcome.rows if (r["category"], r["recipe"]) in (("brown", "default"), ("brown", "fast"),
                   ("green", "fast"))], [(cell(tmp_path / "green"), "broke")])  # fmt: skip
    assert [line[0] for line in lines(two, "nuts")] == ["brown", "brown", "green"]
