"""Predicting on a cluster: the rows of one machine, in order, once each."""

import json

import pytest

from patchcore import Recipe, UsageError
from patchcore.cluster.rows import rows_at

cluster = pytest.importorskip("patchcore.cluster")
ROW = {"path": "a, b.png", "score": 0.1 + 0.2, "decision": "fail", "warnings": ["x"], "regions": [{"area": 1.0}]}


@pytest.fixture
def images(hazelnut, tmp_path):
    """Test images, and one that cannot be read."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted((hazelnut / "test").rglob("*.jpg")):
        (folder / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_rows_are_those_of_one_machine_and_a_stopped_run_goes_on(ray, detector, images, tmp_path):
    seen = []
    found = cluster.predict(detector, images, out=tmp_path / "rows.jsonl", workers=2, on_row=seen.append)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    assert [row["path"] for row in rows] == sorted(path.name for path in images.iterdir())
    assert (found.done, found.before, [error.name for error in found.bad]) == (len(rows), 0, ["broken.png"])
    plain = {one.name: one for one in detector.predict([path for path in sorted(images.glob("*.jpg"))])}
    plain = {name.rpartition("/")[2]: one for name, one in plain.items()}
    for row in rows:
        if row["path"] != "broken.png":
            one = plain[row["path"]]
            assert (row["score"], row["p_value"], row["decision"]) == (one.score, one.p_value, one.decision)
    whole = (tmp_path / "rows.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])  # killed while it wrote
    found = cluster.predict(detector, images, out=tmp_path / "rows.jsonl", workers=1)
    assert (found.done, found.before) == (len(rows) - 3, 3)
    again = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    for row in (*rows, *again):
        row.pop("seconds", None)
        row.pop("time", None)
    assert again == rows


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_rows_are_kept_once_they_are_written_and_known_by_the_next_run(kind, tmp_path):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    place = tmp_path / f"rows.{kind}"
    rows_at(place, "one").add([ROW, {"path": "=b", "error": "no image"}])
    rows_at(place, "one").add([{**ROW, "path": "c"}])
    assert rows_at(place, "one").known() == {"a, b.png": "", "=b": "no image", "c": ""}
    with pytest.raises(UsageError, match="has results of another model"):
        rows_at(place, "two")


def test_a_parquet_row_is_whole_and_its_numbers_are_exact(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows_at(tmp_path / "rows.parquet", "one").add([ROW])
    table = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert table[0]["score"] == ROW["score"]
    assert json.loads(table[0]["row"]) == ROW


def test_files_of_others_and_other_kinds_are_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match="nothing says which model its rows are of"):
        rows_at(tmp_path / "rows.jsonl", "one")
    with pytest.raises(UsageError, match=r"ends in \.jsonl, \.csv or \.parquet"):
        rows_at(tmp_path / "rows.txt", "one")
    with pytest.raises(UsageError, match="whose folder does not exist"):
        rows_at(tmp_path / "no" / "rows.csv", "one")


def test_a_detector_with_a_network_of_one_s_own_cannot_be_sent():
    from tiny import TINY, Tiny, noise

    from patchcore import Detector

    with pytest.raises(UsageError, match="network of the caller's own"):
        cluster.predict(Detector(TINY, backbone=Tiny()).fit(noise(4)), noise(2))


def test_an_unknown_address_says_what_to_do():
    if pytest.importorskip("ray").is_initialized():
        pytest.skip("this process has a Ray already")
    with pytest.raises(UsageError, match="where no Ray answers"):
        cluster.fit(Recipe(), ["a.png"], address="127.0.0.1:1")
