"""patchcore against anomalib 2.7.0: the same weights, images and bank, both sides in turn.

    python benchmarks/against_anomalib.py [--peer PYTHON] [--backbones a,b] [--parts a,b] [--rounds 3] [--json FILE]

`--peer` is the interpreter of a separate environment (without it, only our side runs):
    python -m venv peer && peer/bin/pip install torch==2.14.1 torchvision==0.29.1 && peer/bin/pip install anomalib==2.7.0

Data: real solar cells (PyPI package elpv-dataset) at 224 px, 784 patches per image. EfficientNet-Lite0, 1 and 2
have their ImageNet weights. WideResNet50-2's are not available offline, so its weights are random, with the batch
statistics of 32 of the images. That fixes the cost of all dense work. `gaussian` is the worst case: isotropic noise of the
same size as the WideResNet50-2 data, where the bounds rule nothing out.

The peer's coreset is timed on 500 picks and extrapolated, because each pick costs the same. Its fit is the measured
embedding of all images plus that. Our fit is a whole process: `patchcore fit`, from files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import as_seen, calibrated_weights, embeddings, machine, mono_cells, seconds, summary, write_json
from torch import Tensor

from patchcore import Detector, Recipe
from patchcore.backbones import build
from patchcore.data.images import read
from patchcore.maths.coreset import k_center_greedy, select
from patchcore.maths.neighbours import Points, nearest
from patchcore.memory.bank import Bank
from patchcore.model.fitted import Fitted, Member
from patchcore.pipeline.embed import Embedder
from patchcore.verdict.calibration import Calibration

SIDE, SHARE, NEW = 224, 0.1, 8  # pixels; share of the patches in the bank; images that the bank has not seen
AS_DEFAULT = {name: getattr(Recipe(), name) for name in ("projection", "projection_dims", "projection_from", "start")}
PARTS = ("search", "image", "coreset", "fit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="interpreter of an environment that has anomalib")
    parser.add_argument("--backbones", default="efficientnet_lite0,wide_resnet50_2,gaussian")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--picks", type=int, default=500, help="number of picks for timing the peer's coreset")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(json.dumps(machine()))
    print(
        f"{'data':20} {'work':26} {'ours':>9} {'(min-max)':>17} {'peer':>9} {'(min-max)':>17} {'ratio':>7}  left, agreement"
    )
    rows: list[dict[str, Any]] = []
    for name in options.backbones.split(","):
        with tempfile.TemporaryDirectory(prefix="patchcore-bench-") as folder:
            side = Gaussian(options) if name == "gaussian" else Cells(name, Path(folder), options)
            for part in options.parts.split(","):
                for row in getattr(side, part)():
                    rows.append({"data": name, **row})
                    print(line(rows[-1]), flush=True)
    write_json(options.json, {"machine": machine(), "rows": rows})


def line(row: dict[str, Any]) -> str:
    def figures(side: str) -> str:
        s = row.get(side)
        return f"{s['median']:9.3f} {s['min']:8.3f}-{s['max']:<8.3f}" if s else f"{'-':>9} {'':17}"

    ratio = f"{row['peer']['median'] / row['ours']['median']:7.1f}" if row.get("peer") else f"{'':7}"
    return f"{row['data']:20} {row['work']:26} {figures('ours')} {figures('peer')} {ratio}  {row.get('note', '')}"


def in_turn(rounds: int, ours: Callable[[], float], peer: Callable[[], float] | None) -> dict[str, Any]:
    """Run both sides once per round, so that a busy machine slows both."""
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        times["ours"].append(ours())
        if peer is not None:
            times["peer"].append(peer())
    return {side: summary(values) for side, values in times.items() if values}


def timed(function: Callable[[], object], runs: int = 7) -> float:
    """Seconds: the median of some runs, after a warm-up run."""
    function()
    return summary([seconds(function) for _ in range(runs)])["median"]


def sizes(queries: Tensor, bank: Bank) -> str:
    return f"{len(queries)} patches, {len(bank.rows)} rows of {bank.rows.shape[1]} values"


class Cells:
    """One backbone on real images."""

    def __init__(self, name: str, work: Path, options: Any) -> None:
        self.name, self.work, self.options = name, work, options
        self.images = mono_cells()[: options.images + NEW]
        weights = str(calibrated_weights(name, SIDE, work)) if name == "wide_resnet50_2" else "pretrained"
        self.recipe = Recipe.named("lightning").replace(
            size=SIDE, resize="stretch", crop=None, backbone=name, weights=weights, ratio=SHARE, **AS_DEFAULT
        )
        backbone = build(name, weights, self.recipe.taps, (SIDE, SIDE))
        embedder = Embedder(self.recipe, backbone, torch.device("cpu"))
        every = embeddings(embedder, self.images)
        self.patches, self.queries = every[: -NEW * 784], every[-784:].float()
        rows = self.patches[k_center_greedy(self.patches, int(SHARE * len(self.patches)))].float()
        origins = torch.zeros(len(rows), 3, dtype=torch.int32)
        self.bank = Bank(rows, origins, torch.ones(rows.shape[1]))
        member = Member(self.recipe, backbone, self.bank)
        self.fitted = Fitted(self.recipe, (member,), Calibration.fit([1.0], [1.0], 0.05))
        if options.peer:
            torch.save(backbone.extractor.model.state_dict(), work / "weights.pt")
            for file, tensor in (
                ("images", as_seen(embedder, self.images)),
                ("embeddings", self.patches),
                ("queries", self.queries),
                ("bank", rows),
            ):
                np.save(work / f"{file}.npy", tensor.numpy())

    def of_peer(self, part: str) -> Any:
        wide = self.name == "wide_resnet50_2"
        backbone = [self.name, "layer2,layer3"] if wide else [f"tf_{self.name}", "blocks.2,blocks.4"]
        script = str(Path(__file__).with_name("peer_anomalib.py"))
        command = [self.options.peer, "-W", "ignore", script, str(self.work), *backbone, part]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])

    def search(self) -> list[dict[str, Any]]:
        """Time the nearest rows of one image's patches; also with FAISS's flat index, if installed."""

        grouped, plain = Points(self.bank.rows, few=0), Points(self.bank.rows, few=2**62)

        def ours() -> float:
            return timed(lambda: nearest(self.queries, grouped))

        peer = (lambda: self.of_peer("search")["seconds"]) if self.options.peer else None
        row = {
            "work": f"search {len(self.queries)} in {len(self.bank.rows)}",
            **in_turn(self.options.rounds, ours, peer),
        }
        row["note"] = sizes(self.queries, self.bank)
        if peer:
            mine, theirs = (
                nearest(self.queries, grouped)[0][:, 0],
                torch.tensor(self.of_peer("search")["distances"]),
            )
            exact = torch.cdist(self.queries.double(), self.bank.rows.double()).amin(1)
            row["note"] += f"; off by {worst(mine, exact):.0e} (peer {worst(theirs, exact):.0e}) from float64"
        rows = [
            row,
            {
                "work": "search, plain",
                **in_turn(self.options.rounds, lambda: timed(lambda: nearest(self.queries, plain)), None),
            },
        ]
        try:
            import faiss
        except ImportError:
            return rows
        index = faiss.IndexFlatL2(self.bank.rows.shape[1])
        index.add(self.bank.rows.numpy())
        flat = in_turn(self.options.rounds, ours, lambda: timed(lambda: index.search(self.queries.numpy(), 1)))
        return [*rows, {"work": "search, peer FAISS flat", **flat}]

    def image(self) -> list[dict[str, Any]]:
        """Time one decoded image to its score and map, with each installed engine."""
        images = [read(path, path.name, 10**8) for path in self.images[-NEW:]]

        theirs, rows = self.of_peer("image") if self.options.peer else None, []
        for name, precision in (("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16")):
            if name == "openvino" and find_spec("openvino") is None:
                continue
            detector = Detector.of(self.fitted, device="cpu", engine=name, precision=precision)

            def look(image: Any, detector: Detector = detector) -> float:
                result = detector.predict(image)
                _ = result.map
                return result.score

            peer = (lambda: self.of_peer("image")["seconds"]) if theirs else None
            times = in_turn(self.options.rounds, lambda: timed(lambda: look(images[-1])), peer)
            rows.append({"work": f"one image, {name} {precision}", **times})
            if theirs:
                scores = torch.tensor([look(image) for image in images])
                rows[-1]["note"] = f"scores differ by {worst(scores, torch.tensor(theirs['scores'])):.0e}"
        return rows

    def coreset(self) -> list[dict[str, Any]]:
        """Time the exact selection, and the default recipe's."""
        picks, size = len(self.bank.rows), tuple(self.patches.shape)
        peer = (lambda: self.of_peer(f"coreset:{self.options.picks}")["seconds"] * picks) if self.options.peer else None

        def exact() -> float:
            return seconds(lambda: k_center_greedy(self.patches, picks))

        rows = [{"work": f"coreset {size}", **in_turn(self.options.rounds, exact, peer)}]
        rows[0]["note"] = f"{picks} picks, exact, no projection"
        if size[1] >= self.recipe.projection_from:

            def default() -> float:
                return seconds(lambda: select(self.patches, picks, method="k_center", seed=0, **AS_DEFAULT))

            rows.append({"work": "coreset, default recipe", **in_turn(self.options.rounds, default, None)})
            if peer:
                rows[1]["peer"] = rows[0]["peer"]
            rows[1]["note"] = f"{picks} picks among random projections to {self.recipe.projection_dims} values"
        return rows

    def fit(self) -> list[dict[str, Any]]:
        """Time a whole process that fits on all images."""
        folder = self.work / "good"
        folder.mkdir()
        for path in self.images[:-NEW]:
            shutil.copy(path, folder)
        (self.work / "recipe.json").write_text(
            json.dumps({**self.recipe.model_dump(mode="json"), "calibration_share": 0})
        )
        command = [
            sys.executable,
            "-m",
            "patchcore",
            "fit",
            str(folder),
            "--recipe",
            str(self.work / "recipe.json"),
            "-o",
            str(self.work / "a.patchcore"),
        ]

        def ours() -> float:
            return seconds(lambda: subprocess.run(command, check=True, capture_output=True))

        def peer() -> float:
            return self.of_peer("embed")["seconds"] + self.of_peer(f"coreset:{self.options.picks}")["seconds"] * len(
                self.bank.rows
            )

        row = {
            "work": f"fit {self.options.images} images",
            **in_turn(self.options.rounds, ours, peer if self.options.peer else None),
        }
        return [{**row, "note": "peer: embedding measured, coreset extrapolated"}]


class Gaussian:
    """Isotropic noise: bounds rule nothing out, and must not slow the search down."""

    def __init__(self, options: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        self.options = options
        self.rows = torch.randn(18816, 1536, generator=generator)
        self.queries = torch.randn(784, 1536, generator=generator)

    def search(self) -> list[dict[str, Any]]:
        """Time the search against a plain one: a product of all coordinates, and its smallest value."""
        bank = Bank(self.rows, torch.zeros(len(self.rows), 3, dtype=torch.int32), torch.ones(1536))
        centred, half = self.rows, self.rows.square().sum(1) / 2

        def plain() -> None:
            for block in self.queries.split(112):
                torch.addmm(half, block, centred.T, alpha=-1).argmin(1)

        times = in_turn(
            self.options.rounds, lambda: timed(lambda: nearest(self.queries, bank.points)), lambda: timed(plain)
        )
        return [{"work": "search, peer one product", **times, "note": sizes(self.queries, bank)}]

    def image(self) -> list[dict[str, Any]]:
        return []

    coreset = fit = image


def worst(a: Tensor, b: Tensor) -> float:
    """The largest relative difference."""
    return float(((a - b).abs() / b.abs().clamp(min=1e-6)).max())


if __name__ == "__main__":
    main()
