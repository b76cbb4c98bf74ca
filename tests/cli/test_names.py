"""Names that are hostile, or no text: what is printed, as JSON and in tables."""

import csv
import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from patchcore.data.resolve import detect
from patchcore.model import store

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
NAMES = [
    b"T\xfcr.jpg",
    b"=1+1.jpg",
    b"-x.jpg",
    b"@a.jpg",
    b"+b.jpg",
    b"\x1b[31mred.jpg",
    b"a\nb.jpg",
    b"[red]:smile:.jpg",
]


@pytest.fixture
def odd(hazelnut, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(hazelnut / "test/good/04.jpg", os.fsencode(folder) + b"/" + name)
    return folder


@linux
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_json_is_utf_8_whatever_the_names_and_the_stream(model_file, odd, encoding):
    command = [sys.executable, "-m", "patchcore", "predict", model_file, odd, "--json"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    paths = [json.loads(line)["path"] for line in done.stdout.decode("utf-8").splitlines()]
    assert {os.path.basename(os.fsencode(path)) for path in paths} == set(NAMES) - {b"@a.jpg"}  # hidden


@linux
def test_results_hold_no_formula_and_are_read_back_as_a_table(run, model_file, odd, tmp_path, monkeypatch):
    monkeypatch.chdir(odd)
    out = tmp_path / "out"
    done = run("predict", model_file, *(f"./{name}" if name[0] == "-" else name for name in os.listdir()), "-o", out)
    assert done.exit_code == 0, done.stderr
    assert "\x1b[31mred" not in done.stderr
    with (out / "results.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert not [value for row in rows for value in row.values() if value.startswith(("=", "+", "-", "@", "\t", "\r"))]
    shutil.copy(out / "results.csv", odd / "table.csv")
    found = detect(odd / "table.csv").every
    assert {os.path.basename(os.fsencode(str(one.image))) for one in found} == set(NAMES)
    assert all(os.path.isfile(str(one.image)) for one in found)


@linux
def test_errors_show_no_escapes_of_a_name(run, model_file, hazelnut, odd):
    (odd / "\x1b]0;owned\x07.png").touch()
    for arguments in (
        ("predict", model_file, odd),
        ("evaluate", model_file, odd / "\x1b]0;owned\x07.png"),
        ("fit", odd, "-o", odd / "none\x1b[2J/m"),
        ("fit", odd, "-o", odd / "m"),
    ):
        done = run(*arguments)
        assert done.exit_code in (1, 2)
        assert "\x1b" not in done.stderr.replace("\x1b[A", "")  # that moves between progress bars
        assert r"\x1b" in done.stderr


def test_strings_of_a_foreign_model_are_escaped(run, model_file, tmp_path):
    with safe_open(model_file, "pt") as file:
        header = json.loads(file.metadata()["patchcore"])
    header["backbone"]["source"]["licence"] = "\x1b]0;owned\x07 [/red] :smile: \u202eback"
    header["versions"]["torch"] = "2\n3\x9b31m"
    store.write(tmp_path / "m", load_file(model_file), header)
    done = run("info", tmp_path / "m")
    assert done.exit_code == 0, done.output
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(done.stdout)
    for shown in (r"\x1b]0;owned\x07 [/red] :smile: \u202eback", r"torch 2\n3\x9b31m"):
        assert shown in done.stdout
    done = run("info", tmp_path / "m", "--json")
    assert json.loads(done.stdout)["versions"]["torch"] == "2\n3\x9b31m"
    assert "\x1b" not in done.stdout


@pytest.fixture
def bound():
    """`patchcore ARGUMENTS` in a process that permissions bind, also if root runs the tests."""
    if sys.platform != "linux":
        pytest.skip("permissions are taken from root by means of Linux")

    def without():
        for override in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, override, 0, 0, 0)  # PR_CAPBSET_DROP: from the next exec on

    def run(*arguments):
        command = [sys.executable, "-m", "patchcore", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, preexec_fn=without, check=False)

    return run


def test_what_cannot_be_read_is_its_own_error_and_the_rest_go_on(bound, model_file, hazelnut, tmp_path):
    parts = tmp_path / "parts"
    (parts / "closed").mkdir(parents=True)
    for name in ("fine.jpg", "unreadable.jpg", "closed/in.jpg"):
        shutil.copy(hazelnut / "test/good/04.jpg", parts / name)
    (parts / "unreadable.jpg").chmod(0)
    (parts / "closed").chmod(0)
    out = tmp_path / "out"
    shut = parts / "closed"
    for given in (
        [parts],
        [parts / "fine.jpg", parts / "unreadable.jpg", shut / "in.jpg", shut, parts / "gone.jpg", tmp_path / "none"],
    ):
        done = bound("predict", model_file, *given, "-o", out, "--json")
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        rows = {Path(row["path"]).name: row for row in map(json.loads, done.stdout.splitlines())}
        assert rows.pop("fine.jpg")["decision"] in ("pass", "fail")
        expected = {"unreadable.jpg", "closed"} | ({"in.jpg", "gone.jpg", "none"} if len(given) > 1 else set())
        assert set(rows) == expected
        denied = [row["error"] for name, row in rows.items() if name not in ("gone.jpg", "none")]
        assert all("denied" in error.lower() for error in denied), denied


def test_what_cannot_be_written_without_permission_is_said_before_the_work(bound, model_file, hazelnut, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "shut").mkdir()
    (tmp_path / "shut").chmod(0o555)
    (tmp_path / "own" / "old").write_text("mine")
    (tmp_path / "own" / "old").chmod(0o444)
    for place in ("shut/new", "own/old"):
        done = bound("report", model_file, hazelnut, "-o", tmp_path / place)
        assert done.returncode == 1
        assert f"{tmp_path}/{place}: " in done.stderr
        assert "Looking at images" not in done.stderr
    assert (tmp_path / "own" / "old").read_text() == "mine"
