"""What fitting may take: memory, and what is left of the files that it works with."""

import gc
import os
import re
import tempfile
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from tiny import TINY, Tiny, noise

from patchcore import Detector, PatchcoreError, UsageError
from patchcore.memory import patches
from patchcore.memory.patches import PatchStore

RECIPE = TINY.replace(taps=("shallow",), ratio=0.2)
MB = 1_000_000


@pytest.fixture
def temp(tmp_path, monkeypatch):
    """The folder for temporary files, and fits that take any limit."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(patches, "_LEAST_MEMORY", 1)
    return folder


@pytest.fixture
def stores(monkeypatch):
    """Whether each store that fits have made was spilled."""
    made = []

    class Spy(PatchStore):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr("patchcore.pipeline.learn.PatchStore", Spy)
    return made


def files_in(folder):
    gc.collect()
    return list(folder.iterdir())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"scaling": "channel"},
        {"coreset": "random"},
        {"coreset": "merge"},
        {"coreset": "identity"},
        {"projection": "dense", "projection_dims": 4, "projection_from": 1},
        {"start": "mean_of_ten"},
        {"calibration_share": 0},
    ],
    ids=str,
)
def test_a_fit_whose_patches_go_to_a_file_makes_the_same_file(fields, temp, stores, tmp_path):
    # 20 images of 1024 bytes of patches; a third of `memory` is for them.
    for name, memory in (("all", None), ("some", 3 * 5000), ("none", 1)):
        Detector(RECIPE.replace(**fields), backbone=Tiny()).fit(noise(20), memory=memory).save(tmp_path / name)
    assert [store.spilled for store in stores] == [False, True, True]
    assert (tmp_path / "some").read_bytes() == (tmp_path / "all").read_bytes()
    assert (tmp_path / "none").read_bytes() == (tmp_path / "all").read_bytes()
    stores.clear()
    assert files_in(temp) == []


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot remove the name of an open file")
def test_the_file_has_no_name_while_it_is_used(temp, stores):
    seen = []

    def images():
        for image in noise(12):
            yield image
            seen.append((stores[0].spilled, list(temp.iterdir())))

    Detector(RECIPE, backbone=Tiny()).fit(images(), memory=1)
    assert seen[-1] == (True, [])
    assert all(files == [] for _, files in seen)


@pytest.mark.parametrize("error", [OSError("camera unplugged"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("stage", ["reading", "choosing", "calibrating"])
def test_a_fit_that_breaks_off_leaves_no_file_and_the_detector_as_it_was(stage, error, temp, stores, monkeypatch):
    detector = Detector(RECIPE, backbone=Tiny()).fit(noise(6))
    bank, before = detector.fitted.members[0].bank, torch.get_num_threads()

    def breaks(*arguments, **options):
        raise error

    def images():
        yield from noise(12)
        if stage == "reading":
            raise error

    if stage == "choosing":
        monkeypatch.setattr("patchcore.maths.coreset.selections", breaks)
    if stage == "calibrating":
        monkeypatch.setattr("patchcore.pipeline.calibrate.against", breaks)
    with pytest.raises(type(error)):
        detector.fit(images(), memory=1)
    assert stores[-1].spilled
    assert detector.fitted.members[0].bank is bank
    assert torch.get_num_threads() == before
    stores.clear()
    assert files_in(temp) == []


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ("2XB", r"memory is '2XB'; expected a size, for example '2GB' or 2000000000 bytes"),
        ("", r"memory is ''; expected a size"),
        ("-3GB", r"memory is '-3GB'; expected a size"),
        (-1, r"memory is -1; expected a size"),
        (float("nan"), r"memory is nan; expected a size"),
        ([1], r"memory is \[1\]; expected a size"),
        (0, r"memory is 0; a fit needs at least 500MB beside the model"),
        ("10MB", r"memory is 10MB; a fit needs at least 500MB"),
        (499_999_999, r"memory is 499999999; a fit needs at least 500MB"),
    ],
)
def test_a_limit_that_is_none_is_wrong_usage_before_an_image_is_read(memory, message):
    def none():
        raise AssertionError("an image was asked for")
        yield

    with pytest.raises(UsageError, match=message):
        Detector(RECIPE, backbone=Tiny()).fit(none(), memory=memory)


@pytest.mark.parametrize(
    ("memory", "limit"),
    [("2GB", 2000 * MB), ("2 gb", 2000 * MB), ("1.5GiB", 1.5 * 2**30), (600 * MB, 600 * MB), ("500MB", 500 * MB)],
)
def test_a_third_of_the_memory_is_for_patches(memory, limit):
    assert patches.spill_limit(memory) == int(limit) // 3


@pytest.mark.parametrize(("machine", "limit"), [(8000 * MB, 4000 * MB), (900 * MB, 500 * MB), (4096, 500 * MB)])
def test_by_default_it_is_half_of_the_machine_and_never_too_little(machine, limit, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=machine))
    assert patches.spill_limit(None) == limit // 3


def test_memory_errors_are_the_package_s_own():
    with pytest.raises(PatchcoreError):
        patches.spill_limit("much")


BITS = r"that looks like {} bits.*value_range=.0,{}]"


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_images_that_leave_bits_of_uint16_unused_get_a_hint_once_in_each_run(small_recipe, caplog, bits):
    images = list(np.random.default_rng(0).integers(0, 2**bits, (4, 96, 96, 1)).astype(np.uint16))
    detector = Detector(small_recipe).fit(images)
    hints = [one for one in caplog.messages if "uint16" in one]
    assert len(hints) == 1
    assert re.search(BITS.format(bits, 2**bits - 1), hints[0])
    caplog.clear()
    list(detector.stream(images))
    detector.predict(images[0])
    assert len([one for one in caplog.messages if "uint16" in one]) == 1


def test_no_hint_where_the_range_is_used_or_stated(small_recipe, caplog):
    images = list(np.random.default_rng(0).integers(0, 1024, (4, 96, 96, 1)).astype(np.uint16))
    detector = Detector(small_recipe.replace(value_range=(0, 1023))).fit(images)
    detector.predict(images)
    bright = [*images[:3], images[3] * np.uint16(63)]
    detector = Detector(small_recipe).fit(bright)
    detector.predict(bright)
    assert not [one for one in caplog.messages if "uint16" in one]
