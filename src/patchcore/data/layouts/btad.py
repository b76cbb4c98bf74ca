"""BTAD: three products, ok and ko."""

from __future__ import annotations

from pathlib import Path

from patchcore.data.layouts import About, Layout
from patchcore.data.layouts.tree import counts, labelled, require, say_unused, training
from patchcore.data.sample import GOOD, Dataset

ABOUT = About(
    name="btad",
    title="BTAD (beanTech Anomaly Detection)",
    source="http://avires.dimi.uniud.it/papers/btad/btad.zip",
    licence="CC BY-SA, by the README in its archive; anomalib's documentation says CC BY-NC-SA 4.0. Ask its authors",
    get="Download the archive, unpack it. 3 categories: 01, 02, 03.",
    tree="CATEGORY/train/ok/*, CATEGORY/test/{ok,ko}/*, CATEGORY/ground_truth/ko/STEM.{png,bmp}",
    reading="The split is the dataset's own: ok is good, ko the one kind of defect.",
    cite="Mishra et al., ISIE 2021",
)


def holds(path: Path) -> bool:
    if (path / "train" / GOOD).is_dir():  # in the MVTec AD layout `ok` is a kind like any other
        return False
    return any((path / name).is_dir() for name in ("train/ok", "test/ok", "test/ko"))


def read(path: Path) -> Dataset:
    require(path, ABOUT.title, "train/ok", "test/ok", "test/ko", "ground_truth/ko")
    train = training(path, path / "train" / "ok")
    test = labelled(path, [path / "test" / "ko", path / "test" / "ok"], path / "ground_truth", good="ok")
    say_unused(path, [*train, *test])
    return Dataset(f"{ABOUT.title}, {counts(train, test)}", train, test)


LAYOUT = Layout(5, holds, read, (ABOUT,), ABOUT.name)
