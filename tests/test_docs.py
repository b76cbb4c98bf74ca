"""What the documentation says is what the code does."""

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result

ROOT = Path(__file__).parent.parent
# Pages whose every command and script is run, each page in a folder of its own.
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("start.md", "file-format.md")),
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def folder(category: Callable[[Path], Path], tmp_path: Path) -> Path:
    """A working folder with images where the README has them."""
    category(tmp_path / "parts")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_runs(
    page: Path, run: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    found = re.findall(r"```(console|python)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert found
    for number, (language, text) in enumerate(found):  # in the order of the page
        if language == "python":
            script = folder / f"{page.stem}_{number}.py"
            script.write_text(text, "utf-8")
            told = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, check=False)
            assert told.returncode == 0, told.stderr
            continue
        for command in filter(None, text.splitlines()):
            program, *arguments = shlex.split(command)
            assert program == "patchcore"
            done = run(*arguments)
            assert done.exit_code == 0, f"{command}\n{done.stderr}"


def test_the_readme_is_short_and_its_script_finds_the_defect(folder: Path) -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text("utf-8").split()) <= 600
    (code,) = blocks(readme, "python")
    script = folder / "first_minute.py"
    script.write_text(code, "utf-8")
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, check=False)
    assert "fail" in done.stdout
    assert (folder / "overlay.png").is_file()


def test_the_reference_is_up_to_date() -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert generate["run"](check=True) == [], "run `make docs`"


def test_what_a_docstring_names_is_a_list_and_its_example_is_code() -> None:
    rendered = runpy.run_path(str(ROOT / "docs" / "generate.py"))["rendered"]
    document = """Does it.

Args:
    one: The first,
        on two lines.
    two, three: The others: both.

Raises:
    ImageError: An image is none.
    DataError, UsageError

>>> does(1)
2

The end.
"""
    assert (
        rendered(document)
        == """Does it.

**Args:**

- `one`: The first,
  on two lines.
- `two`, `three`: The others: both.

**Raises:**

- `ImageError`: An image is none.
- `DataError`, `UsageError`

```pycon
>>> does(1)
2
```

The end."""
    )


def test_the_drawings_are_up_to_date() -> None:
    for name in ("rooms", "drawings"):
        script = runpy.run_path(str(ROOT / "docs" / f"{name}.py"))
        assert script["run"](check=True) == [], "run `make docs`"


def test_the_drawing_shows_imports_but_those_that_follow_from_others(tmp_path: Path) -> None:
    rooms = runpy.run_path(str(ROOT / "docs" / "rooms.py"))
    package = tmp_path / "parts"
    files = {
        "__init__.py": "if TYPE_CHECKING:\n    from parts.engine import Engine\n",
        "face/__init__.py": "",
        "face/page.py": "def show():\n    from parts import Engine\n    from ..sums import add\n",
        "engine.py": "import math\nimport parts.sums.add\nif TYPE_CHECKING:\n    from parts.face import page\n",
        "sums/add.py": "from .zero import nought\n",
        "sums/zero.py": "",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, "utf-8")
    graph = rooms["rooms"](package)
    assert graph == {"face/": {"engine.py", "sums/"}, "engine.py": {"sums/"}, "sums/": set()}
    graph = rooms["reduced"](graph)
    assert graph == {"face/": {"engine.py"}, "engine.py": {"sums/"}, "sums/": set()}
    assert rooms["rows_of"](graph) == {"face/": 0, "engine.py": 1, "sums/": 2}
    ElementTree.fromstring(rooms["drawn"](graph))
    with pytest.raises(SystemExit, match=r"circle: (a <- b <- a|b <- a <- b)\."):
        rooms["reduced"]({"a": {"b"}, "b": {"a"}})


def test_what_make_quick_runs_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    listed = makefile.partition("QUICK :=")[2].partition("\n\n")[0].replace("\\", "").split()
    assert len(listed) > 10
    for name in listed:
        file, _, test = name.partition("::")
        text = (ROOT / file).read_text("utf-8")
        assert not test or f"def {test}(" in text, name


def test_every_link_between_the_documents_leads_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
