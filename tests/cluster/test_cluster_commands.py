"""`--cluster` of fit and predict: what the commands without it write."""

import csv

import pytest

from patchcore import Detector

pytest.importorskip("patchcore.cluster")
SMALL = [f"--set={one}" for one in ("size=64", "ratio=0.05", "min_rows=1", "gate=none", "seed=3")]


def test_fit_and_predict_write_what_they_write_without_it(ray, run, hazelnut, tmp_path):
    pytest.importorskip("ray.data")
    good, bad = hazelnut / "train/good", hazelnut / "test/colour"
    for name, more in (("one", []), ("many", ["--workers", "2", "--cluster"])):
        done = run("fit", good, "-o", tmp_path / f"{name}.patchcore", "--limit", "6", *SMALL, *more)
        assert done.exit_code == 0, done.stderr
    assert (tmp_path / "one.patchcore").read_bytes() == (tmp_path / "many.patchcore").read_bytes()
    rows = tmp_path / "rows.csv"
    words = ["predict", tmp_path / "many.patchcore", bad, "--results", rows, "--workers", "1", "--fail-exit"]
    assert run(*words, "--cluster").exit_code == 3
    expected = Detector.load(tmp_path / "one.patchcore").predict(bad)
    with rows.open(encoding="utf-8-sig", newline="") as table:
        found = list(csv.DictReader(table))
    assert [float(row["score"]) for row in found] == pytest.approx([one.score for one in expected], rel=1e-6)
    assert [row["decision"] for row in found] == [one.decision for one in expected]
    again = run(*words, "--cluster")
    assert f"0 rows written; {len(expected)} were there before" in again.stdout


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--device", "cuda"], "--device does not go with `fit --cluster`"),
        (["--threads", "2"], "--threads does not go with `fit --cluster`"),
        (["--reject-suspects", "5%"], "leave out --cluster"),
    ],
)
def test_what_a_cluster_has_no_use_for_is_refused_before_it_is_asked(run, hazelnut, tmp_path, more, says):
    done = run("fit", hazelnut / "train/good", "-o", tmp_path / "m", *more, "--cluster=127.0.0.1:1")
    assert done.exit_code == 2, done.stderr
    assert says in done.stderr
    assert not list(tmp_path.iterdir())
