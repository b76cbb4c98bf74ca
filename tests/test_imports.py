import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import patchcore

ROOT = Path(patchcore.__file__).parent

# From the bottom up. A module may import from its own room and from those below it; every other folder is a face.
ROOMS = ("errors", "arguments", "silence", "files", "maths", "recipe", "data", "backbones", "memory", "verdict",
         "model", "pipeline", "result", "changes", "detector", "measure", "oversight", "watch")  # fmt: skip
FACES = len(ROOMS)
# Rooms that know nothing of each other, though one stands above the other.
STRANGERS = {("backbones", "data"), ("backbones", "recipe"), ("memory", "data"), ("memory", "backbones"),
             ("memory", "recipe"), ("verdict", "backbones"), ("data", "recipe")}  # fmt: skip


@cache
def modules():
    """Name and file of every module."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found[".".join(("patchcore", *parts))] = path
    return found


def statements(tree):
    """Every node, also in functions, but for what only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from statements(node)


def imported(name, path):
    """The dotted names that a module imports, its relative imports resolved."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in statements(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def edges():
    """Pairs of our own modules, the first of which imports the second."""
    known, found = modules(), []
    for name, path in known.items():
        for target in imported(name, path):
            if target.split(".")[0] == "patchcore":
                while target not in known:  # from patchcore.errors import DataError
                    target = target.rpartition(".")[0]
                found.append((name, target))
    return found


def room(name):
    """`patchcore.maths.resize` -> `maths`."""
    return name.split(".")[1] if "." in name else ""


def layer(name):
    return ROOMS.index(room(name)) if room(name) in ROOMS else FACES


def test_the_reader_sees_imports_at_the_top_in_functions_and_of_modules():
    found = set(edges())
    assert ("patchcore.maths.maps", "patchcore.maths.resize") in found
    assert ("patchcore.cli.fit", "patchcore.detector") in found
    assert ("patchcore.detector", "patchcore.model.file") in found


def test_imports_point_from_faces_to_the_detector_along_the_pipeline_to_maths():
    wrong = [
        f"{source} imports {target}"
        for source, target in edges()
        if source != "patchcore" and target != "patchcore" and layer(source) < layer(target)
    ]
    assert not wrong


def test_maths_imports_nothing_of_ours_but_maths_and_errors():
    wrong = [(a, b) for a, b in edges() if room(a) == "maths" and room(b) not in ("maths", "errors")]
    assert not wrong


def test_rooms_that_are_strangers_do_not_import_each_other():
    assert not [(a, b) for a, b in edges() if (room(a), room(b)) in STRANGERS]


def test_errors_import_nothing_of_ours_and_files_nothing_but_errors():
    assert not [(a, b) for a, b in edges() if room(a) == "errors"]
    assert {b for a, b in edges() if room(a) == "files" and room(b) != "files"} == {"patchcore.errors"}


# The inferencers of anomalib v0 run its models, and v1's models export themselves; the command line imports models of
# patchcore-inspection, writes reports, exports, runs benchmarks and chooses recipes, which are timed as benchmarks are.
STANDS_ON = {
    ("inferencers", "lightning"), ("cli", "inspection"), ("cli", "report"),
    ("cli", "benchmark"), ("cli", "tuning"), ("cli", "export"), ("lightning", "export"),
    ("cli", "cluster"), ("cluster", "benchmark"), ("cli", "station"), ("station", "report"),
}  # fmt: skip


def test_nothing_imports_a_face_but_the_face_itself():
    wrong = [
        (a, b)
        for a, b in edges()
        if "" not in (room(a), room(b))
        and layer(b) == FACES
        and room(a) not in (room(b), "__main__")
        and (room(a), room(b)) not in STANDS_ON
    ]
    assert not wrong


def test_only_faces_import_the_package_s_own_names():
    # `from patchcore import Detector` from below would be a circle.
    wrong = [a for a, b in edges() if b == "patchcore" and layer(a) != FACES]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    graph = {}
    for source, target in edges():
        if "patchcore" not in (source, target) and source != target:
            graph.setdefault(source, set()).add(target)
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"circle: {error.args[1]}")


def closure(name):
    """The modules that a module needs: its imports, theirs, and so on."""
    needed, graph = set(), {}
    for source, target in edges():
        graph.setdefault(source, set()).add(target)
    waiting = [name]
    while waiting:
        if (one := waiting.pop()) not in needed:
            needed.add(one)
            waiting += graph.get(one, ())
    return needed


def test_someone_new_can_read_all_that_the_detector_needs():
    files = {modules()[name] for name in closure("patchcore.detector")}
    assert len(files) <= 66
    assert sum(len(path.read_text("utf-8").splitlines()) for path in files) <= 10_150


def test_the_root_and_every_file_stay_small():
    assert len(list(ROOT.glob("*.py"))) <= 8
    assert not [path for path in ROOT.rglob("*.py") if len(path.read_text("utf-8").splitlines()) > 350]


def test_every_folder_says_its_noun_first():
    for path in ROOT.rglob("*/__init__.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        assert re.match(r"[A-Z][\w ]*: ", docstring), f"{path}: {docstring.splitlines()[:1]}"


# Where torch has its libraries, and what compiled loops are kept by.
OWN_FILES = {("patchcore.maths.threads", "pathlib.Path"), ("patchcore.maths.vectors", "pathlib.Path")}


def test_maths_touches_neither_files_nor_images():
    forbidden = {"pathlib", "os", "io", "json", "csv", "tempfile", "PIL", "tifffile", "timm", "torchvision"}
    wrong = [
        (name, target)
        for name, path in modules().items()
        if room(name) == "maths"
        for target in imported(name, path)
        if target.split(".")[0] in forbidden
    ]
    assert set(wrong) == OWN_FILES


def loaded_by(statement):
    """The packages that a fresh interpreter has loaded after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_by("import patchcore; patchcore.ImageError, patchcore.__version__, dir(patchcore)")
    assert "patchcore" in loaded
    heavy = {"torch", "torchvision", "timm", "numpy", "scipy", "sklearn", "PIL", "pydantic", "safetensors", "click"}
    assert not loaded & heavy


