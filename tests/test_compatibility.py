"""The tables of docs/compatibility.md against the code."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "compatibility.md").read_text("utf-8")
# Every name of the documents that the sections stand for.
DOCUMENTED = {
    "anomalib v1": {
        "Patchcore": "configure_optimizers configure_transforms fit learning_type trainer_arguments training_step "
        "validation_step to_onnx to_openvino to_torch",
        "PatchcoreModel": "compute_anomaly_score euclidean_dist forward generate_embedding nearest_neighbors "
        "reshape_embedding subsample_embedding memory_bank",
        "MemoryBankMixin": "",
        "DynamicBufferMixin": "",
        "AnomalyModule": "forward from_config",
        "AnomalyMapGenerator": "compute_anomaly_map forward",
        "KCenterGreedy": "select_coreset_idxs sample_coreset",
        "LearningType": "",
        "Engine": "from_config fit validate test train predict export trainer model best_model_path",
        "Folder": "",
        "MVTecAD": "",
        "AnomalibDataModule": "from_config",
        "PredictDataset": "",
        "TorchInferencer": "predict",
        "OpenVINOInferencer": "predict",
        "PreProcessor": "",
        "ExportType": "",
        "TaskType": "",
        "get_model": "",
    },
    "anomalib v0": {
        "AnomalyMapGenerator": "compute_anomaly_map compute_anomaly_score __call__",
        "PatchcoreModel": "forward generate_embedding reshape_embedding subsample_embedding nearest_neighbors",
        "PatchcoreLightning": "configure_optimizers training_step on_validation_start validation_step",
        "DynamicBufferModule": "",
    },
    "anomalib v0 tools and inferencers": {
        "Inferencer": "predict load_model _load_meta_data pre_process forward post_process _normalize",
        "TorchInferencer": "load_model pre_process forward post_process",
        "PreProcessor": "",
        "get_model": "",
        "get_model_metadata": "",
        "superimpose_anomaly_map": "",
        "anomaly_map_to_color_map": "",
        "add_label": "",
    },
    "patchcore-inspection": {
        "PatchCore": "load fit predict embed save_to_path load_from_path",
        "PatchMaker": "patchify unpatch_scores score",
        "NetworkFeatureAggregator": "forward feature_dimensions",
        "Preprocessing": "",
        "Aggregator": "",
        "NearestNeighbourScorer": "fit predict save load",
        "FaissNN": "fit run save load reset_index",
        "ApproximateFaissNN": "",
        "RescaleSegmentor": "convert_to_segmentation",
        "IdentitySampler": "run",
        "GreedyCoresetSampler": "",
        "ApproximateGreedyCoresetSampler": "",
        "RandomSampler": "",
    },
}


def rows(section: str) -> list[tuple[str, str, str]]:
    """What, in which module, and how it differs."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(.+?)` \| `([\w.]+)` \| (.+) \|$", text, re.MULTILINE)


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


@pytest.mark.parametrize(
    ("text", "module", "difference"),
    [row for section in DOCUMENTED for row in rows(section)],
    ids=[f"{row[1]}:{row[0].partition('(')[0]}" for section in DOCUMENTED for row in rows(section)],
)
def test_a_row_says_what_the_code_has(text, module, difference):
    name, arguments = described(text)
    owner, _, member = name.partition(".")
    there = getattr(import_module(f"patchcore.{module}"), owner)
    assert difference.strip()
    if member == "memory_bank":
        assert any("memory_bank" in inspect.get_annotations(kind) for kind in there.__mro__)
        return
    there = inspect.getattr_static(there, member) if member else there
    if arguments is None:
        assert inspect.isclass(there) or isinstance(there, property)
        return
    signature = inspect.signature(there.__func__ if isinstance(there, staticmethod | classmethod) else there)
    found = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    # What is ours alone is given by keyword, and may be left out.
    ours = [p for p in found if p.kind is p.KEYWORD_ONLY and p.name not in [a[0] for a in arguments]]
    assert all(p.default is not p.empty for p in ours)
    kinds = {"KEYWORD_ONLY": "POSITIONAL_OR_KEYWORD"}
    theirs = [(p.name, kinds.get(p.kind.name, p.kind.name), p.default) for p in found if p not in ours]
    assert theirs == arguments


@pytest.mark.parametrize("section", DOCUMENTED)
def test_every_documented_name_has_a_row(section):
    names = {described(text)[0] for text, _, _ in rows(section)}
    owners = {name.partition(".")[0] for name in names}
    wanted = {f"{owner}.{member}" for owner, members in DOCUMENTED[section].items() for member in members.split()}
    assert not wanted - names
    assert not set(DOCUMENTED[section]) - owners
