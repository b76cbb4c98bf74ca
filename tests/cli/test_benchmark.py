"""`patchcore benchmark`."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from cli_helpers import SMALL, lines
from PIL import Image

from patchcore import Detector, Recipe
from patchcore.data.resolve import detect
from patchcore.measure.evaluation import evaluate

EVALUATED = {
    "image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_f1_max", "aupro_30", "aupro_05", "images",
    "skipped", "coverage", "false_reject_rate", "miss_rate",
}  # fmt: skip
METRICS = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_f1_max", "aupro_30", "aupro_05")


@pytest.fixture(scope="module")
def ran(hazelnut, tmp_path_factory):
    """A run over two categories, one of which cannot be read: its folder, what it said, the command."""
    folder = tmp_path_factory.mktemp("benchmark")
    for name in ("brown", "broken"):
        shutil.copytree(hazelnut, folder / "nuts" / name)
    (folder / "nuts/broken/train/good/01.jpg").write_bytes(b"this is no image")
    (folder / "tiny.json").write_text(json.dumps({"base": "fast", "coreset": "random"}), "utf-8")
    options = ["--recipes", f"default,{folder / 'tiny.json'}", "--jobs=2", "-o", folder / "out", "--json", *SMALL]
    command = [sys.executable, "-m", "patchcore", "benchmark", "--data", folder / "nuts", *options]
    return folder, execute(command), command


def execute(command):
    env = {**os.environ, "COLUMNS": "250"}  # wide enough that no table folds what is looked for
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=env)


def test_a_bad_category_does_not_stop_the_others_and_is_named(ran):
    folder, done, _ = ran
    assert done.returncode == 1
    rows = lines(done.stdout)
    finished, failed = rows[:2], rows[2:]
    names = [(row["dataset"], row["category"], row["recipe"], row["seed"]) for row in rows]
    pairs = [(category, recipe) for category in ("brown", "broken") for recipe in ("default", "tiny")]
    assert names == [("nuts", category, recipe, 0) for category, recipe in pairs]
    assert all(set(row) >= EVALUATED and "error" not in row for row in finished)
    assert all("train/good/01.jpg: not an image" in row["error"] for row in failed)
    assert "2 cells did not finish; run the same command to try again:" in done.stderr
    assert "Traceback" not in done.stderr
    journal = [json.loads(line) for line in (folder / "out/results.jsonl").read_text("utf-8").splitlines()]
    assert sorted(journal, key=lambda row: row["key"]) == sorted(finished, key=lambda row: row["key"])
    text = (folder / "out/results.md").read_text("utf-8")
    assert "There are no averages. Not every recipe and seed has finished on broken." in text
    assert f"- nuts broken tiny seed 0: {folder / 'nuts/broken/train/good/01.jpg'}: not an image" in text


def test_figures_are_those_of_fit_and_evaluate(ran):
    folder, done, _ = ran
    recipe = Recipe.read(folder / "tiny.json").set(*(one.removeprefix("--set=") for one in SMALL))
    detector = Detector(recipe).fit(folder / "nuts/brown")
    figures = evaluate(detector, detect(folder / "nuts/brown").test).figures()
    row = lines(done.stdout)[1]
    assert {name: row[name] for name in figures} == figures
    assert row["jobs"] == 2
    assert row["set"] == [one.removeprefix("--set=") for one in SMALL]


def test_plots_are_images_and_the_page_shows_them(ran):
    folder, _, _ = ran
    for name in ("latency.png", "categories-nuts.png"):
        assert f"]({name})" in (folder / "out/results.md").read_text("utf-8")
        with Image.open(folder / "out" / name) as image:
            assert np.asarray(image.convert("L")).std() > 10
    assert {path.name for path in (folder / "out").iterdir()} == {
        "results.jsonl", "results.csv", "results.md", "latency.png", "categories-nuts.png", "logs", ".lock",
    }  # fmt: skip


def test_the_next_run_does_what_is_left_and_nothing_else(ran, run, hazelnut):
    folder, _, command = ran
    before = (folder / "out/results.jsonl").read_bytes()
    shutil.copy(hazelnut / "train/good/01.jpg", folder / "nuts/broken/train/good/01.jpg")
    done = run(*command[3:])
    assert done.exit_code == 0, done.stderr
    assert "4 cells: 2 categories, recipes default, tiny; 2 of them finished before" in done.stderr
    after = (folder / "out/results.jsonl").read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == 4
    rows = lines(done.stdout)
    assert [row["category"] for row in rows] == ["broken"] * 2 + ["brown"] * 2

    text = (folder / "out/results.md").read_text("utf-8")
    assert "| image_auroc | Avg | broken | brown |" in text
    assert "Not finished" not in text
    with (folder / "out/results.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [(line["category"], line["recipe"]) for line in table] == [
        (category, recipe) for category in ("broken", "brown", "average") for recipe in ("default", "tiny")
    ]
    shown = [line.split() for line in done.stderr.splitlines()]
    for line in table[4:]:
        for metric in METRICS:
            values = [row[metric] for row in rows if row["recipe"] == line["recipe"]]
            assert float(line[metric]) == pytest.approx(np.mean(values))
        assert any(one[:3] == ["average", line["recipe"], f"{float(line['image_auroc']):.4f}"] for one in shown)

    again = run(*command[3:])
    assert again.stdout == done.stdout
    assert "[1/" not in again.stderr
    assert (folder / "out/results.jsonl").read_bytes() == after


def test_a_config_says_what_to_measure_and_options_go_before_it(ran, run):
    folder, _, _ = ran
    rows = [json.loads(line) for line in (folder / "out/results.jsonl").read_text("utf-8").splitlines()]
    peer = {"name": "SystemX", "source": "its paper", "date": "2024-05", "figures": {"nuts/brown": {"image_ap": 0.5}}}
    config = {"data": "nuts/brown", "recipes": ["default", "accurate"], "seeds": [0, 1], "published": [peer]}
    (folder / "bench.json").write_text(json.dumps(config | {"set": [o.removeprefix("--set=") for o in SMALL]}), "utf-8")
    done = run("benchmark", folder / "bench.json", "--recipes=default", "--seeds=0", "-o", folder / "out", "--json")
    assert done.exit_code == 0, done.stderr
    assert "1 cell: 1 category, recipes default; 1 of them finished before" in done.stderr
    assert lines(done.stdout) == [r for r in rows if (r["category"], r["recipe"]) == ("brown", "default")]
    for text in (done.stderr, (folder / "out/results.md").read_text("utf-8")):
        assert "[1] Not measured in this run: SystemX: its paper (2024-05)" in text
        assert "Seeds: 0; one seed shows no spread" in text
        assert rows[0]["processor"] in text


def test_a_run_in_a_folder_that_is_in_use_says_whose_it_is(ran, run):
    folder, _, command = ran
    before = (folder / "out/results.jsonl").read_bytes()
    code = (
        "import sys\nfrom pathlib import Path\nfrom patchcore.benchmark.runner import alone\n"
        "with alone(Path(sys.argv[1])):\n    print('have it', flush=True)\n    input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, folder / "out"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        done = run(*command[3:])
        process.communicate("\n")
    assert done.exit_code == 2
    assert f"is in use by process {process.pid} on " in " ".join(done.stderr.split())
    assert (folder / "out/results.jsonl").read_bytes() == before


def test_shots_are_fits_on_few_images_drawn_by_the_seed(run, hazelnut, tmp_path):
    options = ["--data", hazelnut, "--recipes=fast", "--seeds=3", "-o", tmp_path / "out", "--json", *SMALL]
    done = run("benchmark", *options, "--shots=1,4,1")
    assert done.exit_code == 0, done.stderr
    rows = lines(done.stdout)
    assert [(row["shots"], row["seed"], row["train_images"]) for row in rows] == [(1, 3, 1), (4, 3, 4)]
    recipe = Recipe.named("fast").set(*(one.removeprefix("--set=") for one in SMALL)).replace(seed=3)
    figures = evaluate(Detector(recipe).fit(hazelnut, limit=4), detect(hazelnut).test).figures()
    assert {name: rows[1][name] for name in figures} == figures
    assert rows[0]["false_reject_rate"] is rows[0]["miss_rate"] is None  # one image sets no threshold
    assert rows[1]["miss_rate"] is not None
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"shots.png", "results.md", "results.csv"}
    text = (tmp_path / "out/results.md").read_text("utf-8")
    assert "](shots.png)" in text
    said = "Shots (good images given) = images in the bank + images held out for the threshold: 1 = 1 + 0, 4 = 4 + 0"
    assert said in text
    assert said in done.stderr
    again = run("benchmark", *options, "--shots=4")
    assert "1 cell: 1 category, recipes fast; 1 of them finished before" in again.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "Give either CONFIG, a JSON file, or --data."),
        (["--data=DATA", "--recipes=default,acurate"], "There is no recipe 'acurate'. Did you mean 'accurate'?"),
        (["--data=DATA", "--recipes=default,"], "--recipes is 'default,'; expected names separated by commas"),
        (["--data=DATA", "--recipes=fast,fast"], "There are two recipes 'fast'"),
        (["--data=DATA", "--seeds=0,x"], "--seeds is '0,x'; expected whole numbers"),
        (["--data=DATA", "--shots=0"], "--shots is '0'; expected whole numbers from 1, separated by commas"),
        (["--data=DATA", "--shots=1;2"], "--shots is '1;2'; expected whole numbers from 1, separated"),
        (
            ["--data=DATA", "--shots=2,11"],
            "shots is 11, but there are fewer good images to fit on: images hazelnut",
        ),
        (["--data=DATA", "--set=sise=3"], "There is no recipe field 'sise'. Did you mean 'size'?"),
        (["--data=DATA", "--data=DATA"], "have the same name, images/hazelnut. Give each of them once"),
        (["--data=DATA", "--device=gpu"], "device is 'gpu'; expected auto, cpu"),
    ],
)
def test_wrong_usage_is_said_before_anything_runs(run, hazelnut, tmp_path, options, said):
    options = [option.replace("DATA", str(hazelnut)) for option in options]
    done = run("benchmark", *options, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_folder_without_labels_is_no_data_set(run, hazelnut, tmp_path):
    done = run("benchmark", "--data", hazelnut / "train", "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "holds no labelled dataset" in done.stderr
    assert not (tmp_path / "out").exists()
