"""The runtime in several processes: what is sent between them, and what a forked one does with its parent's model."""

import copy
import inspect
import multiprocessing
import os
import pickle
import queue
import threading
import time

import numpy as np
import pytest
from patchcore_runtime import ExportError, ImageError, errors, images, load

IMAGE = np.full((40, 50, 3), 90, np.uint8)

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
forks_with_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.mark.parametrize(
    "kind", [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, Exception)]
)
def test_an_error_comes_back_from_another_process(kind):
    error = kind("a.png", "damaged") if kind is ImageError else kind("exported: damaged")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_a_model_is_not_sent_to_another_process(exported_onnx):
    model = load(exported_onnx, threads=1)
    with pytest.raises(ExportError, match=r"cannot be pickled or copied\. Use load\(folder\) in each process"):
        pickle.dumps(model)


def in_a_fork(work):
    """What a function gives, or the error that it raises, in a forked process that has a minute for it."""

    def run(answers):
        try:
            answers.put(work())
        except ExportError as error:
            answers.put(error)

    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=run, args=(answers,))
    child.start()
    try:
        return answers.get(timeout=60)
    except queue.Empty:
        pytest.fail("no answer within a minute")
    finally:
        child.kill()
        child.join()


@forks
@forks_with_threads
@pytest.mark.parametrize(("format", "threads"), [("onnx", 2), ("onnx", None), ("openvino", 1), ("openvino", None)])
def test_a_forked_process_is_told_at_once_to_load_for_itself(format, threads, request):
    folder = request.getfixturevalue(f"exported_{format}")
    model = load(folder, threads=threads)
    expected = model.predict(IMAGE).score
    said = str(in_a_fork(lambda: model.predict(IMAGE).score))
    assert "Load it in each process, after the fork, or start processes with the method 'spawn'" in said
    assert ("threads=1" in said) == (format == "onnx")
    assert in_a_fork(lambda: load(folder, threads=threads).predict(IMAGE).score) == pytest.approx(expected, rel=1e-6)
    assert model.predict(IMAGE).score == expected  # the parent goes on


@forks
@forks_with_threads
def test_a_model_of_one_thread_answers_in_a_forked_process(exported_onnx):
    model = load(exported_onnx, threads=1)
    assert in_a_fork(lambda: model.predict(IMAGE).score) == model.predict(IMAGE).score


@forks
@forks_with_threads
def test_a_process_that_is_forked_while_an_image_is_opened_reads_images(hazelnut):
    path, opened = hazelnut / "test/colour/00.jpg", threading.Event()

    def hold():
        with images.formats._pillow_limit:
            opened.set()
            time.sleep(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    opened.wait()
    assert in_a_fork(lambda: images.read(path, "a").shape) == images.read(path, "a").shape
    thread.join()
