import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import Identity, Resize

from patchcore import DataError, UsageError
from patchcore.lightning import ImageDataModule
from patchcore.verdict.calibration import hold_out


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        Image.fromarray(np.full((20, 30), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_the_mvtec_layout_is_split_as_the_engine_splits_it(hazelnut):
    data = ImageDataModule(hazelnut, transform=Resize((32, 32)))
    paths = sorted((hazelnut / "train/good").iterdir())
    names = [path.name for path in paths]
    pixels = [np.asarray(Image.open(path)) for path in paths]  # whose digests say which images are held out
    digests = [hashlib.sha256(f"{one.shape}{one.dtype}".encode() + one.tobytes()).hexdigest() for one in pixels]
    kept, held_out = hold_out(digests, 0.2, 0)
    assert [s.image.name for s in data.train] == [names[i] for i in kept]
    assert [s.image.name for s in data.calibration] == [names[i] for i in held_out]
    (batch,) = data.test_dataloader()
    assert batch["image"].shape == (7, 3, 32, 32)
    assert batch["label"].tolist() == [1] * 4 + [0] * 3
    assert batch["mask"].shape == (7, 32, 32)
    assert batch["mask"].dtype == torch.bool
    assert batch["mask"].any((1, 2)).tolist() == [True] * 4 + [False] * 3
    assert batch["image_path"][0] == str(hazelnut / "test/colour/00.jpg")
    (held,) = data.val_dataloader()
    assert held["label"].tolist() == [0, 0]
    assert "mask" not in held


def test_a_mask_lies_where_the_image_lies(hazelnut):
    whole = ImageDataModule(hazelnut, transform=Identity())
    item = next(iter(whole._loader(whole.test[:1], 1)))
    expected = np.asarray(Image.open(hazelnut / "ground_truth/colour/00_mask.png")) > 0
    np.testing.assert_array_equal(item["mask"][0], expected)
    image = np.asarray(Image.open(hazelnut / "test/colour/00.jpg"))
    np.testing.assert_allclose(item["image"][0], image.transpose(2, 0, 1) / 255, rtol=1e-6)


def test_a_folder_is_good_images_to_train_on_or_images_to_predict(folder):
    data = ImageDataModule(folder, transform=Identity(), train_batch_size=3, calibration_share=0)
    assert [len(batch["label"]) for batch in data.train_dataloader()] == [3, 2]
    assert data.val_dataloader() == []
    (batch,) = data.predict_dataloader()
    assert batch["image"].shape == (5, 3, 20, 30)  # grey ones have three equal channels
    torch.testing.assert_close(batch["image"][2], torch.full((3, 20, 30), 80 / 255))
    assert "label" not in batch
    with pytest.raises(DataError, match=r"no labelled images to test on; expected test/<kind>"):
        data.test_dataloader()


def test_errors_say_what_to_do(folder):
    with pytest.raises(UsageError, match="Did you mean 'train_batch_size'"):
        ImageDataModule(folder, train_batchsize=2)
    with pytest.raises(UsageError, match="calibration_share is 1"):
        ImageDataModule(folder, calibration_share=1)
    with pytest.raises(UsageError, match="There is no transform: give one"):
        ImageDataModule(folder).train_dataloader()
    with pytest.raises(DataError, match="expected a folder of images"):
        ImageDataModule(folder / "none")


def test_copies_of_an_image_are_on_one_side(folder, caplog):
    for path in list(folder.iterdir()):
        path.with_name(f"{path.stem} - Copy.png").write_bytes(path.read_bytes())
    data = ImageDataModule(folder, transform=Identity(), calibration_share=0.4)
    assert (len(data.train), len(data.calibration)) == (3, 2)
    assert len({sample.image.read_bytes() for sample in [*data.train, *data.calibration]}) == 5
    assert "5 of 10 images are copies of others" in caplog.text
