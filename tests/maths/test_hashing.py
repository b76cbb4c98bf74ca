import io

import numpy as np
from PIL import Image

from patchcore.maths.hashing import hamming, perceptual_hash


def grey(image):
    return np.asarray(image.convert("L"), np.float32) / 255


def test_a_hash_survives_compression_size_and_light_and_tells_images_apart(hazelnut):
    one, other = (Image.open(path) for path in sorted((hazelnut / "train" / "good").iterdir())[:2])
    file = io.BytesIO()
    one.save(file, "JPEG", quality=40)
    changed = [Image.open(file), one.resize((300, 300)), Image.eval(one, lambda value: min(255, int(value * 1.1)))]
    own = perceptual_hash(grey(one))[None]
    assert own.shape == (1, 255)
    assert hamming(own, np.stack([perceptual_hash(grey(image)) for image in changed])).max() <= 8
    assert hamming(own, perceptual_hash(grey(other))[None]).item() > 30


def test_bits_that_differ_are_counted():
    some = np.array([[True, True, False], [False, False, False]])
    assert hamming(some, some[:1]).tolist() == [[0], [2]]
