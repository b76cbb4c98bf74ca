"""Tools of a release, and the files that describe the package to others."""

import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def release():
    return runpy.run_path(str(ROOT / "tools" / "release.py"))


@pytest.fixture(scope="module")
def licences():
    return runpy.run_path(str(ROOT / "tools" / "licences.py"))


def test_a_release_needs_a_clean_tree_a_tag_and_its_section_of_the_changelog(release, tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## [Unreleased]\n")
    git("add", ".")
    git("commit", "-m", "first")
    assert [one.partition(":")[0] for one in release["missing"](tmp_path)] == ["no tag vX.Y.Z at this commit"]
    git("tag", "v1.2.3")
    assert [one.partition(":")[0] for one in release["missing"](tmp_path)] == ["no section [1.2.3] in CHANGELOG.md"]
    changelog.write_text("# Changelog\n\n## [1.2.3]\n")
    assert [one.partition(":")[0] for one in release["missing"](tmp_path)] == ["uncommitted changes"]
    git("commit", "-am", "second")
    git("tag", "v1.2.3rc1")  # no release
    assert len(release["missing"](tmp_path)) == 1
    git("tag", "--force", "v1.2.3")
    assert release["missing"](tmp_path) == []
    assert release["tagged"](tmp_path) == "1.2.3"


def test_nothing_is_built_for_a_release_that_lacks_something(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "tools/release.py", "--publish", "-o", tmp_path / "dist"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 1
    assert "Nothing was built or published." in done.stderr
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("(GPL-3.0-only OR MIT) AND BSD-2-Clause", True),
        ("MIT AND GPL-3.0-only", False),
        ("BSD License, GNU General Public License v3", False),
        ("Other/Proprietary License", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_a_licence_is_known_if_all_its_parts_are(licences, text, known):
    assert licences["is_known"](text) is known


def test_all_that_is_installed_with_patchcore_has_a_known_licence(licences):
    found = licences["closure"]("patchcore")
    direct = {Requirement(one).name for one in PROJECT["dependencies"]}
    assert direct <= set(found)
    assert {"scipy", "markupsafe"} <= set(found), "what others need is there too"
    unknown = [name for name, one in found.items() if not licences["is_known"](licences["licence"](one))]
    assert [name for name in unknown if not name.startswith(licences["OTHERS"])] == []


def test_an_sbom_says_what_each_component_is_and_needs():
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.output.json import JsonV1Dot6

    def entry(name, digest, **about):
        info = {"url": "https://example.org", "archive_info": {"hashes": {"sha256": digest}}}
        return {"download_info": info, "metadata": {"name": name, "version": "1.0", **about}}

    report = {
        "install": [
            entry("patchcore", "a" * 64, requires_dist=["Num_Py>=1", "absent; extra == 'x'"], license_expression="MIT"),
            entry("num-py", "b" * 64, license="Somebody's own"),
        ]
    }
    made = runpy.run_path(str(ROOT / "tools" / "sbom.py"))["bom"](report)
    told = json.loads(JsonV1Dot6(made).output_as_string())
    assert told["bomFormat"] == "CycloneDX"
    assert told["metadata"]["component"]["purl"] == "pkg:pypi/patchcore@1.0"
    (component,) = told["components"]
    assert component["purl"] == "pkg:pypi/num-py@1.0"
    assert component["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    assert component["licenses"] == [{"license": {"name": "Somebody's own"}}]
    needs = {one["ref"]: one.get("dependsOn", []) for one in told["dependencies"]}
    assert needs["pkg:pypi/patchcore@1.0"] == ["pkg:pypi/num-py@1.0"]


def test_citation_zenodo_and_paper_say_the_same():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    zenodo = json.loads((ROOT / ".zenodo.json").read_text("utf-8"))
    paper = yaml.safe_load((ROOT / "paper/paper.md").read_text("utf-8").split("---")[1])
    authors = [one["name"] for one in citation["authors"]]
    assert citation["title"] == zenodo["title"] == PROJECT["name"]
    assert citation["license"] == zenodo["license"] == PROJECT["license"]
    assert authors == [one["name"] for one in zenodo["creators"]] == [one["name"] for one in paper["authors"]]
    assert zenodo["keywords"] == PROJECT["keywords"]
    cited = citation["preferred-citation"]
    (reference,) = zenodo["references"]
    bibliography = (ROOT / "paper/paper.bib").read_text("utf-8").replace('{\\"o}', "ö")
    assert cited["title"] in reference
    assert cited["title"] in bibliography
    assert str(cited["year"]) in reference
    for one in cited["authors"]:
        assert f"{one['family-names']}, {one['given-names']}" in reference
        assert f"{one['family-names']}, {one['given-names']}" in bibliography


def test_the_paper_cites_all_that_it_lists():
    text, bibliography = ((ROOT / "paper" / name).read_text("utf-8") for name in ("paper.md", "paper.bib"))
    assert set(re.findall(r"@(\w+)\]", text)) == set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))


def test_the_conda_recipe_needs_what_the_package_needs():
    recipe = yaml.safe_load((ROOT / "deploy/conda/recipe.yaml").read_text("utf-8"))
    names = {"torch": "pytorch", "opencv-python-headless": "py-opencv", "typing-extensions": "typing_extensions"}
    needs = [Requirement(one) for one in PROJECT["dependencies"]]
    expected = {
        f"{names.get(one.name, one.name)} {sorted_spec(one)}" for one in needs if "efficientnet" not in one.name
    }
    found = [one.partition(" ") for one in recipe["requirements"]["run"]]
    assert {f"{name} {sorted_spec(Requirement(f'x{spec}'))}" for name, _, spec in found if name != "python"} == expected
    assert f"python {PROJECT['requires-python']}" in recipe["requirements"]["run"]


def sorted_spec(one):
    return ",".join(sorted(map(str, one.specifier)))
