"""VisA: one folder per object, and one table that splits them all."""

from __future__ import annotations

import os
from pathlib import Path

from patchcore.data.layouts import About, Layout, table
from patchcore.data.layouts.tree import counts, require
from patchcore.data.sample import GOOD, Dataset, Sample
from patchcore.errors import DataError, nearest_name

_SPLIT = "split_csv/1cls.csv"
_COLUMNS = ("object", "split", "label", "image", "mask")

ABOUT = About(
    name="visa",
    title="VisA (Visual Anomaly)",
    source="https://github.com/amazon-science/spot-diff",
    licence="CC BY 4.0",
    get="Download VisA.tar by the link on its page, unpack it. 12 objects.",
    tree="OBJECT/Data/Images/{Normal,Anomaly}/*.JPG, OBJECT/Data/Masks/Anomaly/*.png, split_csv/1cls.csv",
    reading="The one-class split of split_csv/1cls.csv, which is beside the objects and also in the page's repository. "
    "Its masks number kinds of defect from 1: every value other than 0 is defective. The output of its "
    "prepare_data.py is in the MVTec AD layout, and is read as such.",
    cite="Zou et al., ECCV 2022",
)


def holds(path: Path) -> bool:
    return (path / "Data" / "Images").is_dir()


def read(path: Path) -> Dataset:
    path = Path(os.path.abspath(path))  # `.` has a name, and the table lies above it
    require(path.parent, f"{ABOUT.title}: its split", _SPLIT)
    split = path.parent / _SPLIT
    columns, lines = table.rows(split, _COLUMNS)
    if missing := [name for name in _COLUMNS if name not in columns]:
        raise DataError(
            f"{split}: there is no column {', '.join(missing)}; expected {', '.join(_COLUMNS)}, "
            f"found {', '.join(columns) or 'none'}."
        )
    mine = [(number, row) for number, row in lines if row["object"] == path.name]
    if not mine:
        known = sorted({row["object"] for _, row in lines})
        raise DataError(
            f"{split} has no object {path.name!r}.{nearest_name(path.name, known)} It has {', '.join(known)}; the "
            "folder of an object must have its name."
        )
    train, test = [], []
    for number, row in mine:
        if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly"):
            raise DataError(
                f"{split}, line {number}: split {row['split']!r} and label {row['label']!r}; expected train or test, "
                "and normal or anomaly."
            )
        good = row["label"] == "normal"
        mask = None if good or not row["mask"] else path.parent / row["mask"]
        for file in (path.parent / row["image"], mask):
            if file is not None and not file.is_file():
                raise DataError(f"{split}, line {number}: half a dataset ({ABOUT.title}). There is no {file}.")
        sample = Sample(row["image"], path.parent / row["image"], GOOD if good else "anomaly", mask)
        if row["split"] == "test":
            test.append(sample)
        elif good:
            train.append(sample)
    return Dataset(f"{ABOUT.title}, {counts(train, test)}", train, test)


LAYOUT = Layout(4, holds, read, (ABOUT,), ABOUT.name)