def test_a_recipe_can_be_written_without_loading_torch():
    loaded = loaded_by("import patchcore; patchcore.Recipe.named('fast')")
    assert "pydantic" in loaded
    assert not loaded & {"torch", "torchvision", "timm", "sklearn"}


def test_the_face_of_patchcore_inspection_loads_no_extra_and_no_model_library():
    loaded = loaded_by("import patchcore.inspection, patchcore.inspection.backbones, patchcore.inspection.utils")
    assert "torch" in loaded
    assert not loaded & {"faiss", "timm", "torchvision", "sklearn", "lightning"}


def test_every_public_name_is_there():
    for name in patchcore.__all__:
        assert getattr(patchcore, name) is not None
    assert set(patchcore.__all__) <= set(dir(patchcore))
    from patchcore.detector import Detector

    assert patchcore.Detector is Detector


def test_running_exports_without_the_runtime_says_what_to_install():
    code = (
        "import sys\nsys.modules['patchcore_runtime'] = None\nfrom patchcore import export\n"
        "try:\n    export.load\nexcept ImportError as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingExtraError patchcore.export.load")
    assert done.stdout.endswith("Install it with: pip install 'patchcore[export]'\n")


def test_the_version_is_known_without_an_installation():
    code = (
        "from importlib import metadata\n"
        "metadata.distributions = lambda **of: []\nimport patchcore\nprint(patchcore.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0+unknown\n"


def test_a_name_that_is_not_there_says_so():
    with pytest.raises(AttributeError, match="No patchcore attribute Detecter"):
        _ = patchcore.Detecter


@pytest.mark.parametrize(
    ("given", "then", "after"),
    [({}, "1000", "None"), ({"GOMP_SPINCOUNT": "7"}, "7", "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None", "None")],
)
def test_torch_is_loaded_with_threads_that_do_not_spin_and_the_environment_stays(given, then, after):
    script = (
        "import os, sys, patchcore\n"
        "class Spy:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch': print(os.environ.get('GOMP_SPINCOUNT'))\n"
        "sys.meta_path.insert(0, Spy())\n"
        "patchcore.Detector\n"
        "print(os.environ.get('GOMP_SPINCOUNT'))\n"
    )
    known = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**known, **given}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [then, after]
