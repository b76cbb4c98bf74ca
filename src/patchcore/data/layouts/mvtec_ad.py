"""The MVTec AD layout: that of MVTec AD and MPDD, and the usual one for data of one's own."""

from __future__ import annotations

from pathlib import Path

from patchcore.data.layouts import About, Layout
from patchcore.data.layouts.tree import counts, labelled, require, say_unused, training
from patchcore.data.sample import GOOD, Dataset, folders_in

_TREE = "CATEGORY/train/good/*, CATEGORY/test/KIND/*, CATEGORY/ground_truth/KIND/STEM_mask.png"
_READING = "The split is the dataset's own; test/good is good, every other folder in test a kind of defect."

ABOUT = About(
    name="mvtec_ad",
    title="MVTec AD",
    source="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    licence="CC BY-NC-SA 4.0 (non-commercial)",
    get="Download the archive from its page, unpack it. 15 categories.",
    tree=_TREE,
    reading=_READING,
    cite="Bergmann et al., IJCV 129 (2021); Bergmann et al., CVPR 2019",
)

MPDD = About(
    name="mpdd",
    title="MPDD (Metal Parts Defect Detection)",
    source="https://github.com/stepanje/MPDD",
    licence="none stated on its page; anomalib's documentation says CC BY-NC-SA 4.0. Ask its authors",
    get="Follow the download link on its page, unpack it. 6 categories.",
    tree=_TREE,
    reading=_READING,
    cite="Jezek et al., ICUMT 2021",
)


def holds(path: Path) -> bool:
    """Also a half tree: images to test on must not be taken for good ones."""
    if (path / "train" / GOOD).is_dir():
        return True
    return (path / "test").is_dir() and ((path / "train").is_dir() or (path / "ground_truth").is_dir())


def read(path: Path) -> Dataset:
    """Masks may be missing, and so may `test`: it is the layout of people's own data, too."""
    require(path, "MVTec AD layout", f"train/{GOOD}")
    train = training(path, path / "train" / GOOD)
    test = labelled(path, folders_in(path / "test"), path / "ground_truth")
    say_unused(path, [*train, *test])
    return Dataset(f"MVTec AD layout, {counts(train, test)}", train, test)


LAYOUT = Layout(8, holds, read, (ABOUT, MPDD))
