"""`patchcore doctor` finds what is wrong with an installation."""

import json
import re
from importlib import metadata

import numpy as np
import pytest

from patchcore.cli import doctor


def told(run):
    done = run("doctor", "--json")
    return done.exit_code, json.loads(done.stdout)


def test_a_sound_installation_has_no_problems(run):
    code, found = told(run)
    assert (code, found["problems"]) == (0, [])
    versions = {one["name"]: one["version"] for one in found["packages"]}
    assert versions["numpy"] == found["machine"]["numpy"] == np.__version__
    assert next(one for one in found["packages"] if one["name"] == "onnx")["extra"] == "export"
    assert {"name": "efficientnet_lite0", "installed": True} in found["backbones"]
    assert found["devices"][0] == "cpu"
    assert min(found["speed"].values()) > 0
    assert 0 < found["machine"]["free_memory"] <= found["machine"]["memory"]


@pytest.mark.parametrize(
    ("name", "version", "problem"),
    [
        ("scipy", None, r"scipy is not installed: pip install 'scipy(>=1\.13,<2|<2,>=1\.13)'"),
        ("timm", "0.9.2", r"timm is 0\.9\.2, and patchcore needs .*>=1\.0\.12.*: pip install 'timm"),
        ("opencv-python", "4.10.0", r"opencv-python is installed beside .*pip uninstall opencv-python"),
    ],
)  # fmt: skip
def test_what_is_missing_old_or_twice_is_a_problem(run, monkeypatch, name, version, problem):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda asked: version if asked == name else real(asked))
    done = run("doctor")
    assert done.exit_code == 1
    assert re.search(problem, done.stdout)
    assert "Nothing is wrong" not in done.stdout


def test_a_missing_extra_is_no_problem(run, monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda asked: None if asked == "openvino" else real(asked))
    code, found = told(run)
    assert (code, found["problems"]) == (0, [])
    assert any("OpenVINO is not installed" in one for one in found["remarks"])


def test_every_dependency_of_its_own_is_looked_at():
    declared = {one.split(";")[0] for one in metadata.requires("patchcore") if "extra ==" not in one}
    assert len([one for one in doctor._packages() if not one.extra]) == len(declared)
