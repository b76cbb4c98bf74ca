"""anomalib's own tests on patchcore.lightning.

    python benchmarks/against_anomalib_tests.py CHECKOUT...

Each CHECKOUT is a folder of anomalib, of version 1, 2 or 0.2. Its tests of components, of models by name, of data, of
the Engine and of inferencers run in a copy, with our classes under its names; nothing of anomalib itself is imported.
Where a test takes another model, only the case of Patchcore is run; the inferencers' tests have Padim alone, for which
Patchcore stands. Patchcore has the installed EfficientNet-Lite0 by default, since weights cannot be downloaded. Prints
for each file how many tests pass, and the first line of what the others say.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

COPIED = ("tests", "configs", "examples", "tools", "anomalib/models/patchcore", "src/anomalib/models/patchcore")
FILES = (
    "unit/models/**/test_dynamic_buffer*.py",
    "unit/models/**/test_k_center*.py",
    "unit/models/**/*patchcore*/test_*.py",
    "unit/models/**/test_anomaly*_module.py",
    "unit/models/test_model_utils.py",
    "unit/data/**/test_inference.py",
    "unit/data/**/test_predict*.py",
    "unit/data/**/test_folder.py",
    "unit/data/**/test_mvtec.py",
    "unit/data/**/test_mvtec_ad.py",
    "unit/engine/test_*.py",
    "unit/deploy/test_inferencer.py",
    "integration/model/test_models.py",
    "pre_merge/models/test_model_premerge.py",
    "nightly/deploy/test_inferencer.py",
)
STANDS_FOR = ("padim",)
LITE = {"backbone": "efficientnet_lite0", "layers": ["blocks.2", "blocks.4"]}


class Label(int, Enum):
    NORMAL = 0
    ABNORMAL = 1


class Noise:
    """Makes a square of noise, in the way that their generator of datasets calls it."""

    def generate_perturbation(self, height: int, width: int, **_: Any) -> tuple[np.ndarray, np.ndarray]:
        noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        mask = np.zeros((height, width, 1), np.float32)
        mask[height // 4 : height // 2, width // 4 : width // 2] = 1
        return noise, mask


def module(name: str, *sources: ModuleType, **names: Any) -> ModuleType:
    """A module of theirs: the names of ours, and what their tests need besides."""
    made = ModuleType(name)
    made.__path__ = []  # type: ignore[attr-defined]
    for source in sources:
        made.__dict__.update({key: getattr(source, key) for key in dir(source) if not key.startswith("_")})
    made.__dict__.update(names)
    sys.modules[name] = made
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, made)
    return made


def of_version_1(mvtec: str) -> None:
    import patchcore.lightning as ours
    from patchcore.lightning import configuration, data, deploy, engine, lightning_model, models
    from patchcore.lightning.data import utils
    from patchcore.lightning.hyperparameters import plain

    class Patchcore(ours.Patchcore):
        def __init__(
            self,
            backbone: str = LITE["backbone"],
            layers: Any = LITE["layers"],
            pre_trained: bool | str = True,
            coreset_sampling_ratio: float = 0.1,
            num_neighbors: int = 9,
        ) -> None:
            if backbone != LITE["backbone"]:
                backbone, layers = LITE["backbone"], LITE["layers"]
            super().__init__(backbone, layers, pre_trained, coreset_sampling_ratio, num_neighbors)

    models.Patchcore = lightning_model.Patchcore = Patchcore  # type: ignore[misc]

    def get_model(model: Any, **init_args: Any) -> Any:
        known = {"class_path": model} if isinstance(model, str) else plain(model)
        if isinstance(known, dict) and str(known.get("class_path")).rpartition(".")[2].lower() in STANDS_FOR:
            known["class_path"] = "Patchcore"
            (known.get("init_args") or {}).pop("n_features", None)  # of Padim alone
        return models.get_model(known, **init_args)

    kind_of = configuration.kind_of

    def kind(base: type, name: str, section: str = "model") -> Any:
        stands = name.rpartition(".")[2].lower() in STANDS_FOR
        return (lambda **given: Patchcore()) if stands else kind_of(base, name, section)

    configuration.kind_of = kind  # type: ignore[assignment]
    formats = Enum("ImageDataFormat", {"MVTEC": mvtec})  # type: ignore[misc]
    others = Enum("VideoDataFormat", {})  # type: ignore[misc]
    module("anomalib", TaskType=ours.TaskType, LearningType=ours.LearningType)
    module("anomalib.data", data, ImageDataFormat=formats, DataFormat=formats, VideoDataFormat=others)
    module("anomalib.data.utils", utils, Augmenter=Noise, LabelName=Label)
    module("anomalib.deploy", deploy)
    module("anomalib.engine", engine)
    module("anomalib.models", models, Padim=Patchcore, EfficientAd=type("EfficientAd", (), {}), get_model=get_model)
    for name, path in models._PATHS.items():
        sys.modules[f"anomalib.models.{name}"] = path
    module("jsonargparse", Namespace=argparse.Namespace)


def bottle(root: Path) -> None:
    """The category that their configurations name: here a data module looks for its files at once."""
    for part, count in {
        "train/good": 4,
        "test/good": 2,
        "test/broken_large": 2,
        "ground_truth/broken_large": 2,
    }.items():
        (root / part).mkdir(parents=True)
        for i in range(count):
            name = f"{i:03}_mask.png" if part.startswith("ground") else f"{i:03}.png"
            Image.fromarray(np.full((32, 32), 40 * i, np.uint8)).save(root / part / name)


def of_version_0(folder: Path) -> None:
    import lightning.pytorch as pl
    from lightning.pytorch import callbacks
    from omegaconf import OmegaConf

    from patchcore import inferencers
    from patchcore.lightning import ImageDataModule, v0

    class Load(callbacks.Callback):
        """Loads the weights that a configuration names before a test, as their callbacks do."""

        def __init__(self, config: Any) -> None:
            self.path = Path(config.project.path) / str(config.model.get("weight_file", ""))

        def on_test_start(self, trainer: Any, pl_module: Any) -> None:
            if self.path.is_file():
                pl_module.load_state_dict(torch.load(self.path, weights_only=True)["state_dict"])

    def parameters(model_name: str) -> Any:
        (path,) = folder.rglob("patchcore/config.yaml")
        config = OmegaConf.load(path)
        side = config.dataset.image_size
        config.dataset.image_size = [side, side] if isinstance(side, int) else side
        config.model.update(LITE)
        return config

    def data(config: Any) -> Any:
        root = Path(config.dataset.path) / config.dataset.category
        return ImageDataModule(root, num_workers=0, image_size=tuple(config.dataset.image_size))

    def trainer(callbacks: Any = (), logger: Any = False, **_: Any) -> Any:
        return pl.Trainer(
            accelerator="cpu", max_epochs=1, num_sanity_val_steps=0, callbacks=list(callbacks), logger=logger
        )

    light = module("pytorch_lightning", pl, Trainer=trainer)
    light.callbacks = sys.modules["pytorch_lightning.callbacks"] = callbacks  # type: ignore[attr-defined]
    module("anomalib")
    module("anomalib.config", get_configurable_parameters=parameters, update_nncf_config=lambda config: config)
    module("anomalib.data", get_datamodule=data)
    module("anomalib.deploy", inferencers, OpenVINOInferencer=None, export_convert=None)
    module("anomalib.models", get_model=inferencers.get_model)
    module("anomalib.models.components", v0, AnomalyModule=v0.PatchcoreLightning)
    module("anomalib.utils")
    module(
        "anomalib.utils.callbacks",
        VisualizerCallback=type("Other", (), {}),
        get_callbacks=lambda config: [Load(config)],
    )
    sys.path.insert(0, str(folder))
    from tests.helpers import inference

    # Theirs reads attributes that are no part of the interface.
    inference.get_meta_data = lambda model, input_size: inferencers.get_model_metadata(model)


class Count:
    """What became of the tests of each file."""

    def __init__(self) -> None:
        self.files: dict[str, Counter[str]] = {}
        self.why: list[str] = []

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        kept, left = [], []
        for item in items:
            given = getattr(getattr(item, "callspec", None), "params", {}).get("model_name", "patchcore")
            (kept if given == "patchcore" else left).append(item)
        for item in left:
            self._of(item.nodeid)["other models"] += 1
        items[:] = kept

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._of(report.nodeid)[report.outcome] += 1
            if report.outcome == "failed":
                said = str(getattr(report.longrepr, "reprcrash", None) or report.longrepr).splitlines()[0]
                self.why.append(f"{report.nodeid.partition('::')[2]}: {re.sub(r'^.*?:[0-9]+: ', '', said)[:150]}")

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._of(report.nodeid)["failed"] += 1
            self.why.append(f"{report.nodeid}: {str(report.longrepr).splitlines()[-1][:150]}")

    def _of(self, nodeid: str) -> Counter[str]:
        return self.files.setdefault(nodeid.partition("::")[0], Counter())


def inside(folder: Path, version: str) -> int:
    """Run the tests in a copy."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ.setdefault("ANOMALIB_DATASET_PATH", str(folder))
    major = int(version.split(".")[0])
    if major:
        bottle(folder / "datasets" / ("MVTec" if major == 1 else "MVTecAD") / "bottle")
        of_version_1("mvtec" if major == 1 else "mvtecad")
    else:
        of_version_0(folder)
    files = [str(path) for pattern in FILES for path in sorted((folder / "tests").glob(pattern))]
    counts = Count()
    options = ["-q", "--no-header", "--tb=no", "--no-summary", "-p", "no:cacheprovider", "-W", "ignore"]
    options.append("--continue-on-collection-errors")
    done = pytest.main([*options, "--rootdir", str(folder), *dict.fromkeys(files)], [counts])
    print(f"\nanomalib {version}\n{'file':60} {'passed':>7} {'failed':>7} {'skipped':>8} {'other models':>13}")
    for name, found in counts.files.items():
        row = (found["passed"], found["failed"], found["skipped"], found["other models"])
        print(f"{name:60} {row[0]:7} {row[1]:7} {row[2]:8} {row[3]:13}")
    print(*counts.why, sep="\n")
    return int(done)


def main(checkouts: list[Path]) -> int:
    worst = 0
    for checkout in checkouts:
        (about,) = [
            p for p in (checkout / "src/anomalib/__init__.py", checkout / "anomalib/__init__.py") if p.is_file()
        ]
        version = re.search(r"__version__ = \"(.+?)\"", about.read_text("utf-8"))
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name in COPIED:
                if (checkout / name).is_dir():
                    shutil.copytree(checkout / name, folder / name)
            command = [sys.executable, __file__, "--inside", temporary, version.group(1) if version else "?"]
            worst = max(worst, subprocess.run(command, check=False).returncode)
    return worst


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        sys.exit(inside(Path(sys.argv[2]), sys.argv[3]))
    sys.exit(main([Path(one).resolve() for one in sys.argv[1:]]))
