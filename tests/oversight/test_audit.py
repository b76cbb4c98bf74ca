import shutil

import numpy as np
import pytest
from PIL import Image

from patchcore import Detector, Reading, UsageError, audit
from patchcore.data.sample import Sample
from patchcore.oversight.audit import without_suspects
from patchcore.oversight.looks import looks, remarks


@pytest.fixture(scope="module")
def mixed(hazelnut, tmp_path_factory):
    """Good images with a defective one and two copies among them, and one that is a test image too."""
    root = tmp_path_factory.mktemp("mixed")
    for part in ("train/good", "test/good"):
        shutil.copytree(hazelnut / part, root / part)
    good = root / "train" / "good"
    shutil.copy(hazelnut / "test" / "colour" / "00.jpg", good / "defect.jpg")
    Image.open(good / "00.jpg").save(good / "again.jpg", quality=40)
    Image.open(good / "01.jpg").save(root / "test" / "good" / "leak.png")
    shutil.copy(good / "03.jpg", good / "copy.jpg")
    return root


@pytest.fixture(scope="module")
def audited(mixed, small_recipe):
    return audit(mixed / "train" / "good", test=mixed / "test" / "good", recipe=small_recipe)


def test_the_defect_is_the_most_unusual_image(audited):
    first = audited.images[0]
    assert first.sample.name.endswith("defect.jpg")
    assert first.unlike == pytest.approx(first.score / np.nanmedian([one.score for one in audited.images]))
    assert [one.rank for one in audited.images] == list(range(1, len(audited.images) + 1))


def test_copies_and_leaks_are_remarked(audited):
    told = {one.name.rpartition("/")[2]: " ".join(one.remarks) for one in audited.images}
    assert "nearly the same image" in told["again.jpg"] + told["00.jpg"]
    assert "leak: the same pixels" in told["01.jpg"]
    assert {one.name for one in audited.suspects} >= {name for name, text in told.items() if "copy" in text}


def test_one_image_is_too_few(hazelnut, small_recipe):
    with pytest.raises(ValueError, match="too few images"):
        audit([hazelnut / "train" / "good" / "00.jpg"], recipe=small_recipe)


def test_the_most_suspicious_share_is_left_out_and_named(mixed, small_recipe):
    detector = Detector(small_recipe)
    kept, names = without_suspects(detector, mixed / "train" / "good", 0.1)
    assert names == ("defect.jpg",)
    assert not any(one.name.endswith("defect.jpg") for one in kept)
    with pytest.raises(UsageError, match=r"reject_suspects is 0\.6"):
        without_suspects(detector, mixed / "train" / "good", 0.6)


def test_what_is_unlike_the_others_is_said():
    drawn = np.random.default_rng(0)
    ramp = np.broadcast_to(
        np.linspace(40, 200, 48)[:, None, None] + 40 * (np.arange(48) < 8)[None, :, None], (48, 48, 3)
    )
    images = {f"{n}": (ramp + drawn.normal(0, 2, ramp.shape)).clip(0, 255).astype(np.uint8) for n in range(12)}
    images |= {"turned": images["0"][::-1, ::-1], "dark": images["1"] // 4, "grey": images["2"][..., :1]}
    images["wide"] = np.concatenate([images["3"], images["3"]], 1)
    told = remarks(looks([Sample(name, image) for name, image in images.items()], Reading()))
    assert {name for name, words in told.items() if words} == {"turned", "dark", "grey", "wide"}
    assert told["turned"][0].startswith("upside down")
    assert any(word.startswith("darker: brightness") for word in told["dark"])
    assert told["grey"] == ["pixels: grey, uint8, usually colour, uint8"]
    assert "size: 48 x 96, usually 48 x 48" in told["wide"]
