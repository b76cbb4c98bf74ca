"""Commands without standard streams: under pythonw, as a service, after `2>&-`, or with nobody who reads."""

import json
import shutil
import subprocess
import sys

import pytest
from cli_helpers import SMALL

CLOSED = {  # number of each descriptor that is closed: what Python has there
    "stderr": (2,),
    "stdout": (1,),
    "all": (0, 1, 2),
}
# Runs commands one after the other, each in a process that begins without these streams; writes exit codes to a file.
SCRIPT = """
import json, os, sys
closed, commands, target = json.loads(sys.argv[1])
codes = []
for command in commands:
    for number in closed:
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
    from patchcore.cli import main
    try:
        main(command)
    except SystemExit as end:
        codes.append(end.code)
    except BaseException as error:
        codes.append(repr(error))
    else:
        codes.append("no exit")
with open(target, "w") as file:
    json.dump(codes, file)
"""


@pytest.fixture
def commands(model_file, hazelnut, tmp_path):
    """Each command, and the exit codes it must have: with standard output, and without."""
    few, out = tmp_path / "few", tmp_path / "out"
    few.mkdir()
    for name in ("00.jpg", "02.jpg", "03.jpg"):
        shutil.copy(hazelnut / "train/good" / name, few)
    (tmp_path / "bad.png").touch()
    return [
        (["--help"], 0, 1),
        (["--version"], 0, 1),
        (["fit", "--help"], 0, 1),
        (["fit"], 2, 2),
        (["fits"], 2, 2),
        (["recipes"], 0, 1),
        (["backbones", "--json"], 0, 1),
        (["datasets"], 0, 1),
        (["info", model_file], 0, 1),
        (["info", tmp_path / "bad.png"], 1, 1),
        (["fit", few, "-o", tmp_path / "m", *SMALL], 0, 0),
        (["fit", few, "-o", tmp_path / "m", *SMALL], 2, 2),
        (["predict", model_file, hazelnut / "test/colour", "-o", out, "--fail-exit"], 3, 3),
        (["predict", model_file, hazelnut / "test/good", "-o", tmp_path / "lost", "--json"], 0, 1),
        (["predict", model_file, hazelnut / "test/good"], 0, 1),
        (["predict", model_file, tmp_path / "bad.png", "-o", tmp_path / "bad"], 1, 1),
        (["evaluate", model_file, hazelnut], 0, 1),
        (["report", model_file, hazelnut, "-o", tmp_path / "report.html", "--limit", "1"], 0, 0),
        (["export", model_file, "-o", tmp_path / "x", "--format", "torch", "--static", "32", "32"], 0, 0),
        (["verify", tmp_path / "x"], 0, 0),
        (["sign", model_file, "--key", tmp_path / "no key"], 2, 2),
    ]


@pytest.mark.parametrize("missing", CLOSED)
def test_without_standard_streams_files_are_written_and_results_that_would_be_lost_are_an_error(
    missing, commands, tmp_path
):
    closed, target = CLOSED[missing], tmp_path / "codes.json"
    words = [[str(word) for word in command] for command, *_ in commands]
    arguments = json.dumps([closed, words, str(target)])
    done = subprocess.run([sys.executable, "-c", SCRIPT, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    codes = json.loads(target.read_text())
    assert [(word, code) for word, code in zip(words, codes, strict=True)] == [
        (word, without if 1 in closed else expected)
        for word, (_, expected, without) in zip(words, commands, strict=True)
    ]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "results.csv").is_file()
    assert (tmp_path / "lost").exists() == (1 not in closed)  # said before the work
    assert (tmp_path / "report.html").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="no such shell")
@pytest.mark.parametrize("words", [["--version"], ["recipes"], ["backbones", "--json"], ["info"], ["evaluate"]])
def test_results_that_would_be_lost_are_said_on_standard_error(words, model_file, hazelnut):
    given = {"info": [model_file], "evaluate": [model_file, hazelnut]}.get(words[0], [])
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "patchcore", *words, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: standard output: it is closed, so the results would be lost. Redirect it: > FILE\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no such shell")
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&- >/dev/null"])
def test_a_shell_can_close_standard_error(redirection, model_file, hazelnut, tmp_path):
    line = f'exec "$@" {redirection}'
    words = ["-m", "patchcore", "predict", model_file, hazelnut / "test/good", "-o", tmp_path / "out", "--json"]
    done = subprocess.run(["sh", "-c", line, "sh", sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    images = len(list((hazelnut / "test/good").iterdir()))
    assert len(done.stdout.splitlines()) == (0 if " >" in redirection else images)
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == images + 1
