"""The schemas of what commands print. That every line in the suite is as they say, `run` in conftest.py checks."""

import json

import click
import jsonschema
import pytest
from cli_helpers import lines

from patchcore.cli import _COMMANDS, main
from patchcore.cli.outputs import OUTPUTS, schema


def commands():
    context = click.Context(main)
    return {name: main.get_command(context, name) for name in _COMMANDS}


def test_every_command_that_prints_json_has_a_schema():
    with_json = {name for name, one in commands().items() if any(p.name == "as_json" for p in one.params)}
    assert set(OUTPUTS) == with_json | {"watch"}


# Whose help says that another one has more of the keys.
OTHERS = {
    **dict.fromkeys(("forget", "undo", "recalibrate", "history"), ("teach",)),
    "benchmark": ("evaluate",),
    "demo": ("evaluate",),
    "tune": ("doctor",),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_schema_is_valid_and_the_help_names_its_keys(name):
    described = schema(name)
    jsonschema.Draft202012Validator.check_schema(described)
    first = described["$defs"][described["anyOf"][0]["$ref"].rpartition("/")[2]] if "anyOf" in described else described
    told = "".join(commands()[one].help for one in (name, *OTHERS.get(name, ())))
    assert [key for key in first["required"] if key not in told] == []


def test_a_program_checks_a_line_with_what_schema_prints(run, model_file, hazelnut):
    printed = run("schema", "predict")
    assert printed.exit_code == 0
    check = jsonschema.Draft202012Validator(json.loads(printed.stdout))
    (line,) = lines(run("predict", model_file, hazelnut / "test/colour/00.jpg", "--json", "--regions").stdout)
    check.validate(line)
    assert not check.is_valid({**line, "score": "high"})
    assert not check.is_valid({**line, "colour": "brown"})
    assert not check.is_valid({key: value for key, value in line.items() if key != "decision"})


def test_a_command_without_json_is_named_with_those_that_have_it(run):
    done = run("schema", "predct")
    assert done.exit_code == 2
    assert "predict" in done.stderr
