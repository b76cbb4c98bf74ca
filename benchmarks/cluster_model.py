"""A model of what `cluster.fit` costs, for more workers and patches than can be measured here; draws docs/images/scale.svg.

    python benchmarks/cluster_model.py [-o docs/images/scale.svg]

What is measured is named so; the rest is assumed, and stated in docs/scale.md. Times in seconds, sizes in bytes.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

IMAGE = 0.10  # processor seconds of embedding and calibrating an image, measured at 128 pixels
PATCHES = 784  # of an image
WIDTH = 152  # values of a patch
START = 6.0  # processor seconds that a worker takes to begin, measured
PICKS_A_ROUND = 10.0  # measured: 7 to 29 for 1 to 64 shards
SCAN = 5e-9  # seconds for a row and a pick, of bringing bounds up to date: measured
ROUND = 1.5e-3  # seconds that a shard takes for a round at least: measured
CALLS = 3000.0  # that a driver makes in a second: assumed
NETWORK = 1e9  # bytes in a second to and from the driver: assumed
DRIVER = 35  # bytes that the driver keeps of a patch: origin, fold, number, and masks of ten folds


@dataclass
class Cost:
    embed: float
    select: float
    messages: float
    moved: float
    memory: float

    @property
    def total(self) -> float:
        return START + self.embed + self.select + self.messages

    @property
    def first(self) -> str:
        """What takes longest, or does not fit."""
        if self.memory > 64e9:
            return "memory of the driver"
        parts = {"embedding": self.embed, "selection": self.select, "messages": self.messages}
        return max(parts, key=parts.__getitem__)


def cost(workers: int, patches: float, way: str = "exact", ratio: float = 0.02, most: int = 50_000) -> Cost:
    picks, images = min(most, ratio * patches), patches / PATCHES
    embed = images * IMAGE / workers
    rows = patches / workers
    if way == "merge":
        levels = math.ceil(math.log2(max(workers, 1))) if workers > 1 else 0
        select = rows * picks * SCAN + levels * 2 * picks * picks * SCAN
        moved = workers * picks * WIDTH * 4.0
        return Cost(embed, select, moved / NETWORK, moved, DRIVER * patches)
    rounds = picks / PICKS_A_ROUND
    offered = picks * max(1.0, workers**0.5)  # measured: 1.04, 1.24, 1.6, 3.6 and 7.7 for 1, 2, 4, 16 and 64 shards
    moved = (offered + picks * workers) * WIDTH * 8.0
    select = rows * picks * SCAN + rounds * ROUND
    return Cost(embed, select, rounds * workers / CALLS + moved / NETWORK, moved, DRIVER * patches)


# Measured on an AMD EPYC with AVX2: rows, picks, shards, and processor seconds of the slowest shard.
SELECTED = (
    (20_000, 2000, 2, 0.18), (20_000, 2000, 4, 0.15), (20_000, 2000, 16, 0.24), (60_000, 6000, 1, 1.76),
    (60_000, 6000, 2, 1.16), (60_000, 6000, 4, 0.91), (60_000, 6000, 16, 0.78), (60_000, 6000, 64, 0.43),
    (60_000, 600, 1, 0.23), (60_000, 600, 4, 0.12), (60_000, 600, 16, 0.10), (180_000, 3600, 1, 3.12),
    (180_000, 3600, 2, 1.61), (180_000, 3600, 4, 1.11),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    print("| rows | picks | shards | slowest shard, measured, s | by the model, s |\n| --- | --- | --- | --- | --- |")
    for rows, picks, shards, seconds in SELECTED:
        model = cost(shards, rows, ratio=picks / rows).select
        print(f"| {rows:,} | {picks:,} | {shards} | {seconds:.2f} | {model:.2f} |")
    print()
    sizes = (1e6, 1e7, 1e8, 1e9)
    print("| patches | images | workers | exact, minutes | what is first | merged, minutes | what is first |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for patches in sizes:
        for workers in (1, 10, 100, 1000):
            exact, merge = cost(workers, patches), cost(workers, patches, "merge")
            told = [f"{one.total / 60:,.1f} | {one.first}" for one in (exact, merge)]
            print(f"| {patches:.0e} | {patches / PATCHES:,.0f} | {workers} | {' | '.join(told)} |")
    if asked.output:
        import matplotlib

        matplotlib.use("svg")
        matplotlib.rcParams["svg.hashsalt"] = "scale"
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(7, 4.2))
        workers = [round(10 ** (n / 8)) for n in range(25)]
        for colour, patches in zip(("tab:blue", "tab:green", "tab:orange", "tab:red"), sizes, strict=True):
            for way, line in (("exact", "-"), ("merge", ":")):
                values = [cost(w, patches, way).total / 60 for w in workers]
                label = f"10^{round(math.log10(patches))} patches" if way == "exact" else None
                axes.plot(workers, values, line, color=colour, label=label)
        axes.set(xscale="log", yscale="log", xlabel="workers of one core", ylabel="minutes")
        axes.set_title("A fit by the model: exact (solid), merged (dotted)", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(asked.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
