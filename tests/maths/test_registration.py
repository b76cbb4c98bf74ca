import numpy as np
import pytest

from patchcore.maths.registration import Motion, canvas_of, points, register, small


def scene(size=(120, 160), seed=0):
    """Blobs without sharp corners, as on a part of low texture."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(float)
    values, random = np.zeros(size), np.random.default_rng(seed)
    for _ in range(12):
        centre = random.uniform(0.2, 0.8, 2) * size
        values += random.uniform(0.3, 1) * np.exp(-(np.hypot(y - centre[0], x - centre[1]) ** 2) / 200)
    return (values / values.max()).astype(np.float32)


def test_a_motion_turns_about_the_centre_and_shifts():
    motion = Motion((100, 200), (100, 200), (5, -3), 90)
    assert points(motion.matrix, (100, 50)).tolist() == pytest.approx([105, 47])
    # Counter-clockwise, as one sees it: what is right of the centre comes to lie above it.
    assert points(motion.matrix, (110, 50)).tolist() == pytest.approx([105, 37])
    assert points(motion.back, points(motion.matrix, (3.0, 4.0))).tolist() == pytest.approx([3, 4])


def test_whole_pixels_move_without_a_loss_and_back():
    image = np.arange(48, dtype=np.uint8).reshape(6, 8, 1)
    motion = Motion((6, 8), (6, 8), (2, 1))
    moved = motion.to_canvas(image)
    assert np.array_equal(moved[:-1, :-2], image[1:, 2:])
    assert np.array_equal(motion.to_image(moved)[1:, 2:], image[1:, 2:])


@pytest.mark.parametrize(("shift", "angle"), [((0, 0), 0), ((8, -6), 0), ((-7.5, 4.25), 5), ((3, 3), -20)])
def test_known_motions_are_found_to_a_fraction_of_a_pixel(shift, angle):
    reference = scene()
    known = Motion(reference.shape, reference.shape, shift, angle)
    image = 0.3 + 0.5 * known.to_image(reference)  # other light
    found, turned, residual = register(image, reference, "rigid")
    assert found == pytest.approx(shift, abs=0.1)
    assert turned == pytest.approx(angle, abs=0.1)
    assert residual < 0.01
    assert register(image, reference, "rigid") == (found, turned, residual)
    if not angle:
        found, turned, residual = register(image, reference, "shift")
        assert found == pytest.approx(shift, abs=0.1)
        assert turned == 0


def test_another_scene_leaves_a_large_residual():
    assert register(scene(seed=1), scene(seed=0), "rigid")[2] > 0.15
    flat = np.full((120, 160), 0.5, np.float32)
    assert register(flat, scene(), "rigid")[2] == 1
    assert register(flat, flat, "shift")[2] == 1


def test_a_canvas_has_the_reference_s_proportions_and_the_image_s_area():
    assert canvas_of((300, 400), (150, 200)) == (300, 400)
    assert canvas_of((301, 400), (150, 200)) == (301, 400)  # rounding
    assert canvas_of((100, 400), (200, 200)) == (200, 200)


def test_small_versions_keep_proportions_and_small_images():
    assert small(np.zeros((1000, 500, 3), np.uint8)).shape == (256, 128, 3)
    image = np.zeros((100, 50, 1), np.uint16)
    assert small(image) is image
