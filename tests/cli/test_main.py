"""What all commands share: help, versions, errors, exit codes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_helpers import lines

import patchcore
from patchcore.cli import main

COMMANDS = ["fit", "predict", "evaluate", "info", "recipes", "backbones", "datasets", "demo"]


def test_the_version_is_the_packages(run_process):
    done = run_process("--version")
    assert done.returncode == 0
    assert done.stdout.split() == ["patchcore,", "version", patchcore.__version__]


def test_help_lists_every_command_and_the_exit_codes(run):
    done = run("--help")
    assert done.exit_code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout
    assert "Exit codes: 0" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_its_json(command, run):
    done = run(command, "-h")
    assert done.exit_code == 0
    assert f"Usage: patchcore {command}" in done.stdout
    assert "JSON keys" in done.stdout


HEAVY = {"torch", "torchvision", "timm", "numpy", "scipy", "sklearn", "PIL", "cv2", "rich", "tqdm", "safetensors"}


def loaded(*commands):
    """What a fresh interpreter has loaded after these commands."""
    script = f"""
import contextlib, io, json, sys
from patchcore.cli import main
for command in json.loads({json.dumps(json.dumps(commands))}):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), \\
            contextlib.suppress(SystemExit):
        main(command)
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names = set(json.loads(done.stdout))
    assert "patchcore.cli" in names
    return names


def test_help_of_every_command_loads_nothing_heavy():
    names = loaded(["--help"], ["-h"], ["fits"], *([*words, "--help"] for words, _ in every_command()))
    assert not names & {*HEAVY, "pydantic"}


