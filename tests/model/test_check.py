"""Model files whose content is wrong, their hash in order."""

import os
import random

import pytest
import torch

from patchcore import Detector
from patchcore.errors import StoreError, WeightsError
from patchcore.model import store


def forged(path, model_file, change):
    """A file with the right hash, after `change(tensors, header)`."""
    tensors, header = store.read(model_file)
    change(tensors, header)
    store.write(path, tensors, {name: value for name, value in header.items() if name not in ("sha256", "format")})
    return path


def setting(*path, to):
    def change(tensors, header):
        place = header
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = to

    return change


def replacing(name, make):
    def change(tensors, header):
        tensors[name] = make(tensors[name])

    return change


CORNER = [[0, 0], [1, 0], [0, 1]]
CHANGES = {
    "no rows": replacing("bank.rows", lambda t: t[:0]),
    "rows of another width": replacing("bank.rows", lambda t: t[:, :-1].contiguous()),
    "a scalar": replacing("bank.rows", lambda t: torch.tensor(1.0)),
    "-inf": replacing("bank.rows", lambda t: torch.full_like(t, -torch.inf)),
    "rows of 1e30": replacing("bank.rows", lambda t: torch.full_like(t.float(), 1e30)),
    "bytes": replacing("bank.rows", lambda t: t.to(torch.uint8)),
    "fewer scales": replacing("bank.scales", lambda t: t[:-1].clone()),
    "no scales": lambda tensors, header: tensors.pop("bank.scales"),
    "fewer origins": replacing("bank.origins", lambda t: t[:-1].clone()),
    "origins of images that are not there": replacing("bank.origins", lambda t: t + 10**6),
    "a tensor of nobody": lambda tensors, header: tensors.update(extra=torch.zeros(3)),
    "one mean": setting("backbone", "source", "mean", to=[0.5]),
    "means of texts": setting("backbone", "source", "mean", to=["a"] * 3),
    "deviations of 1e-45": setting("backbone", "source", "std", to=[1e-45] * 3),
    "an unknown network": setting("backbone", "source", "architecture", to="timm:nope"),
    "another network": setting("backbone", "source", "architecture", to="timm:resnet18"),
    "a value range without end": setting("recipe", "value_range", to=[-1e308, 1e308]),
    "other taps": setting("recipe", "taps", to=[8]),
    "a tap that is not there": setting("recipe", "taps", to=[8, "nope"]),
    "a size without end": setting("recipe", "size", to=10**9),
    "no recipe": lambda tensors, header: header.pop("recipe"),
    "an infinite threshold as a text": setting("calibration", "threshold", to="inf"),
    "a header 1,000 deep": lambda tensors, header: header.update(x=deep(500)),
    "a region that is not decided": setting("recipe", "roi", to="auto"),
    "areas without units": setting("recipe", "roi", to={"areas": [{"name": n, "include": [CORNER]} for n in "ab"]}),
    "units without areas": setting("area_units", to=[1.0, 2.0]),
    "a registration without a reference": setting("recipe", "registration", to="shift"),
    "a reference for nothing": setting("reference", to={"source": [10, 10], "limit": 0.5}),
    "weights that are no numbers": lambda tensors, header: tensors.update(
        {k: torch.full_like(t, torch.nan) for k, t in tensors.items() if "weights." in k and t.is_floating_point()}
    ),
}


def deep(levels):
    found = 1
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_does_not_belong_together_is_refused_when_it_is_loaded_and_the_file_is_named(change, model_file, tmp_path):
    path = forged(tmp_path / "m.patchcore", model_file, change)
    with pytest.raises((StoreError, WeightsError), match=r"m\.patchcore: "):
        Detector.load(path)


def test_a_damaged_file_loads_as_it_was_or_not_at_all(model_file, tmp_path):
    data, path, rng = model_file.read_bytes(), tmp_path / "m.patchcore", random.Random(0)
    length = 8 + int.from_bytes(data[:8], "little")
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 4])):
            damaged[rng.randrange(length if rng.random() < 0.7 else len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged[: rng.choice([len(data), len(data), rng.randrange(len(data))])])
        with pytest.raises(StoreError, match=r"m\.patchcore: "):
            store.read(path)


@pytest.mark.skipif(os.name != "posix", reason="pipes with a name are POSIX's")
def test_a_pipe_is_not_waited_for_and_a_sparse_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match=r"pipe: not a detector, .*a device, pipe or socket"):
        Detector.load(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(20 * 2**30)
    with pytest.raises(StoreError, match="sparse: not a detector"):
        Detector.load(tmp_path / "sparse")
