"""The table of docs/compatibility.md against the code."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
SECTION = PAGE.read_text("utf-8").partition("\n## anomalib v1\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| `(.+?)` \| `(\w+)` \| (.+) \|$", SECTION, re.MULTILINE)
DOCUMENTED = {  # every name of anomalib's own page on this model, and of the parts that it is made of
    "Patchcore": "configure_optimizers configure_transforms fit learning_type trainer_arguments training_step "
    "validation_step",
    "PatchcoreModel": "compute_anomaly_score euclidean_dist forward generate_embedding nearest_neighbors "
    "reshape_embedding subsample_embedding memory_bank",
    "AnomalyMapGenerator": "compute_anomaly_map forward",
    "KCenterGreedy": "select_coreset_idxs sample_coreset",
}


def described(text: str) -> tuple[str, list[tuple[str, str, object]] | None]:
    """`A.b(x, y=1)` -> its dotted name, and name, kind and default of each argument."""
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call):
        return text, None
    empty = inspect.Parameter.empty
    arguments: list[tuple[str, str, object]] = []
    for argument in call.args:
        starred = isinstance(argument, ast.Starred)
        name = argument.value.id if starred else argument.id
        arguments.append((name, "VAR_POSITIONAL" if starred else "POSITIONAL_OR_KEYWORD", empty))
    for keyword in call.keywords:
        if keyword.arg is None:
            arguments.append((keyword.value.id, "VAR_KEYWORD", empty))
        else:
            arguments.append((keyword.arg, "POSITIONAL_OR_KEYWORD", ast.literal_eval(keyword.value)))
    return ast.unparse(call.func), arguments


@pytest.mark.parametrize(("text", "room", "difference"), ROWS, ids=[row[0].partition("(")[0] for row in ROWS])
def test_a_row_says_what_the_code_has(text, room, difference):
    name, arguments = described(text)
    owner, _, member = name.partition(".")
    there = getattr(import_module(f"patchcore.lightning.{room}"), owner)
    if member == "memory_bank":
        assert "memory_bank" in inspect.get_annotations(there)
        return
    there = inspect.getattr_static(there, member) if member else there
    assert difference.strip()
    if arguments is None:
        assert inspect.isclass(there) or isinstance(there, property)
        return
    signature = inspect.signature(there.__func__ if isinstance(there, staticmethod) else there)
    found = [(p.name, p.kind.name, p.default) for p in signature.parameters.values() if p.name != "self"]
    assert found == arguments


def test_every_documented_name_has_a_row():
    names = {described(text)[0] for text, _, _ in ROWS}
    wanted = {f"{owner}.{member}" for owner, members in DOCUMENTED.items() for member in members.split()}
    assert not (wanted | set(DOCUMENTED)) - names


def test_the_scripts_of_the_migration_page_take_what_is_there():
    page = PAGE.with_name("migration-anomalib.md").read_text("utf-8")
    scripts = [ast.parse(block) for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]
    ours = [
        (node.module, alias.name)
        for script in scripts
        for node in ast.walk(script)
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "patchcore"
        for alias in node.names
    ]
    assert len(ours) >= 3
    for room, name in ours:
        assert getattr(import_module(room), name)
