"""Threads that share work: in order, on one core each."""

import threading
import time

import pytest
import torch

from patchcore.maths.threads import _mkl, by_threads, cores, is_ours


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_are_in_the_order_of_the_parts(threads):
    def work(number):
        time.sleep(0.002 * (number % 3 == 0))
        return number * number

    assert by_threads(work, range(20), threads) == [number * number for number in range(20)]


def test_parts_are_worked_on_at_the_same_time():
    both = threading.Barrier(2, timeout=20)
    assert sorted(by_threads(lambda _: both.wait(), range(2), 2)) == [0, 1]


def test_an_error_comes_when_nothing_is_being_worked_on_any_more():
    done = []

    def work(number):
        if number == 0:
            raise ValueError("no such part")
        time.sleep(0.05)
        done.append(number)

    with pytest.raises(ValueError, match="no such part"):
        by_threads(work, range(4), 2)
    assert sorted(done) == [1, 2, 3]


def test_each_computes_on_one_core_and_lasts():
    def where(_):
        time.sleep(0.01)
        return torch.get_num_threads(), is_ours(), threading.current_thread().name

    first, second = by_threads(where, range(8), 2), by_threads(where, range(8), 2)
    assert {cores for cores, _, _ in first} == {1}
    assert {ours for _, ours, _ in first} == {True}
    assert {name for _, _, name in first} == {name for _, _, name in second}
    assert not is_ours()


def test_one_that_shares_its_work_with_all_of_them_does_it_itself():
    def outer(number):
        return by_threads(lambda other: (number, other, threading.get_ident()), range(3), 2), threading.get_ident()

    for parts, ident in by_threads(outer, range(8), 2):
        assert {where for _, _, where in parts} == {ident}


def mkl_cores(_=None):
    """How many cores MKL uses in this thread; 0: as many as OpenMP. (It is told when it is set.)"""
    found = _mkl()(1)
    _mkl()(found)
    return found


def test_each_computes_on_one_core_whatever_torch_has_been_told():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(7)  # a number of which no test has made threads before
        others = mkl_cores()
        assert set(by_threads(mkl_cores, range(20), 7)) <= {min(1, others)}  # none at all without MKL
        with cores(2):
            assert mkl_cores() == min(2, others)
        assert mkl_cores() == others
    finally:
        torch.set_num_threads(before)
