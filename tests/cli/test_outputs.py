"""Where commands write: what is wrong with it is said before the work, and what goes wrong names the file."""

import csv
import os
import re
import shutil
import stat
import subprocess
import sys

import pytest


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_every_command_names_what_it_could_not_write(run, model_file, hazelnut, small_disk):
    (small_disk / "fill").write_bytes(bytes((256 - 12) * 1024))
    for arguments in (
        ("predict", model_file, hazelnut / "test/good", "-o", small_disk / "out"),
        ("report", model_file, hazelnut, "-o", small_disk / "r.html"),
        ("fit", hazelnut / "train/good", "-o", small_disk / "m", "--set", "size=64", "--limit", 3),
    ):
        done = run(*arguments)
        assert done.exit_code == 1, done.stderr
        assert isinstance(done.exception, SystemExit)
        output = str(arguments[arguments.index("-o") + 1])
        assert re.search(rf"Error: {output}[^:]*: cannot be written \(No space left on device\)", done.stderr)
        assert [name for name in names(small_disk) if name not in ("fill", "out")] == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_standard_output_that_is_full_is_named(model_file):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "patchcore", "recipes", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: standard output or standard error: No space left on device\n"


def untouched(path, content):
    return path.read_bytes() == content


def test_no_output_replaces_an_input_by_whatever_name(run, model_file, hazelnut, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, data = tmp_path / "m.patchcore", tmp_path / "nuts"
    model.write_bytes(model_file.read_bytes())
    shutil.copytree(hazelnut, data)
    (tmp_path / "link").symlink_to(model)
    os.link(model, tmp_path / "hard")
    table = tmp_path / "t.csv"
    table.write_text(f"path,label,split\n{data}/train/good/00.jpg,good,train\n{data}/test/good/04.jpg,good,test\n")
    image = data / "test/good/04.jpg"
    kept = {path: path.read_bytes() for path in (model, table, image)}
    monkeypatch.setattr("patchcore.detector.Detector.load", lambda *_, **__: pytest.fail("the work had begun"))
    monkeypatch.setattr("patchcore.detector.Detector.fit", lambda *_, **__: pytest.fail("the work had begun"))
    for arguments in (
        *(
            ("report", model, data, "-o", name)
            for name in (model, "m.patchcore", "nuts/../m.patchcore", "link", "hard")
        ),
        ("report", model, data, "-o", image),
        ("report", model, table, "-o", table),
        ("fit", data, "-o", image, "--force"),
        ("fit", table, "-o", table, "--force"),
        ("fit", data, "-o", tmp_path / "new", "--calibration", table, "-o", table, "--force"),
        ("tune", data, "--defects", table, "-o", table, "--force"),
        ("tune", data, "-o", image, "--force"),
        ("predict", model, image, table, "-o", tmp_path / "out"),
    ):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "results.csv").unlink(missing_ok=True)
        (tmp_path / "out" / "results.csv").symlink_to(table)
        done = run(*arguments)
        assert done.exit_code == 2, (arguments, done.stderr)
        assert "would be overwritten. Choose another output." in done.stderr
    assert all(untouched(path, content) for path, content in kept.items())
    assert (tmp_path / "link").is_symlink()


def test_what_cannot_be_written_is_said_before_the_work(run, model_file, hazelnut, tmp_path, monkeypatch):
    for name in ("detector.Detector.load", "detector.Detector.fit", "benchmark.runner.run", "tuning.gather"):
        monkeypatch.setattr(f"patchcore.{name}", lambda *_, **__: pytest.fail("the work had begun"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder/results.csv").mkdir(parents=True)
    (tmp_path / "folder/results.jsonl").mkdir()
    (tmp_path / "folder/04_overlay.png").mkdir()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/logs").touch()
    image, good = hazelnut / "test/good/04.jpg", hazelnut / "train/good"
    for place in ("pipe", "device", "folder", "none/x", "file/x", "n" * 300):
        for arguments in (("fit", good), ("report", model_file, hazelnut), ("tune", good)):
            done = run(*arguments, "-o", tmp_path / place)
            assert done.exit_code in (1, 2), (arguments, place, done.stderr)
            assert place in done.stderr.replace("\n", " ").replace("│ ", "")
    for place in ("pipe", "device", "folder", "file", "file/x", "n" * 300, "folder/results.csv/../../file"):
        for arguments in (("predict", model_file, image), ("benchmark", "--data", hazelnut)):
            done = run(*arguments, "-o", tmp_path / place)
            assert done.exit_code in (1, 2), (arguments, place, done.stderr)
    done = run("benchmark", "--data", hazelnut, "-o", tmp_path / "logs")
    assert done.exit_code == 2
    assert f"{tmp_path}/logs/logs is a file; expected a folder for results" in done.stderr
    for place in ("pipe", "device", "file", "none/x", "file/x", "n" * 300):
        done = run("export", model_file, "-o", tmp_path / place)
        assert done.exit_code in (1, 2), (place, done.stderr)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert (tmp_path / "file").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "device", "file", "folder", "logs"}


def test_a_link_stays_and_leads_to_what_is_written(run, model_file, hazelnut, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "r.html").symlink_to("there/r.html")
    assert run("report", model_file, hazelnut, "-o", tmp_path / "r.html", "--limit", 0).exit_code == 0
    assert (tmp_path / "r.html").is_symlink()
    assert (tmp_path / "there/r.html").read_text("utf-8").rstrip().endswith("</html>")


def test_a_read_only_file_system_is_said_before_the_work(run, model_file, hazelnut, small_disk, monkeypatch):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for name in ("detector.Detector.load", "detector.Detector.fit", "benchmark.runner.run", "tuning.gather"):
        monkeypatch.setattr(f"patchcore.{name}", lambda *_, **__: pytest.fail("the work had begun"))
    for arguments in (
        ("fit", hazelnut / "train/good"),
        ("report", model_file, hazelnut),
        ("predict", model_file, hazelnut / "test/good"),
        ("tune", hazelnut / "train/good"),
        ("export", model_file),
        ("benchmark", "--data", hazelnut),
    ):
        done = run(*arguments, "-o", small_disk / "x")
        assert done.exit_code == 1, (arguments, done.stderr)
        assert f"Error: {small_disk}/x: " in done.stderr
        assert "read-only" in done.stderr.lower()


def test_a_benchmark_does_not_replace_what_is_none(run, hazelnut, tmp_path):
    (tmp_path / "results.csv").write_text("mine")
    done = run("benchmark", "--data", hazelnut, "-o", tmp_path)
    assert done.exit_code == 2
    assert "results.csv exists already, and no benchmark wrote it" in done.stderr
    assert (tmp_path / "results.csv").read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="names of 250 bytes are Linux's")
def test_a_name_of_any_length_is_scored(run, model_file, hazelnut, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in ("n" * 251, "n" * 250 + "m", "ü" * 125):
        shutil.copy(hazelnut / "test/good/04.jpg", folder / f"{name}.jpg")
    done = run("predict", model_file, folder, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    with (tmp_path / "out/results.csv").open(encoding="utf-8", newline="") as file:
        files = [row["files"] for row in csv.DictReader(file)]
    assert len(set(files)) == 3
    for name in files:
        assert (tmp_path / "out" / f"{name}_overlay.png").is_file()
        assert (tmp_path / "out" / f"{name}_map.tiff").is_file()
    assert len(list((tmp_path / "out").iterdir())) == 7
