"""Forked children: they answer, or say at once why not. A hang fails the test."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from queue import Empty

import pytest
import torch

from patchcore import Detector
from patchcore.errors import UsageError
from patchcore.maths.threads import by_threads, submit
from patchcore.memory.bank import Bank

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="where children are forked"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
TIMEOUT = 60  # seconds


def _answer(queue, work, arguments, stacks):
    faulthandler.register(signal.SIGUSR1, stacks)
    try:
        queue.put(work(*arguments))
    except BaseException:
        queue.put(traceback.format_exc())


def in_fork(work, *arguments, timeout=TIMEOUT):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with tempfile.TemporaryFile("w+") as stacks:
        child = context.Process(target=_answer, args=(queue, work, arguments, stacks))
        child.start()
        try:
            return queue.get(timeout=timeout)
        except Empty:
            os.kill(child.pid, signal.SIGUSR1)
            child.join(1)
            stacks.seek(0)
            pytest.fail(f"no answer in {timeout} s; the child's threads:\n{stacks.read()}")
        finally:
            child.kill()
            child.join()


def all_of(detector, image):
    """A map, and scores of an image alone, in a list and as a stream."""
    result = detector.predict(image)
    listed = [r.score for r in detector.predict([image] * 3)]
    return result.score, float(result.map.max()), listed, [r.score for r in detector.stream([image] * 2)]


@pytest.fixture(scope="module")
def image(hazelnut):
    return str(hazelnut / "test" / "colour" / "00.jpg")


@pytest.fixture(autouse=True)
def _parallel_torch():
    """torch and MKL spread what they compute, as they do by default: the parent's threads do not survive a fork."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.ones(300, 300) @ torch.ones(300, 300)
    torch.ones(1_000_000).exp().sum()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, None])
@pytest.mark.parametrize("predicted", [False, True], ids=["loaded", "predicted"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_child_gives_the_scores_of_its_parent(engine, predicted, threads, model_file, image, detector):
    if engine == "openvino":
        pytest.importorskip("openvino")
    one = Detector.load(model_file, engine=engine, threads=threads)
    if predicted:
        one.predict(image)
    found = in_fork(all_of, one, image)
    expected = detector.predict(image)
    assert isinstance(found, tuple), found
    score, largest, listed, streamed = found
    assert largest == pytest.approx(float(expected.map.max()), rel=1e-4)
    assert [score, *listed, *streamed] == pytest.approx([expected.score] * 6, rel=1e-4)


@pytest.mark.parametrize("threads", [1, None])
def test_a_child_fits_the_bank_that_its_parent_would_fit(threads, hazelnut, small_recipe, tmp_path, detector):
    def fit(path):
        return Detector(small_recipe, threads=threads).fit(hazelnut / "train" / "good").save(path)

    expected = detector.save(tmp_path / "parent.patchcore")
    assert in_fork(fit, tmp_path / "child.patchcore") == expected
    assert (tmp_path / "child.patchcore").read_bytes() == (tmp_path / "parent.patchcore").read_bytes()


def test_a_child_loads_and_predicts_and_so_does_its_own_child(model_file, image):
    def load():
        return all_of(Detector.load(model_file), image)

    def in_child():
        return load(), in_fork(load, timeout=TIMEOUT / 2)

    found = in_fork(in_child)
    assert isinstance(found, tuple), found
    assert found[0] == found[1]


def test_a_child_searches_approximately():
    pytest.importorskip("faiss")
    rows = torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
    bank = Bank(rows, torch.zeros(len(rows), 3, dtype=torch.int32), torch.ones(2), "ivf_pq")
    expected, _ = bank.nearest(rows[:500], 1)

    def search():
        from patchcore.pipeline.workers import in_order

        alone = list(in_order(lambda q: bank.nearest(q, 1)[0].tolist(), [rows[:500]], None, ahead=False))
        return alone + list(in_order(lambda q: bank.nearest(q, 1)[0].tolist(), [rows[:500]], 2))

    assert in_fork(search) == [expected.tolist()] * 2


def test_the_threads_of_torch_are_as_before_in_a_child_and_in_its_parent(detector, image):
    def threads():
        before = torch.get_num_threads()
        detector.predict(image)
        return before, torch.get_num_threads()

    assert in_fork(threads) == (2, 2)
    assert torch.get_num_threads() == 2


def test_a_child_answers_that_is_forked_while_threads_of_its_parent_are_at_work(detector, image):
    expected = detector.predict(image).score
    for pause in range(8):
        stream = detector.stream([image] * 8)
        next(stream)
        time.sleep(0.004 * pause)
        assert in_fork(lambda: detector.predict(image).score) == pytest.approx(expected, rel=1e-4)
        stream.close()


def test_results_that_a_parent_has_begun_are_refused_at_once(detector, image):
    stream = detector.stream([image] * 6)
    next(stream)

    def go_on():
        try:
            return next(stream).score
        except UsageError as error:
            return str(error)

    assert "start it with the method `spawn`" in in_fork(go_on)
    assert len(list(stream)) == 5  # the parent's are whole


def test_a_detector_on_a_device_is_refused_at_once(detector, image, monkeypatch):
    monkeypatch.setattr(detector.embedders[0], "device", torch.device("cuda"))

    def predict():
        try:
            return detector.predict(image).score
        except UsageError as error:
            return str(error)

    assert "cuda, which a forked process cannot use. Start it with the method `spawn`" in in_fork(predict)


def test_a_fork_waits_for_what_has_begun_and_holds_back_what_has_not():
    begun, log = threading.Event(), []

    def work(number):
        begun.set()
        time.sleep(0.3)
        log.append(number)

    futures = [submit(work, number, 1) for number in range(2)]
    begun.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if log == [0] and by_threads(str, range(3), 2) == ["0", "1", "2"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    for future in futures:
        future.result()
    assert log == [0, 1]


def test_one_of_them_may_fork():
    def fork(_):
        child = os.fork()
        if child == 0:
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert submit(fork, None, 1).result() == 7
