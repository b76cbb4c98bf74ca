"""What surrounds a detector in its process, above all torch's settings, changes no result; and is left as it was."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from patchcore import Detector
from patchcore.pipeline.workers import in_order, undisturbed

TINY = 5e-324


@contextmanager
def setting(read, put, value):
    before = read()
    put(value)
    try:
        yield
    finally:
        put(before)


@contextmanager
def flushing():
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def precision_of(backend):
    return setting(lambda: backend.fp32_precision, lambda value: setattr(backend, "fp32_precision", value), "bf16")


SURROUNDINGS = {
    "default dtype": lambda: setting(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "half default dtype": lambda: setting(torch.get_default_dtype, torch.set_default_dtype, torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "deterministic": lambda: setting(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "threads": lambda: setting(torch.get_num_threads, torch.set_num_threads, 1),
    "default device": lambda: setting(torch.get_default_device, torch.set_default_device, "meta"),
    "device as a context": lambda: torch.device("meta"),
    "matmul precision": lambda: setting(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
    "precision of one backend": lambda: precision_of(torch.backends.mkldnn.conv),
    "flushed denormals": flushing,
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
}


def state():
    """All of it that can be read."""
    return (
        torch.get_default_dtype(),
        torch.is_autocast_enabled("cpu"),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        torch.get_default_device(),
        torch.get_float32_matmul_precision(),
        torch.backends.mkldnn.conv.fp32_precision,
        TINY * 1.0 == 0,
        torch.is_anomaly_enabled(),
        torch.random.get_rng_state().tolist() if torch.get_default_device().type == "cpu" else None,
    )


@pytest.fixture(scope="module")
def images(hazelnut):
    return [str(path) for path in sorted((hazelnut / "test" / "colour").iterdir())[:3]]


def results_of(detector, images):
    one = detector.predict(images[0])
    found = [one.score, one.map, one.mask, np.asarray(one.overlay()), one.patch_scores.numpy()]
    found += [r.score for r in detector.predict(images)]
    for result in detector.stream(images):
        found += [result.score, result.map]
    return found


@pytest.fixture(scope="module")
def expected(model_file, images):
    detector = Detector.load(model_file)
    with setting(torch.get_num_threads, torch.set_num_threads, 1):
        return results_of(detector, images)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_files_scores_and_maps_are_the_same_and_the_surroundings_stay(
    name, hazelnut, small_recipe, model_file, images, expected, tmp_path
):
    good = hazelnut / "train" / "good"
    with SURROUNDINGS[name]():
        before = state()
        Detector(small_recipe).fit(good).save(tmp_path / "fitted.patchcore")
        loaded = Detector.load(tmp_path / "fitted.patchcore")
        loaded.save(tmp_path / "again.patchcore")
        found = results_of(loaded, images)
        assert state() == before
    assert (tmp_path / "fitted.patchcore").read_bytes() == model_file.read_bytes()
    assert (tmp_path / "again.patchcore").read_bytes() == model_file.read_bytes()
    # Convolutions that are spread over several cores round differently.
    assert all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(found, expected, strict=True))
    if torch.get_num_threads() == 1 or name == "threads":
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_images_may_lie_in_memory_in_any_order(detector):
    values = torch.rand(3, 3, 150, 130, generator=torch.Generator().manual_seed(0))
    plain = [r.score for r in detector.predict(values)]
    assert [r.score for r in detector.predict(values.to(memory_format=torch.channels_last))] == plain
    assert [r.score for r in detector.predict(values.mT.contiguous().mT)] == plain


@pytest.mark.parametrize("name", ["default dtype", "matmul precision"])
def test_the_caller_s_settings_hold_wherever_its_own_code_runs(name, detector, images):
    with SURROUNDINGS[name]():
        before, seen = state()[:-1], []

        def camera():
            for image in images:
                seen.append(state()[:-1])
                yield image

        for _ in detector.stream(camera()):
            seen.append(state()[:-1])
        for _ in detector.stream(images * 3):
            seen.append(state()[:-1])
    assert set(seen) == {before}


def test_what_others_compute_at_the_same_time_is_undisturbed_until_the_last_has_finished():
    inside, leave = threading.Event(), threading.Event()

    def work(_):
        inside.set()
        leave.wait(30)
        return torch.get_default_dtype()

    found = []
    with SURROUNDINGS["default dtype"]():
        first = threading.Thread(target=lambda: found.extend(in_order(work, range(2), 2)))
        first.start()
        assert inside.wait(30)
        with undisturbed():
            assert torch.ones(1).dtype == torch.float32
        assert torch.get_default_dtype() == torch.float32  # the first one is still at it
        leave.set()
        first.join()
        assert found == [torch.float32] * 2
        assert torch.get_default_dtype() == torch.float64


@pytest.mark.parametrize("name", ["default dtype", "autocast", "default device", "matmul precision"])
def test_an_error_leaves_the_surroundings_as_they_were(name):
    with SURROUNDINGS[name]():
        before = state()
        with pytest.raises(ZeroDivisionError), undisturbed():
            _ = 1 / 0
        for ahead in (True, False):
            with pytest.raises(ZeroDivisionError):
                list(in_order(lambda number: 1 / number, [1, 0], 2, ahead=ahead))
        assert state() == before
