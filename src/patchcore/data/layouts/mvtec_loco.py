"""MVTec LOCO AD: logical and structural anomalies, at image level."""

from __future__ import annotations

from pathlib import Path

from patchcore.data.layouts import About, Layout
from patchcore.data.layouts.tree import counts, labelled, require, training, unused
from patchcore.data.sample import GOOD, Dataset

_KINDS = ("logical_anomalies", "structural_anomalies")

ABOUT = About(
    name="mvtec_loco",
    title="MVTec LOCO AD",
    source="https://www.mvtec.com/company/research/datasets/mvtec-loco",
    licence="CC BY-NC-SA 4.0 (non-commercial)",
    get="Download the archive from its page, unpack it. 5 categories.",
    tree="CATEGORY/train/good/*, CATEGORY/validation/good/*, CATEGORY/test/{good,logical_anomalies,"
    "structural_anomalies}/*, CATEGORY/ground_truth/KIND/STEM/*.png, CATEGORY/defects_config.json",
    reading="Image level only. Its masks, several per image, mark all places where something may be missing. They are "
    "meant for the saturated metric of its paper (sPRO), not for pixel AUROC or AUPRO, and are left out. "
    "validation/good is for `fit --calibration`.",
    cite="Bergmann et al., IJCV 130 (2022)",
)


def holds(path: Path) -> bool:
    return any((path / "test" / kind).is_dir() for kind in _KINDS)


def read(path: Path) -> Dataset:
    names = (GOOD, *_KINDS)
    require(path, ABOUT.title, f"train/{GOOD}", *(f"test/{name}" for name in names))
    train = training(path, path / "train" / GOOD)
    test = labelled(path, [path / "test" / name for name in names], None)
    rest = unused(path, f"validation/{GOOD}")
    return Dataset(f"{ABOUT.title}, {counts(train, test)}, at image level{rest}", train, test)


LAYOUT = Layout(7, holds, read, (ABOUT,), ABOUT.name)
