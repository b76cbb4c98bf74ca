"""The tables of docs/compatibility.md on anomalib v0 against the code."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
from test_compatibility_v1 import described

PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text("utf-8")
ROWS = [
    row
    for title in ("anomalib v0", "anomalib v0 tools and inferencers")
    for row in re.findall(
        r"^\| `(.+?)` \| `([\w.]+)` \| (.+) \|$",
        PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0],
        re.MULTILINE,
    )
]
DOCUMENTED = {  # every name of anomalib's own pages on this model, and of the flow of its tools
    "AnomalyMapGenerator": "compute_anomaly_map compute_anomaly_score __call__",
    "PatchcoreModel": "forward generate_embedding reshape_embedding subsample_embedding nearest_neighbors",
    "PatchcoreLightning": "configure_optimizers training_step on_validation_start validation_step",
    "DynamicBufferModule": "get_tensor_attribute",
    "Inferencer": "predict load_model _load_meta_data pre_process forward post_process _normalize",
    "TorchInferencer": "load_model pre_process forward post_process",
    "PreProcessor": "",
    **dict.fromkeys(
        ("get_model", "get_model_metadata", "superimpose_anomaly_map", "anomaly_map_to_color_map", "add_label"), ""
    ),
}


@pytest.mark.parametrize(("text", "room", "difference"), ROWS, ids=[row[0].partition("(")[0] for row in ROWS])
def test_a_row_says_what_the_code_has(text, room, difference):
    name, arguments = described(text)
    owner, _, member = name.partition(".")
    there = getattr(import_module(f"patchcore.{room}"), owner)
    assert difference.strip()
    if member == "memory_bank":
        assert any("memory_bank" in inspect.get_annotations(kind) for kind in there.__mro__)
        return
    there = inspect.getattr_static(there, member) if member else there
    signature = inspect.signature(there.__func__ if isinstance(there, staticmethod) else there)
    found = [p for p in signature.parameters.values() if p.name != "self"]
    # What is ours alone is given by keyword, and may be left out.
    ours = [p for p in found if p.kind is p.KEYWORD_ONLY and p.name not in [a[0] for a in arguments]]
    assert all(p.default is not p.empty for p in ours)
    kinds = {"KEYWORD_ONLY": "POSITIONAL_OR_KEYWORD"}
    theirs = [(p.name, kinds.get(p.kind.name, p.kind.name), p.default) for p in found if p not in ours]
    assert theirs == arguments


def test_every_documented_name_has_a_row():
    names = {described(text)[0] for text, _, _ in ROWS}
    wanted = {f"{owner}.{member}" for owner, members in DOCUMENTED.items() for member in members.split()}
    functions_and_classes = {name.partition(".")[0] for name in names}
    assert not wanted - names
    assert not set(DOCUMENTED) - functions_and_classes
