import hashlib
import re
import time
from itertools import count, islice

import numpy as np
import pytest
import torch
from PIL import Image

from patchcore.data.sample import Sample
from patchcore.errors import ImageError
from patchcore.pipeline.workers import in_order, load, progress_bar


@pytest.mark.parametrize("threads", [None, 1, 2, 7])
def test_results_come_in_order(threads):
    def work(number):
        time.sleep(0.002 * (number % 3 == 0))
        return number * number

    assert list(in_order(work, range(50), threads)) == [number * number for number in range(50)]


@pytest.mark.parametrize("threads", [None, 3])
def test_no_items_give_no_results(threads):
    assert list(in_order(str, [], threads)) == []


@pytest.mark.parametrize("threads", [None, 3])
def test_an_error_comes_after_the_results_before_it_and_ends_the_work(threads):
    stream = in_order(lambda number: 1 / number, [4, 2, 0, 1], threads)
    assert [next(stream), next(stream)] == [0.25, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(stream)
    assert list(stream) == []


def test_an_endless_stream_is_read_only_a_little_ahead():
    taken = count()
    stream = in_order(lambda number: number, taken, 3)
    assert list(islice(stream, 10)) == list(range(10))
    stream.close()
    assert next(taken) <= 10 + 2 * 3


def test_without_threads_nothing_is_asked_for_before_the_one_before_is_done():
    taken = count()
    stream = in_order(lambda number: number, taken, 2, ahead=False)
    assert list(islice(stream, 4)) == [0, 1, 2, 3]
    assert next(taken) == 4


def test_nothing_is_done_before_the_first_result_is_asked_for():
    taken = count()
    in_order(str, taken, 2)
    assert next(taken) == 0


@pytest.mark.parametrize("threads", [None, 2])
def test_an_error_of_the_caller_s_own_generator_comes_through(threads):
    def broken():
        yield 0
        raise OSError("camera unplugged")

    with pytest.raises(OSError, match="camera unplugged"):
        list(in_order(str, broken(), threads))


def test_a_worker_computes_on_one_thread_and_the_caller_s_setting_stays():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert set(in_order(lambda _: torch.get_num_threads(), range(8), 2)) == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_caller_s_own_work_is_limited_only_while_it_runs():
    before = torch.get_num_threads()
    stream = in_order(lambda _: torch.get_num_threads(), range(2), before + 1, ahead=False)
    assert next(stream) == before + 1
    assert torch.get_num_threads() == before


def test_the_limit_on_pixels_is_kept(tmp_path):
    Image.new("L", (50, 50)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="50 x 50 pixels are more than the limit of 2499"):
        load(Sample("a", tmp_path / "a.png"), 2499)


def digests(*images):
    return [load(Sample("x", image), 10**6).digest for image in images]


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


def bars(text):
    """Each state that a bar was drawn in: how far it was, and whether it said how much time is left."""
    found = re.findall(r"(\d+)/\d+ \[\d\d:\d\d(<?)", text)
    return {int(number): bool(left) for number, left in found}


@pytest.mark.parametrize(("total", "first"), [(1000, 50), (100, 10), (28, 10), (6, 3), (1, 1)])
def test_the_time_left_is_told_only_once_some_of_the_work_is_done(total, first, capsys):
    with progress_bar("Looking at images", "image", total) as advance:
        for _ in range(total):
            time.sleep(0.3 / total)
            advance(1)
    states = bars(capsys.readouterr().err)
    assert states[0] is False
    assert states[total] is True
    assert all(told == (done >= first) for done, told in states.items())


def test_a_bar_notes_what_is_done_now(capsys):
    with progress_bar("Cross-validating", "fit", 2) as advance:
        advance(0, "fast")
        advance(1)
    assert "fast" in capsys.readouterr().err


def test_what_has_no_end_in_sight_has_a_bar_too(capsys):
    with progress_bar("Looking at images", "image", None) as advance:
        advance(3)
    assert "3image" in capsys.readouterr().err


def test_without_standard_error_there_is_no_bar(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    with progress_bar("Looking at images", "image", 3) as advance:
        advance(1)
