"""Magnetic tiles: five kinds of defect, and tiles photographed under about six exposures each."""

from __future__ import annotations

from pathlib import Path

from patchcore.data.layouts import About, Layout
from patchcore.data.layouts.tree import counts, listed, require
from patchcore.data.sample import GOOD, Dataset, Sample
from patchcore.errors import DataError, counted

_KINDS = ("Blowhole", "Break", "Crack", "Fray", "Uneven")
_EMPTY = {"exp3_num_45042", "exp4_num_124690", "exp4_num_352527", "exp4_num_45057"}  # of MT_Uneven: nothing is marked

ABOUT = About(
    name="magnetic_tile",
    title="Magnetic tile surface defects",
    source="https://github.com/abin24/Magnetic-tile-defect-datasets.",
    licence="none stated; its page: welcome to use, and asked to cite",
    get="Clone the repository or download it as an archive (its name ends with a dot). 1 category.",
    tree="MT_{Blowhole,Break,Crack,Fray,Free,Uneven}/Imgs/STEM.{jpg,png}",
    reading="The PNG is the mask. MT_Free is good. There is no official split: 238 of its 952 images, listed in "
    "magnetic_tile_test.txt of this package, are for testing. All images of one tile (found by correlating their fine "
    "detail) are on the same side. Four images of MT_Uneven with empty masks are left out.",
    cite="Huang et al., The Visual Computer 36 (2020)",
)


def holds(path: Path) -> bool:
    return any((path / f"MT_{kind}").is_dir() for kind in ("Free", *_KINDS))


def read(path: Path) -> Dataset:
    require(path, ABOUT.title, "MT_Free/Imgs", *(f"MT_{kind}/Imgs" for kind in _KINDS))
    kept = set(Path(__file__).with_name("magnetic_tile_test.txt").read_text("utf-8").split())
    train: list[Sample] = []
    test: list[Sample] = []
    for sample in _images(path, "Free"):
        (test if Path(sample.name).name in kept else train).append(sample)
    if not test or not train:
        raise DataError(
            f"{path}: half a dataset ({ABOUT.title}). Of {counted(len(train) + len(test), 'image')} in MT_Free/Imgs "
            f"{len(train)} are for training and {len(test)} for testing; expected 714 and 238, under their original "
            "names, such as exp1_num_10334.jpg."
        )
    for kind in _KINDS:
        test += _images(path, kind)
    return Dataset(f"{ABOUT.title}, split by tile, {counts(train, test)}", train, test)


def _images(root: Path, kind: str) -> list[Sample]:
    folder = root / f"MT_{kind}" / "Imgs"
    found = []
    for image in listed(folder, ".jpg"):  # the masks beside them are PNG
        if kind == "Free":
            found.append(Sample(image.relative_to(root).as_posix(), image, GOOD))
        elif image.stem not in _EMPTY:
            mask = image.with_suffix(".png")
            if not mask.is_file():
                raise DataError(
                    f"{folder}: half a dataset ({ABOUT.title}). Found {image.name}; expected its mask {mask.name} "
                    "beside it."
                )
            found.append(Sample(image.relative_to(root).as_posix(), image, kind.lower(), mask))
    if not found:
        raise DataError(f"{folder}: half a dataset ({ABOUT.title}). Expected images, *.jpg; found none.")
    return found


LAYOUT = Layout(3, holds, read, (ABOUT,), ABOUT.name, single=True)