def every_command(group=main, before=()):
    """The words of each command, those of groups too, and the command."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield (*before, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, (*before, name))


def test_the_help_of_every_command_ends_with_an_example_that_it_takes(hazelnut, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(hazelnut, "parts")
    for name in ("new", "station", "exported", "mvtec_bottle"):
        Path(name).mkdir()
    for name in ("parts.patchcore", "older.patchcore", "new/07.jpg", "station.tar", "mask.png"):
        Path(name).touch()
    for words, command in every_command():
        shown = " ".join(run(*words, "--help").stdout.partition("Example: ")[2].split())
        program, *example = shlex.split(shown.partition(" > ")[0])
        assert program == "patchcore", words
        assert tuple(example[: len(words)]) == words
        takes, rest = command, example[len(words) :]
        while isinstance(takes, click.Group):
            name, *rest = rest
            takes = takes.get_command(click.Context(takes), name)
        takes.make_context(words[-1], rest)  # raises for an option or a value that it does not take


def test_what_is_wrong_with_arguments_is_said_before_the_engine_is_loaded(model_file, hazelnut, tmp_path):
    there = tmp_path / "there"
    there.write_text("mine")
    model, data, nowhere = str(model_file), str(hazelnut), str(tmp_path / "nowhere")
    names = loaded(
        *([name] for name in ("fit", "predict", "evaluate", "report", "benchmark", "tune", "export", "verify", "sign")),
        ["fit", nowhere, "-o", "m"],
        ["fit", data, "-o", str(there)],
        ["fit", data, "-o", f"{nowhere}/m"],
        ["fit", data, "-o", "m", "--set", "sise=3"],
        ["fit", data, "-o", "m", "--recipe", "defualt"],
        ["fit", data, "-o", "m", "--memory", "lots"],
        ["fit", data, "-o", "m", "--device", "gpu"],
        ["sign", model, "--key", nowhere],
        ["predict", nowhere, data],
        ["predict", model, nowhere],
        ["evaluate", model, nowhere],
        ["report", model, data, "-o", f"{nowhere}/r.html"],
        ["benchmark", "--data", nowhere],
        ["benchmark", "--data", data, "--shots", "few"],
        ["benchmark", "--data", data, "--recipes", "defualt"],
        ["tune", nowhere],
        ["tune", data, "-o", str(there)],
        ["tune", data, "-o", f"{nowhere}/r.json"],
        ["tune", data, "--recipes", "defualt"],
        ["export", model, "-o", "m", "--precision", "fp17"],
        ["verify", data],
        ["sign", model],
        ["demo", "--recipe", "defualt"],
        ["import-inspection", nowhere],
        ["datasets"],
        ["recipes"],
    )
    assert not names & HEAVY


@pytest.fixture
def beside_a_clone(tmp_path):
    """A working folder that holds the repository under its own name, as after `git clone`."""
    (tmp_path / "patchcore").mkdir()
    shutil.copy(Path(__file__).parents[2] / "__main__.py", tmp_path / "patchcore")
    return tmp_path


def test_beside_a_clone_the_installed_package_runs(run_process, beside_a_clone):
    done = run_process("--version", cwd=beside_a_clone)
    assert done.returncode == 0
    assert patchcore.__version__ in done.stdout


def test_beside_a_clone_it_is_said_that_nothing_is_installed(beside_a_clone):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", "-m", "patchcore", "--version"]  # -S: without what is installed
    done = subprocess.run(command, cwd=beside_a_clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "patchcore is not installed in" in done.stderr
    assert f"the folder {beside_a_clone / 'patchcore'} is only its repository" in done.stderr


def test_off_a_terminal_no_table_is_cut(run, run_process, model_file, hazelnut, tmp_path):
    done = run_process("info", model_file)
    assert lines(run("info", model_file, "--json").stdout)[0]["sha256"] in done.stdout
    folder = tmp_path / "a folder with a name that is so long that it would not fit into any eighty columns at all"
    shutil.copytree(hazelnut / "test/good", folder)
    assert str(folder / "04.jpg") in run_process("predict", model_file, folder).stdout


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_of_a_command_do_not_wait_by_spinning_unless_they_are_told_to(given, expected):
    script = (
        "import os, sys; from patchcore.cli import main; main(['recipes'], standalone_mode=False); "
        "print(os.environ.get('GOMP_SPINCOUNT'), file=sys.stderr)"
    )
    known = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", script], env={**known, **given},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stderr.split()[-1] == str(expected)


def test_an_unknown_command_gets_a_suggestion(run):
    done = run("pedict", "x")
    assert done.exit_code == 2
    assert "No such command 'pedict'. Did you mean 'predict'?" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("fit",), ("fit", "data"), ("predict", "m"), ("info",), ("info", "m", "--nope"), ("evaluate", "m")]
)
def test_wrong_usage_is_exit_code_2(arguments, run):
    done = run(*arguments)
    assert done.exit_code == 2
    assert "Usage: patchcore" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_commands(shell, run):
    script = run(env={"_PATCHCORE_COMPLETE": f"{shell}_source"})
    assert script.exit_code == 0
    assert "_PATCHCORE_COMPLETE" in script.stdout
    words = {"COMP_WORDS": "patchcore pre", "COMP_CWORD": "1" if shell != "fish" else "pre"}
    completed = run(env={"_PATCHCORE_COMPLETE": f"{shell}_complete", **words})
    assert "predict" in completed.stdout
    assert "evaluate" not in completed.stdout


@pytest.mark.parametrize("command", [("predict", "{m}", "x.png"), ("evaluate", "{m}", "data"), ("info", "{m}")])
def test_a_model_that_is_not_there_is_named(command, run, tmp_path, hazelnut):
    model = tmp_path / "nowhere.patchcore"
    arguments = [str(hazelnut) if a == "data" else a.format(m=model) for a in command]
    done = run(*arguments)
    assert done.exit_code == 2
    assert "nowhere.patchcore' does not exist" in done.stderr
    assert done.stdout == ""


def test_an_altered_model_is_refused(run, model_file, tmp_path, hazelnut):
    content = bytearray(model_file.read_bytes())
    content[-1000] ^= 1
    (tmp_path / "m.patchcore").write_bytes(content)
    done = run("predict", tmp_path / "m.patchcore", hazelnut / "test/good")
    assert done.exit_code == 1
    assert "m.patchcore: the contents do not match the SHA-256 in the file" in done.stderr


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", None])
def test_a_damaged_or_foreign_model_is_refused(content, run, model_file, tmp_path):
    (tmp_path / "m.patchcore").write_bytes(model_file.read_bytes()[:5000] if content is None else content)
    done = run("info", tmp_path / "m.patchcore")
    assert done.exit_code == 1
    assert "m.patchcore: not a detector, or a damaged one" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_in_place_of_a_model_is_refused(run, tmp_path):
    done = run("info", tmp_path)
    assert done.exit_code == 2
    assert f"{tmp_path}: a folder; expected the file of a detector" in done.stderr


@pytest.mark.parametrize("command", [("evaluate", "{m}", "data"), ("info", "{m}"), ("predict", "{m}", "data")])
def test_an_exported_folder_in_place_of_a_model_is_said_to_be_one(command, run, tmp_path, hazelnut):
    (tmp_path / "manifest.json").write_text("{}")
    done = run(*(hazelnut if a == "data" else a.format(m=tmp_path) for a in command))
    assert done.exit_code == 2
    assert f"{tmp_path}: an exported folder; expected the file of a detector. Give the one it was" in done.stderr


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_wrong_usage(device, run, model_file, hazelnut, tmp_path):
    for arguments in (
        ("predict", model_file, hazelnut / "test/good"),
        ("fit", hazelnut, "-o", tmp_path / "m"),
        ("evaluate", model_file, hazelnut),
    ):
        done = run(*arguments, "--device", device)
        assert done.exit_code == 2, done.exception
        assert f"device is '{device}'" in done.stderr


def test_an_error_is_one_message_and_no_traceback(run_process, tmp_path):
    (tmp_path / "m.patchcore").write_text("nothing of the kind")
    done = run_process("info", tmp_path / "m.patchcore")
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")


def test_json_holds_no_nan(run, hazelnut, tmp_path):
    # JSON has none; a detector of one image has no threshold.
    done = run("fit", hazelnut, "-o", tmp_path / "m", "--limit", 1, "--set=size=64", "--set=resize=stretch", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout, parse_constant=pytest.fail)["threshold"] is None
    done = run("predict", tmp_path / "m", hazelnut / "test/good/04.jpg", "--json")
    row = json.loads(done.stdout, parse_constant=pytest.fail)
    assert row["decision"] == "unsure"
    assert row["threshold"] is None
    assert row["normalised"] is None
    for done in (run("predict", tmp_path / "m", hazelnut / "test/good/04.jpg"), run("info", tmp_path / "m")):
        assert "nan" not in done.output.lower().replace(str(tmp_path).lower(), "")
    assert "fit with --calibration DIR" in done.output
    assert "None" not in done.output


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["predict", "none", "."], 2, "Path 'none' does not exist"),
        (["predict", "FILE", "none.png"], 2, "none.png does not exist"),
        (["evaluate", "FILE", "none"], 2, "Path 'none' does not exist"),
        (["verify", "none"], 2, "'none' does not exist"),
        (["fit", "none", "-o", "m"], 2, "Path 'none' does not exist"),
        (["fit", ".", "-o", "none/m"], 2, "the folder none does not exist"),
        (["predict", "FOLDER", "."], 2, ": a folder; expected the file of a detector"),
        (["info", "FOLDER"], 2, ": a folder; expected the file of a detector"),
        (["export", "FOLDER", "-o", "x"], 2, ": a folder; expected the file of a detector"),
        (["fit", "FILE", "-o", "m"], 2, "is a file; expected a folder of images"),
        (["evaluate", "FILE", "FILE"], 2, "is a file; expected a folder of images"),
        (["verify", "FILE"], 2, "is a file"),
        (["info", "FILE"], 1, "not a detector, or a damaged one"),
        (["verify", "FOLDER"], 1, "has no manifest.json"),
        (["sign", "FOLDER", "--key", "none"], 2, "none: the key cannot be read"),
        (["fit", "FOLDER", "-o", "m"], 1, "holds no images"),
        (["predict", "", "."], 2, "the path is empty"),
        (["predict", "FILE", ""], 2, "the path is empty"),
        (["predict", "FILE", ".", "-o", ""], 2, "the path is empty"),
        (["fit", "", "-o", "m"], 2, "the path is empty"),
        (["fit", "FOLDER", "-o", ""], 2, "the path is empty"),
    ],
)
def test_a_wrong_path_is_wrong_usage_and_one_that_cannot_be_used_is_not(words, code, said, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("no model")
    found = {"FOLDER": "folder", "FILE": "file"}
    done = run(*(found.get(word, word) for word in words))
    assert said in " ".join(done.stderr.split())
    assert done.exit_code == code


def test_ctrl_c_while_torch_is_loaded_is_one_line(model_file, hazelnut):
    script = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch._meta_registrations': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from patchcore.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    words = ["predict", model_file, hazelnut / "test/good"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Stopped. No half-written files were left.\n"
