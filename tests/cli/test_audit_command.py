import csv
import json
import shutil

from patchcore import Detector

QUICK = ("--set", "size=128", "--set", "min_rows=64")


def folder(hazelnut, root):
    shutil.copytree(hazelnut / "train" / "good", root)
    shutil.copy(hazelnut / "test" / "colour" / "00.jpg", root / "defect.jpg")
    shutil.copy(root / "00.jpg", root / "copy.jpg")
    return root


def test_audit_lists_suspects_and_ends_with_4(run, hazelnut, tmp_path):
    data, output = folder(hazelnut, tmp_path / "parts"), tmp_path / "out"
    done = run("audit", data, "-o", output, "--json", *QUICK)
    assert done.exit_code == 4, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["path"].endswith("defect.jpg")
    assert any("same pixels" in remark for line in lines for remark in line["remarks"])
    assert sorted(path.name for path in output.iterdir()) == ["audit.csv", "audit.html", "audit.json", "sheet.png"]
    assert json.loads((output / "audit.json").read_text("utf-8")) == lines
    with (output / "audit.csv").open(newline="", encoding="utf-8") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [line["path"] for line in lines]
    page = (output / "audit.html").read_text("utf-8")
    assert "defect.jpg" in page
    assert "<script" not in page


def test_fit_leaves_suspects_out_and_the_file_names_them(run, hazelnut, tmp_path):
    data, model = folder(hazelnut, tmp_path / "parts"), tmp_path / "m.patchcore"
    done = run("fit", data, "-o", model, "--reject-suspects", "0.1", "--json", *QUICK)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["rejected"] == ["defect.jpg"]
    loaded = Detector.load(model).fitted
    assert loaded.rejected == ("defect.jpg",)
    assert "defect.jpg" not in loaded.images
    assert "defect.jpg" in run("info", model).stdout
