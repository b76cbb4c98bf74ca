"""Scripts and styles: typed, and complete in themselves."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from patchcore.station.pages.static_files import files, version

HERE = Path(__file__).parent
TSC = HERE / "node_modules" / ".bin" / "tsc"


@pytest.mark.skipif(not TSC.exists() or not shutil.which("node"), reason="no TypeScript here: make pages")
def test_scripts_have_the_types_that_their_comments_say():
    done = subprocess.run([TSC, "--project", HERE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_scripts_import_only_each_other():
    for name, (content, _) in files().items():
        for place in re.findall(r'(?:from|import) "([^"]+)"', content.decode()):
            assert place in {f"./{other}" for other in files()}, name


def test_styles_and_scripts_ask_nothing_of_the_network():
    for name, (content, _) in files().items():
        found = set(re.findall(r"(?:https?:)?//[\w.]+", re.sub(r"^\s*(?://|\*).*$", "", content.decode(), flags=re.M)))
        assert found <= {"http://www.w3.org"}, name


def test_the_address_of_static_files_changes_with_them():
    assert re.fullmatch(r"[0-9a-f]{12}", version())
