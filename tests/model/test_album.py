"""What a model keeps of its training images."""

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from patchcore import Detector
from patchcore.data.images import read
from patchcore.data.sample import Sample
from patchcore.errors import StoreError
from patchcore.model import album, file, store
from patchcore.model.album import Album, thumbnail
from patchcore.pipeline.workers import Loaded


def forged(path, model_file, change):
    tensors, header = store.read(model_file)
    change(tensors)
    store.write(path, tensors, {name: value for name, value in header.items() if name not in ("sha256", "format")})
    return path


def test_a_model_keeps_hash_size_grid_and_thumbnail_of_each_training_image(detector, model_file, hazelnut):
    kept = Detector.load(model_file).fitted.album
    for number, name in enumerate(detector.fitted.images):
        path = hazelnut / "train/good" / name
        pixels = read(path, name)
        assert bytes(kept.sha256[number].numpy()) == Loaded(Sample(name, path), pixels).digest
        assert kept.shapes[number].tolist() == [*pixels.shape[:2], 16, 16]
        small = np.asarray(kept.thumbnail(number).convert("RGB"), float)
        assert max(small.shape) == 192
        same = np.asarray(Image.fromarray(pixels).resize(small.shape[1::-1], Image.Resampling.LANCZOS), float)
        assert np.abs(small - same).mean() < 5


def test_without_thumbnails_the_file_is_smaller_by_them_and_has_the_hashes(hazelnut, small_recipe, tmp_path):
    sizes = {}
    for wanted in (True, False):
        fitted = Detector(small_recipe).fit(hazelnut / "train/good", limit=3, thumbnails=wanted)
        fitted.save(tmp_path / "m.patchcore")
        sizes[wanted] = (tmp_path / "m.patchcore").stat().st_size
        kept = Detector.load(tmp_path / "m.patchcore").fitted.album
        assert (kept.thumbnails is not None) == wanted
        assert kept.sha256.shape == (3, 32)
    small = 3 * fitted_size(hazelnut)
    assert 0 < sizes[True] - sizes[False] < 2 * small


def fitted_size(hazelnut):
    return max(len(thumbnail(read(path, "x"), None)) for path in (hazelnut / "train/good").iterdir())


def test_by_default_they_are_kept_only_while_all_are_small(hazelnut, small_recipe, monkeypatch):
    from patchcore.pipeline import learn

    monkeypatch.setattr(learn, "MOST", 2 * fitted_size(hazelnut))
    images = [str(path) for path in sorted((hazelnut / "train/good").iterdir())]
    assert Detector(small_recipe).fit(images[:2]).fitted.album.thumbnails is not None
    assert Detector(small_recipe).fit(images[:4]).fitted.album.thumbnails is None
    assert Detector(small_recipe).fit(images[:4], thumbnails=True).fitted.album.thumbnails is not None


def test_equal_fits_give_equal_files_whatever_the_threads(hazelnut, tmp_path):
    # In a process of their own, whose threads are made after others have told torch a number, each another one.
    code = (
        "import torch\n"
        "from patchcore import Detector, Recipe\n"
        "recipe = Recipe(size=128, resize='stretch', ratio=0.05, min_rows=1)\n"
        "for threads in (1, 3):\n"
        "    torch.set_num_threads(5 - threads)\n"
        f"    detector = Detector(recipe, threads=threads).fit({str(hazelnut / 'train/good')!r}, limit=4)\n"
        f"    print(detector.save({str(tmp_path)!r} + f'/{{threads}}'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    one, other = done.stdout.split()
    assert one == other
    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()


@pytest.mark.parametrize("kind", ["uint16", "float32", "grey"])
def test_thumbnails_of_other_depths_look_like_those_of_8_bits(kind):
    plain = np.linspace(0, 255, 300 * 900 * 3).reshape(300, 900, 3).astype(np.uint8)
    other = {"uint16": plain.astype(np.uint16) * 257, "float32": plain.astype(np.float32) / 255, "grey": plain[..., :1]}
    small = Image.open(io.BytesIO(thumbnail(other[kind], None)))
    same = Image.open(io.BytesIO(thumbnail(plain, None)))
    assert small.size == same.size == (192, 64)
    assert np.abs(np.asarray(small, float) - np.asarray(same, float)).mean() < 3


def test_a_large_image_has_a_thumbnail_of_the_same_parts():
    large = np.zeros((4000, 3000, 3), np.uint8)
    large[:2000, 1500:] = 255
    small = np.asarray(Image.open(io.BytesIO(thumbnail(large, None))), float)
    assert small.shape == (192, 144, 3)
    assert small[:90, 78:].min() > 240
    assert small[100:].max() < 15


def bomb(side=20_000):
    data = io.BytesIO()
    Image.new("L", (side, 8)).save(data, "JPEG")
    return data.getvalue()


def put(tensors, data):
    rows = tensors["images.thumbnails"].clone()
    new = torch.zeros(len(rows), max(rows.shape[1], len(data)), dtype=torch.uint8)
    new[:, : rows.shape[1]] = rows
    new[0] = 0
    new[0, : len(data)] = torch.tensor(list(data), dtype=torch.uint8)
    tensors["images.thumbnails"] = new


def png():
    data = io.BytesIO()
    Image.new("L", (8, 8)).save(data, "PNG")
    return data.getvalue()


HOSTILE = {
    "no image": lambda t: put(t, b"\x00" * 100),
    "another format": lambda t: put(t, png()),
    "too many pixels": lambda t: put(t, bomb()),
    "fewer thumbnails": lambda t: t.update({"images.thumbnails": t["images.thumbnails"][1:].clone()}),
    "thumbnails of floats": lambda t: t.update({"images.thumbnails": t["images.thumbnails"].float()}),
    "no hashes": lambda t: [t.pop("images.sha256"), t.pop("images.thumbnails")],
    "hashes of 31 bytes": lambda t: t.update({"images.sha256": t["images.sha256"][:, :31].clone()}),
    "shapes of 0": lambda t: t.update({"images.shapes": t["images.shapes"] * 0}),
    "shapes of others": lambda t: t.update({"images.shapes": t["images.shapes"][:2].clone()}),
    "shapes of a member": lambda t: t.update({"members.0.images.shapes": t["images.shapes"].clone()}),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_album_that_does_not_fit_is_an_error_that_names_the_file(change, model_file, tmp_path):
    path = forged(tmp_path / "m.patchcore", model_file, change)
    with pytest.raises(StoreError, match=r"m\.patchcore: "):
        Detector.load(path)


def test_files_without_an_album_load(model_file, tmp_path, hazelnut):
    path = forged(
        tmp_path / "m.patchcore", model_file, lambda t: [t.pop(n) for n in list(t) if n.startswith("images.")]
    )
    found = Detector.load(path)
    assert found.fitted.album.tensors() == {}
    assert found.predict(hazelnut / "test/colour/00.jpg").decision == "fail"
    assert not [name for name in file.read(path)[0] if name.startswith("images.")]


def test_the_same_pixels_give_the_same_bytes(hazelnut):
    pixels = read(hazelnut / "train/good/00.jpg", "x")
    assert len({hashlib.sha256(thumbnail(pixels.copy(), None)).hexdigest() for _ in range(3)}) == 1


def test_the_album_of_no_thumbnails_has_none():
    kept = Album.of([b"\x01" * 32], [(3, 4)], [(1, 2)], [b""])
    assert kept.thumbnails is None
    assert kept.shapes.tolist() == [[3, 4, 1, 2]]
    assert album.MOST == 2_000_000
