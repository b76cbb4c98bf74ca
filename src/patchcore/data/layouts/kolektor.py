"""KolektorSDD: commutators, photographed all around."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from patchcore.data.images import read as read_image
from patchcore.data.layouts import About, Layout
from patchcore.data.layouts.tree import counts, listed
from patchcore.data.sample import GOOD, Dataset, Sample, folders_in
from patchcore.errors import DataError, counted

_SEED = 0

ABOUT = About(
    name="kolektorsdd",
    title="KolektorSDD",
    source="https://www.vicos.si/resources/kolektorsdd/",
    licence="CC BY-NC-SA 4.0 (non-commercial)",
    get="Download the archive from its page (either annotation), unpack it. 1 category: 50 items, 399 images.",
    tree="kosNN/PartM.jpg, kosNN/PartM_label.bmp",
    reading="An image is good if its mask is all 0. There is no official split for learning from good images alone: "
    "half of the items (in the order of the SHA-1 of `0:kosNN`, 0 being the seed) are for training, all images of "
    "the others for testing. No item is on both sides, so the defective images of training items are left out.",
    cite="Tabernik et al., Journal of Intelligent Manufacturing 31 (2020)",
)


def holds(path: Path) -> bool:
    return bool(_items(path))


def read(path: Path) -> Dataset:
    items = _items(path)
    if len(items) < 2:
        raise DataError(
            f"{path}: half a dataset ({ABOUT.title}). Found one item, {items[0].name}; expected several, such as "
            "kos01 to kos50, to be split. `patchcore datasets` says where it comes from."
        )
    order = sorted(items, key=_drawn)
    training = set(order[: (len(items) + 1) // 2])
    train, test, left_out = [], [], 0
    for item in items:
        for sample in _images(path, item):
            if item not in training:
                test.append(sample)
            elif sample.kind == GOOD:
                train.append(sample)
            else:
                left_out += 1
    without = f"; left out: {counted(left_out, 'defective image')} of the training items" if left_out else ""
    return Dataset(f"{ABOUT.title}, split by item, {counts(train, test)}{without}", train, test)


def _drawn(item: Path) -> bytes:
    return hashlib.sha1(f"{_SEED}:{item.name}".encode(), usedforsecurity=False).digest()


def _items(path: Path) -> list[Path]:
    return [folder for folder in folders_in(path) if re.fullmatch(r"kos\d+", folder.name)]


def _images(root: Path, item: Path) -> list[Sample]:
    found = []
    for image in (path for path in listed(item, ".jpg") if path.name.startswith("Part")):
        mask = image.with_name(f"{image.stem}_label.bmp")
        if not mask.is_file():
            raise DataError(
                f"{item}: half a dataset ({ABOUT.title}). Found {image.name}; expected its mask {mask.name} beside it."
            )
        defect = bool(read_image(mask, str(mask)).any())
        name = image.relative_to(root).as_posix()
        found.append(Sample(name, image, "defect" if defect else GOOD, mask if defect else None, item.name))
    if not found:
        raise DataError(f"{item}: half a dataset ({ABOUT.title}). Expected Part0.jpg and so on; found none.")
    return found


LAYOUT = Layout(2, holds, read, (ABOUT,), ABOUT.name, single=True)
