"""Rows that outlive the run."""

import json

import pytest

from patchcore import StoreError
from patchcore.benchmark.journal import Journal


def test_rows_are_there_again_for_the_next_run(tmp_path):
    journal = Journal(tmp_path / "results.jsonl")
    journal.append({"key": "a", "text": "Prüfung\nzwei", "x": 0.1 + 0.2, "none": None})
    journal.append({"key": "b", "x": float("nan")})
    assert (tmp_path / "results.jsonl").read_bytes().count(b"\n") == 2
    again = Journal(tmp_path / "results.jsonl").rows
    assert again == journal.rows
    assert again["a"] == {"key": "a", "text": "Prüfung\nzwei", "x": 0.1 + 0.2, "none": None}
    assert again["b"]["x"] is None


@pytest.mark.parametrize("length", range(1, 20))
def test_a_row_that_was_cut_short_does_not_count_and_spoils_no_other(tmp_path, length):
    path = tmp_path / "results.jsonl"
    Journal(path).append({"key": "a"})
    whole = path.read_bytes()
    path.write_bytes(whole + json.dumps({"key": "b", "x": 123.5}).encode()[:length])
    journal = Journal(path)
    assert set(journal.rows) == {"a"}
    journal.append({"key": "c"})
    assert path.read_bytes() == whole + b'{"key": "c"}\n'


@pytest.mark.parametrize("content", ["no row\n", "[1]\n", '{"name": 3}\n'])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "results.jsonl"
    path.write_text(content)
    with pytest.raises(StoreError, match=r"results\.jsonl, line 1: not a row of a benchmark"):
        Journal(path)
    assert path.read_text() == content
