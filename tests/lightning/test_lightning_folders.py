"""`Folder` and `MVTecAD`, as anomalib's scripts call them."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import Compose, Grayscale, Resize

from patchcore import DataError, UsageError
from patchcore.lightning.data import Folder, ImageDataModule, MVTec, MVTecAD, PredictDataset
from patchcore.lightning.data.utils import TestSplitMode, ValSplitMode


def names(samples):
    return [sample.image.name for sample in samples]


@pytest.fixture
def toy(tmp_path):
    """hazelnut_toy, as their pages have it: good, crack and mask/crack."""
    rng = np.random.default_rng(0)
    for folder, count in {"good": 10, "crack": 3, "mask/crack": 3}.items():
        (tmp_path / folder).mkdir(parents=True)
        for i in range(count):
            values = rng.integers(0, 255, (20, 30), np.uint8)
            if folder.startswith("mask"):
                values = (np.arange(600).reshape(20, 30) < 40 * (i + 1)).astype(np.uint8) * 255
            Image.fromarray(values).save(tmp_path / folder / f"{i:02}.png")
    return tmp_path


def test_mvtec_is_a_category_of_the_folder(hazelnut):
    data = MVTecAD(root=hazelnut.parent, category="hazelnut", num_workers=0)
    same = ImageDataModule(hazelnut)
    assert (data.name, data.category) == ("MVTecAD", "hazelnut")
    assert (MVTec.name, MVTec.__bases__) == ("MVTec", (MVTecAD,))
    assert names(data.train) == names(same.train)
    assert names(data.calibration) == names(same.calibration)
    assert names(data.test) == names(same.test)
    data.prepare_data()
    data.setup()
    item = data.train_data[0]
    assert item["image"].shape == (3, 512, 512) == data.test_data[0]["image"].shape
    assert data.train_transform is None
    batch = next(iter(data.test_dataloader()))  # without a model, as their pages look at data
    assert batch.image.shape == batch["image"].shape == (len(data.test), 3, 512, 512)
    assert (batch.gt_label.tolist(), batch.gt_mask.shape) == ([1] * 4 + [0] * 3, (7, 512, 512))
    with pytest.raises(AttributeError, match="gt_mask: the batch has image, image_path, label"):
        _ = next(iter(data.val_dataloader())).gt_mask
    with pytest.raises(DataError, match=r"There is no .*bottle. Give the folder of MVTec AD as root.*nothing is down"):
        MVTecAD(root=hazelnut.parent)


def test_without_a_root_it_is_theirs(hazelnut, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/MVTec").symlink_to(hazelnut.parent)
    assert len(MVTec(category="hazelnut").train) == 8
    with pytest.raises(DataError, match=r"MVTecAD/screw|MVTec/screw"):
        MVTec(category="screw")


def test_folder_takes_good_defective_and_masks(toy):
    data = Folder(
        name="hazelnut_toy",
        root=toy,
        normal_dir="good",
        abnormal_dir="crack",
        mask_dir="mask/crack",
        normal_split_ratio=0.3,
        num_workers=0,
    )
    data.setup()
    good, defective = [s for s in data.test if s.kind == "good"], [s for s in data.test if s.kind == "crack"]
    assert (len(data.train) + len(data.calibration), len(good), len(defective)) == (7, 3, 3)
    assert not {s.name for s in data.test} & {s.name for s in (*data.train, *data.calibration)}
    (batch,) = data.test_dataloader()
    assert batch["image"].shape == (6, 3, 20, 30)
    of_defects = batch["mask"].sum((1, 2))[batch["label"] == 1]
    assert of_defects.tolist() == [40, 80, 120]
    assert not batch["mask"][batch["label"] == 0].any()
    assert [one.task for one in (data.train_data, data.val_data, data.test_data)] == [
        *["classification"] * 2,
        "segmentation",
    ]
    first = [s.name for s in data.test]
    again = Folder("toy", "good", toy, "crack", None, "mask/crack", seed=1, test_split_ratio=0.3)
    assert [s.name for s in again.test] != first


def test_folder_takes_several_folders_and_good_ones_to_test_on(toy):
    for folder in ("more", "fresh", "bent"):
        (toy / folder).mkdir()
        for path in (toy / "good").glob("0[0-2].png"):
            image = np.asarray(Image.open(path)) // (2 + len(folder))
            Image.fromarray(image).save(toy / folder / path.name)
    data = Folder("toy", ["good", "more"], toy, ["crack", "bent"], "fresh", task="classification", num_workers=0)
    assert len(data.train) + len(data.calibration) == 13
    assert sorted(s.kind for s in data.test) == ["bent"] * 3 + ["crack"] * 3 + ["good"] * 3
    assert set(next(iter(data.test_dataloader()))) == {"image", "image_path", "label"}
    (toy / "good" / "100.bmp").write_bytes((toy / "good" / "00.png").read_bytes())
    bmp = Folder("toy", "good", toy, extensions=("bmp",), test_split_mode="none")
    assert names(bmp.train) == ["100.bmp"]
    with pytest.raises(UsageError, match=r"1 folders of masks for 2|2 folders of masks for 1"):
        Folder("toy", "good", toy, "crack", mask_dir=["mask/crack", "mask"])


def test_masks_must_fit(toy):
    (toy / "mask/crack/01.png").rename(toy / "mask/crack/01_mask.png")
    Folder("toy", "good", toy, "crack", mask_dir="mask/crack")
    (toy / "mask/crack/01_mask.png").unlink()
    with pytest.raises(DataError, match=r"holds no masks for .*01.png; expected one called 01 or 01_mask"):
        Folder("toy", "good", toy, "crack", mask_dir="mask/crack")
    with pytest.raises(DataError, match=r"There is no folder .*nothing"):
        Folder("toy", "nothing", toy)


def test_test_images_never_set_a_threshold(toy):
    given = {"name": "toy", "normal_dir": "good", "root": toy, "abnormal_dir": "crack"}
    for mode in (ValSplitMode.SAME_AS_TEST, "from_test", "FROM_DIR"):
        with pytest.warns(UserWarning, match="but no test image sets a threshold here"):
            data = Folder(**given, val_split_mode=mode)
        assert {s.kind for s in data.calibration} == {"good"}
        assert data.val_split_mode == ValSplitMode.FROM_TRAIN
        assert len(data.test) == 5
    half = Folder(**given, val_split_mode=ValSplitMode.FROM_TRAIN, val_split_ratio=0.5)
    assert (len(half.train), len(half.calibration)) == (4, 4)
    assert Folder(**given, val_split_mode=ValSplitMode.NONE).calibration == []
    with pytest.warns(UserWarning, match="val_split_ratio has no effect without val_split_mode='from_train'"):
        Folder(**given, val_split_ratio=0.5)
    with pytest.raises(UsageError, match="val_split_mode is synthetic: defects are not made up"):
        Folder(**given, val_split_mode="synthetic")
    with pytest.raises(UsageError, match="test_split_mode is synthetic: defects are not made up"):
        Folder(**given, test_split_mode=TestSplitMode.SYNTHETIC)
    with pytest.raises(UsageError, match="test_split_mode is 'some'; it must be one of none, from_dir, synthetic"):
        Folder(**given, test_split_mode="some")
    with pytest.raises(UsageError, match=r"Folder has no argument 'trasform'. Did you mean 'transform'\?"):
        Folder(**given, trasform=None)
    with pytest.warns(UserWarning, match="task is detection: there are no boxes"):
        Folder(**given, task="detection")


def test_transforms_of_training_and_of_the_rest_may_differ(toy):
    small, large = Resize((8, 8)), Resize((16, 16))
    data = Folder("toy", "good", toy, "crack", train_transform=small, eval_transform=large, num_workers=0)
    assert next(iter(data.train_dataloader()))["image"].shape[2:] == (8, 8)
    assert next(iter(data.val_dataloader()))["image"].shape[2:] == (16, 16)
    assert next(iter(data.test_dataloader()))["image"].shape[2:] == (16, 16)
    both = Folder("toy", "good", toy, transform=small)
    assert both.train_transform is both.eval_transform is small
    first = Folder("toy", "good", toy, transform=small, augmentations=large)
    assert isinstance(first.train_transform, Compose)
    assert first.train_transform.transforms == [large, small]
    only = Folder("toy", "good", toy, train_augmentations=Grayscale(3), num_workers=0)
    assert isinstance(only.train_transform, Grayscale)
    assert only.eval_transform is None
    with pytest.raises(UsageError, match="val_augmentations and test_augmentations differ"):
        Folder("toy", "good", toy, val_augmentations=small, test_augmentations=large)


def test_images_to_predict_are_those_of_a_file_or_a_folder(toy):
    dataset = PredictDataset(path=toy / "crack", image_size=256)
    assert [path.name for path in dataset.image_filenames] == ["00.png", "01.png", "02.png"]
    assert set(dataset[0]) == {"image", "image_path"}
    assert dataset[0]["image"].shape == (3, 20, 30)
    assert dataset.image_size == (256, 256)
    assert PredictDataset(toy / "crack/00.png", transform=Resize(8))[0]["image"].shape == (3, 8, 12)
    batch = dataset.collate_fn([dataset[0], dataset[1]])
    assert batch["image"].shape == (2, 3, 20, 30)
    with pytest.raises(DataError, match=r"There is no .*nothing; expected an image or a folder"):
        PredictDataset(toy / "nothing")


def test_no_warning_without_a_choice_that_has_no_effect(toy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Folder("toy", "good", toy, "crack", mask_dir="mask/crack", task="segmentation", seed=None)
    assert torch.equal(
        Folder("toy", "good", toy).train_data[0]["image"], Folder("toy", "good", toy).train_data[0]["image"]
    )
