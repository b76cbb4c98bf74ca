"""`patchcore report`."""

import shutil

import pytest
from cli_helpers import lines


@pytest.fixture
def data(hazelnut, tmp_path):
    root = tmp_path / "hazelnut"
    shutil.copytree(hazelnut, root)
    return root


def test_a_report_is_one_file(run, model_file, hazelnut, tmp_path):
    done = run("report", model_file, hazelnut, "-o", tmp_path / "report.html")
    assert done.exit_code == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    html = (tmp_path / "report.html").read_text("utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert html.rstrip().endswith("</html>")
    assert "<h1>nuts.patchcore on hazelnut</h1>" in html
    assert "Nearest good patch, in " in html
    assert "was not found" not in html
    assert f"Open {tmp_path / 'report.html'} in a browser" in done.stdout


def test_the_file_s_own_hash_is_on_the_page(run, model_file, hazelnut, tmp_path):
    run("report", model_file, hazelnut, "-o", tmp_path / "report.html", "--limit", 0)
    html = (tmp_path / "report.html").read_text("utf-8")
    (header,) = lines(run("info", model_file, "--json").stdout)
    assert header["sha256"] in html


def test_the_training_folder_can_be_elsewhere(run, model_file, data, tmp_path):
    (data / "train").rename(tmp_path / "elsewhere")
    rows = [(f"test/{kind}/{path.name}", kind) for kind in ("good", "colour")
            for path in sorted((data / "test" / kind).iterdir())]  # fmt: skip
    (data / "nuts.csv").write_text("path,label,split\n" + "".join(f"{p},{k},test\n" for p, k in rows), "utf-8")
    arguments = ("report", model_file, data / "nuts.csv", "-o", tmp_path / "report.html", "--limit", 1)
    assert run(*arguments).exit_code == 0
    assert "(from its thumbnail)" in (tmp_path / "report.html").read_text("utf-8")
    assert run(*arguments, "--good", tmp_path / "elsewhere/good").exit_code == 0
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "from its thumbnail" not in html
    assert "was not found" not in html
    assert "Nearest good patch, in " in html


def test_images_that_cannot_be_read_are_listed_and_the_exit_code_says_so(run, model_file, data, tmp_path):
    (data / "test/colour/01.jpg").write_bytes(b"this is no image")
    done = run("report", model_file, data, "-o", tmp_path / "report.html", "--limit", 0)
    assert done.exit_code == 1
    assert "Left out 1 image that could not be read:" in done.stderr
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "1 image could not be read" in html
    assert "<strong>test/colour/01.jpg</strong>: not an image" in html


def test_a_folder_that_is_not_there_is_said_before_the_work(run, model_file, hazelnut, tmp_path):
    done = run("report", model_file, hazelnut, "-o", tmp_path / "nowhere" / "report.html")
    assert done.exit_code == 2
    assert "nowhere does not exist. Create it first." in done.stderr
    assert "MVTec AD layout" not in done.stderr


def test_a_page_is_said_to_be_replaced(run, model_file, hazelnut, tmp_path):
    (tmp_path / "report.html").write_text("older")
    done = run("report", model_file, hazelnut, "-o", tmp_path / "report.html", "--limit", 0)
    assert "MB, replacing what was there)" in done.stdout


def test_good_images_without_labels_cannot_be_reported_on(run, model_file, hazelnut, tmp_path):
    done = run("report", model_file, hazelnut / "test/good", "-o", tmp_path / "report.html")
    assert done.exit_code == 1
    assert "3 images without labels" in done.stderr
    assert "For verdicts alone: patchcore predict." in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", ["-1", "25"])
def test_the_size_of_the_page_is_bounded(run, model_file, hazelnut, limit):
    done = run("report", model_file, hazelnut, "--limit", limit)
    assert done.exit_code == 2
    assert "0<=x<=24" in done.stderr


def test_without_jinja_it_says_what_to_install_before_the_work(run, model_file, hazelnut, tmp_path, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith("patchcore.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = run("report", model_file, hazelnut, "-o", tmp_path / "report.html")
    assert done.exit_code == 1
    assert "pip install 'patchcore[report]'" in done.stderr
    assert not list(tmp_path.iterdir())
