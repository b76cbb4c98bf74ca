import hashlib
from itertools import count, islice

import numpy as np
import pytest
from PIL import Image

from patchcore.data.datasets import Sample
from patchcore.data.loading import load
from patchcore.errors import PictureError

OPTIONS = {"ahead": 4, "max_pixels": 10**6}


def picture(value, shape=(3, 4, 3), dtype=np.uint8):
    return np.full(shape, value, dtype)


def some(n):
    return [Sample(f"{index}", picture(index)) for index in range(n)]


def with_bad(n, bad):
    return [Sample(f"{i}", f"nowhere/{i}.png" if i in bad else picture(i)) for i in range(n)]


@pytest.mark.parametrize("ahead", [1, 2, 7, 100])
def test_pictures_come_in_order(ahead):
    loaded = list(load(some(50), ahead=ahead, max_pixels=10**6))
    assert [one.sample.name for one in loaded] == [str(index) for index in range(50)]
    assert [int(one.pixels[0, 0, 0]) for one in loaded] == list(range(50))


def test_large_files_do_not_fall_behind_small_ones(tmp_path):
    found = []
    for index in range(12):
        side = 900 if index % 3 == 0 else 8
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.full((side, side), index, np.uint8)).save(path)
        found.append(Sample(str(index), path))
    assert [int(one.pixels[0, 0, 0]) for one in load(found, **OPTIONS)] == list(range(12))


def test_nothing_to_load_is_nothing_loaded():
    assert list(load([], **OPTIONS)) == []


def test_a_bad_picture_is_raised_after_those_before_it():
    stream = load(with_bad(6, {2}), **OPTIONS)
    assert [next(stream).sample.name, next(stream).sample.name] == ["0", "1"]
    with pytest.raises(PictureError, match=r"2: no such file") as caught:
        next(stream)
    assert caught.value.name == "2"


def test_a_bad_picture_ends_the_loading():
    stream = load(with_bad(6, {0}), **OPTIONS)
    with pytest.raises(PictureError):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize("bad", [{0}, {7}, {0, 1, 2}, {2, 3, 5}, set(range(8))])
def test_bad_pictures_are_handed_over_in_order_while_the_others_go_on(bad):
    told = []
    loaded = list(load(with_bad(8, bad), on_bad=told.append, **OPTIONS))
    assert [int(one.sample.name) for one in loaded] == [i for i in range(8) if i not in bad]
    assert [int(error.name) for error in told] == sorted(bad)
    assert all(isinstance(error, PictureError) for error in told)


def test_an_error_that_the_caller_raises_over_a_bad_picture_ends_the_loading():
    def refuse(error):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        list(load(with_bad(3, {1}), on_bad=refuse, **OPTIONS))


def test_an_endless_stream_is_read_only_a_little_ahead():
    taken = count()
    stream = load((Sample(str(index), picture(0)) for index in taken), ahead=3, max_pixels=10**6)
    assert [one.sample.name for one in islice(stream, 10)] == [str(index) for index in range(10)]
    stream.close()
    # Ten were given out and at most three were waiting; reading the counter takes one more.
    assert next(taken) <= 10 + 3


def test_nothing_is_read_before_the_first_picture_is_asked_for():
    taken = count()
    load((Sample(str(index), picture(0)) for index in taken), **OPTIONS)
    assert next(taken) == 0


def test_an_error_of_the_caller_s_own_generator_comes_through():
    def broken():
        yield Sample("0", picture(0))
        raise OSError("camera unplugged")

    with pytest.raises(OSError, match="camera unplugged"):
        list(load(broken(), **OPTIONS))


def test_the_limit_on_pixels_is_kept(tmp_path):
    Image.new("L", (50, 50)).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="50 x 50 pixels are more than the limit of 2499"):
        list(load([Sample("a", tmp_path / "a.png")], ahead=1, max_pixels=2499))


def digests(*pictures):
    return [one.digest for one in load([Sample("x", p) for p in pictures], **OPTIONS)]


def test_the_digest_is_of_the_pixels_and_not_of_the_file(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    for name in ("a.png", "b.bmp", "c.tif"):
        Image.fromarray(array).save(tmp_path / name)
    one, two, three, four = digests(tmp_path / "a.png", tmp_path / "b.bmp", tmp_path / "c.tif", array)
    assert one == two == three == four
    assert len(one) == hashlib.sha256().digest_size


def test_the_digest_tells_apart_pixels_shapes_and_depths():
    array = np.zeros((4, 6, 1), np.uint8)
    other = array.copy()
    other[3, 5] = 1
    found = digests(array, other, array.reshape(6, 4, 1), array.reshape(2, 12, 1), array.astype(np.uint16))
    assert len(set(found)) == 5


def test_the_digest_does_not_depend_on_the_layout_in_memory():
    array = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    one, two = digests(array, np.asfortranarray(array))
    assert one == two
