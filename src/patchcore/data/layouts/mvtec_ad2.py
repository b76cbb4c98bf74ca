"""MVTec AD 2: a public test set with labels, two private ones without."""

from __future__ import annotations

from pathlib import Path

from patchcore.data.layouts import About, Layout
from patchcore.data.layouts.tree import counts, labelled, require, training, unused
from patchcore.data.sample import GOOD, Dataset

ABOUT = About(
    name="mvtec_ad2",
    title="MVTec AD 2",
    source="https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
    licence="CC BY-NC-SA 4.0 (non-commercial)",
    get="Download the archive from its page, unpack it. 8 categories.",
    tree="CATEGORY/train/good/*, CATEGORY/validation/good/*, CATEGORY/test_public/{good,bad}/*, "
    "CATEGORY/test_public/ground_truth/bad/STEM_mask.png, CATEGORY/{test_private,test_private_mixed}/*",
    reading="Tested on test_public. The private sets have no labels: `patchcore predict` reads them, and their scores "
    "come from https://benchmark.mvtec.com. validation/good is for `fit --calibration`.",
    cite="Heckler-Kram et al., arXiv 2503.21622 (2025)",
)


def holds(path: Path) -> bool:
    return (path / "test_public").is_dir()


def read(path: Path) -> Dataset:
    public = path / "test_public"
    require(
        path, ABOUT.title, f"train/{GOOD}", f"test_public/{GOOD}", "test_public/bad", "test_public/ground_truth/bad"
    )
    train = training(path, path / "train" / GOOD)
    test = labelled(path, [public / "bad", public / GOOD], public / "ground_truth")
    rest = unused(path, f"validation/{GOOD}", "test_private", "test_private_mixed")
    return Dataset(f"{ABOUT.title}, {counts(train, test)}{rest}", train, test)


LAYOUT = Layout(6, holds, read, (ABOUT,), ABOUT.name)
