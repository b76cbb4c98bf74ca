"""Whole numbers that are known, and those that a graph learns when it runs, are computed alike."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcore.maths import joining, maps, resize
from patchcore.maths.sizes import at_least, half, is_open, precision, rounded, rounded_root, share_of, smallest, whole

small = st.integers(1, 4000)


def both(function, *sizes):
    """What a function makes of sizes, after tensors have given the same."""
    expected = function(*sizes)
    assert function(*map(whole, sizes)).tolist() == expected
    return expected


@given(small, small)
def test_quotients_are_rounded_to_the_nearest_halves_up_and_never_to_0(a, b):
    assert both(rounded, a, b) == max(1, math.floor(Fraction(a, b) + Fraction(1, 2)))


@given(small, small)
def test_roots_are_rounded_to_the_nearest_and_never_to_0(a, b):
    root = both(rounded_root, a, b)
    assert root == 1 or Fraction(2 * root - 1, 2) ** 2 <= Fraction(a, b)
    assert Fraction(a, b) < Fraction(2 * root + 1, 2) ** 2


@given(st.integers(0, 10_000))
def test_half_of_an_odd_number_goes_to_the_even_one(value):
    assert both(half, value) == round(value / 2)


@given(small, st.integers(1, 1000))
def test_a_share_is_rounded_as_python_does(count, thousandths):
    assert both(lambda value: share_of(value, thousandths / 1000), count) == max(1, round(thousandths / 1000 * count))


def test_the_smallest_and_the_least():
    assert both(smallest, 3, 2, 5) == 2
    assert both(lambda value: at_least(4, value), 3) == 4
    assert smallest(whole(7), 5).item() == 5


def test_what_is_open_is_computed_in_float32():
    assert not is_open(1, (2, 3))
    assert is_open(1, (2, whole(3)))
    assert precision(1, 2) == torch.float64
    assert precision(1, whole(2)) == torch.float32


FRAMES = {
    "area": lambda source: resize.area_frame(source, (256, 192), 8),
    "letterbox": lambda source: resize.letterbox_frame(source, (256, 192), 8),
    "short side": lambda source: resize.short_side_frame(source, 224, None, 8),
    "crop": lambda source: resize.short_side_frame(source, 256, (224, 192), 8),
}


@pytest.mark.parametrize("kind", FRAMES)
@given(source=st.tuples(st.integers(20, 2000), st.integers(20, 2000)))
def test_frames_of_open_sizes_are_those_of_known_ones(kind, source):
    known, of_tensors = FRAMES[kind](source), FRAMES[kind](tuple(map(whole, source)))
    for name in ("resized", "window", "offset"):
        assert tuple(map(int, getattr(of_tensors, name))) == getattr(known, name)


@settings(max_examples=40)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(["bilinear", "bicubic"]), st.data())
def test_rows_of_the_resize_matrix_from_an_open_place(n_in, n_out, kernel, data):
    start = data.draw(st.integers(0, n_out - 1))
    matrix = resize.resize_matrix(n_in, n_out, kernel)
    rows = resize.resize_matrix(n_in, n_out, kernel, whole(start), n_out - start)
    torch.testing.assert_close(rows, matrix[start:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("offset", [0, -13])
def test_matrices_of_open_sizes_are_those_of_known_ones(offset):
    arguments = 100, 120, 77
    known = maps.image_matrix(*arguments, offset)
    found = maps.image_matrix(*arguments, whole(offset))
    torch.testing.assert_close(found, known, atol=1e-6, rtol=0, equal_nan=True)
    target, source = (14, 112, 112, 0), (10, 80, 100, offset)
    found = joining.join_matrix((*source[:3], whole(offset)), target)
    torch.testing.assert_close(found, joining.join_matrix(source, target), atol=2e-5, rtol=0)
