"""Names and other texts, as they are printed, as JSON and in CSV."""

import csv
import json
import os

import pytest

from patchcore.files.text import cell, json_line, plain_cell, shown, write_csv

NAMES = [
    "part.png",
    "=1+1.png",
    "+a",
    "-b",
    "@c",
    "\tt",
    "\rr",
    "'=q",
    "''@q",
    "'plain",
    "a=b",
    "",
    "\uff1dwide",
    "a\udcfcb",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nuß № 1 二.jpg", "Nuß № 1 二.jpg"),
        ("a b\u00a0c", "a b\u00a0c"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("exe\u202egnp.", r"exe\u202egnp."),
        ("a\u2028b\ufeff", r"a\u2028b\ufeff"),
        ("T\udcfcr", r"T\xfcr"),
        ("\ud800", r"\ud800"),
        ("👩\u200d🔧", "👩\u200d🔧"),
    ],
)
def test_what_is_shown_moves_no_cursor_and_hides_nothing(text, expected):
    assert shown(text) == expected
    assert shown(text).encode("utf-8")


def test_lines_of_our_own_stay_lines():
    assert shown("a\nb\x1b", lines=True) == "a\nb\\x1b"


def test_json_is_utf_8_and_gives_every_name_back():
    line = json_line({"path": "ü\udcfc\ud800", "score": float("nan"), "in": [float("inf"), {"a": 1.5}]})
    assert line == r'{"path": "ü\udcfc\ud800", "score": null, "in": [null, {"a": 1.5}]}'
    assert json.loads(line.encode("utf-8"))["path"] == "ü\udcfc\ud800"
    name = b"T\xfcr.jpg"
    assert os.fsencode(json.loads(json_line({"path": os.fsdecode(name)}))["path"]) == name


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_is_a_formula_and_each_is_read_back(name):
    assert not str(cell(name)).startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))
    assert plain_cell(cell(name)) == name


def test_numbers_and_common_texts_stay_as_they_are():
    assert [cell(one) for one in (-1.5, 3, None, "good", "'tis")] == [-1.5, 3, None, "good", "'tis"]


def test_a_table_is_read_back(tmp_path):
    write_csv(tmp_path / "t.csv", [["path", "score"], *([name, -1] for name in NAMES)])
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert [plain_cell(row["path"]) for row in rows] == NAMES
    assert {row["score"] for row in rows} == {"-1"}
