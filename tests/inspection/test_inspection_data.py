"""The dataset, metrics, utilities and backbones."""

import csv
import random
import shutil

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.metrics import f1_score, roc_auc_score
from torchvision import models
from torchvision.transforms.v2 import functional as vision

from patchcore import BackboneError, DataError, UsageError, WeightsError
from patchcore.inspection import backbones, metrics, utils
from patchcore.inspection.datasets.mvtec import DatasetSplit, MVTecDataset
from patchcore.verdict import draw

# MVTecDataset


@pytest.fixture(scope="module")
def test_set(hazelnut) -> MVTecDataset:
    return MVTecDataset(hazelnut.parent, "hazelnut", split=DatasetSplit.TEST)


def test_items_are_the_documented_ones(test_set, hazelnut):
    item = test_set[0]
    assert set(item) == {"image", "mask", "classname", "anomaly", "is_anomaly", "image_name", "image_path"}
    assert (item["image"].shape, item["image"].dtype) == ((3, 224, 224), torch.float32)
    assert (item["mask"].shape, item["mask"].dtype) == ((1, 224, 224), torch.float32)
    first = sorted((hazelnut / "test/colour").iterdir())[0]
    assert item["image_path"] == str(first)
    assert item["image_name"] == f"hazelnut/test/colour/{first.name}"
    assert (item["classname"], item["anomaly"], item["is_anomaly"]) == ("hazelnut", "colour", 1)
    assert [one["is_anomaly"] for one in test_set] == [1] * 4 + [0] * 3
    assert test_set[4]["anomaly"] == "good"
    assert not test_set[4]["mask"].any()


def test_images_are_resized_cut_and_normalised(test_set):
    item = test_set[0]
    pixels = torch.from_numpy(np.array(Image.open(item["image_path"]))).permute(2, 0, 1) / 255
    x = vision.center_crop(vision.resize(pixels, [256], antialias=True), [224])
    expected = vision.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(item["image"], expected, rtol=1e-3, atol=1e-3)
    assert test_set.transform_mean == (0.485, 0.456, 0.406)
    assert test_set.transform_std == (0.229, 0.224, 0.225)
    assert test_set.imagesize == (3, 224, 224)


def test_masks_are_resized_by_nearest_and_stay_masks(test_set, hazelnut):
    item = test_set[0]
    mask = Image.open(hazelnut / "ground_truth/colour" / f"{item['image_path'].rpartition('/')[2][:-4]}_mask.png")
    nearest = np.asarray(mask.convert("L").resize((256, 256), Image.Resampling.NEAREST))[16:240, 16:240]
    np.testing.assert_array_equal(item["mask"][0], nearest > 127)
    assert set(item["mask"].unique().tolist()) == {0.0, 1.0}


def test_images_and_masks_are_transformed_as_items_are(test_set):
    item, (_, _, image, mask) = test_set[0], test_set.data_to_iterate[0]
    assert torch.equal(test_set.transform_img(Image.open(image)), item["image"])
    assert torch.equal(test_set.transform_mask(Image.open(mask).convert("RGB")), item["mask"])


def test_rows_are_class_kind_image_and_mask_and_may_be_taken_away(hazelnut):
    data = MVTecDataset(hazelnut.parent, "hazelnut", split=DatasetSplit.TEST, seed=0)
    first = hazelnut / "test/colour/00.jpg"
    assert data.data_to_iterate[0] == [
        "hazelnut",
        "colour",
        str(first),
        str(hazelnut / "ground_truth/colour/00_mask.png"),
    ]
    assert [(kind, mask) for _, kind, _, mask in data.data_to_iterate[4:]] == [("good", None)] * 3
    assert {kind: len(paths) for kind, paths in data.imgpaths_per_class["hazelnut"].items()} == {"colour": 4, "good": 3}
    assert data.get_image_data() == (data.imgpaths_per_class, data.data_to_iterate)
    data.data_to_iterate = data.data_to_iterate[::-2]
    assert [item["is_anomaly"] for item in data] == [0, 0, 1, 1]


def test_augment_has_no_effect_and_says_so(hazelnut, test_set):
    with pytest.warns(UserWarning, match="augment has no effect"):
        data = MVTecDataset(hazelnut.parent, "hazelnut", split=DatasetSplit.TEST, augment=True)
    assert torch.equal(data[0]["image"], test_set[0]["image"])


def test_sheets_take_the_transforms_of_the_dataset(test_set, tmp_path):
    def image_transform(image):
        std, mean = (np.reshape(one, (-1, 1, 1)) for one in (test_set.transform_std, test_set.transform_mean))
        return np.clip((test_set.transform_img(image).numpy() * std + mean) * 255, 0, 255).astype(np.uint8)

    item = test_set[0]
    utils.plot_segmentation_images(
        tmp_path, [item["image_path"]], [item["mask"][0].numpy()], None, [test_set.data_to_iterate[0][3]],
        image_transform=image_transform, mask_transform=lambda mask: test_set.transform_mask(mask).numpy(),
    )  # fmt: skip
    (path,) = tmp_path.iterdir()
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (224, 3 * 224, 3)
    np.testing.assert_array_equal(sheet[:, 224:448, 0], item["mask"][0] * 255)
    np.testing.assert_array_equal(sheet[:, :224], image_transform(Image.open(item["image_path"])).transpose(1, 2, 0))


def test_the_training_images_are_split(hazelnut):
    train = MVTecDataset(hazelnut.parent, "hazelnut", train_val_split=0.7)
    val = MVTecDataset(hazelnut.parent, "hazelnut", split=DatasetSplit.VAL, train_val_split=0.7)
    every = MVTecDataset(hazelnut.parent, "hazelnut")
    assert (len(train), len(val), len(every)) == (7, 3, 10)
    paths = [row[2] for data in (train, val) for row in data.data_to_iterate]
    assert paths == [row[2] for row in every.data_to_iterate]
    with pytest.raises(DataError, match=r"train_val_split=1 leaves no image of train/good for VAL"):
        MVTecDataset(hazelnut.parent, "hazelnut", split=DatasetSplit.VAL)


def test_no_copy_of_an_image_is_on_the_other_side(hazelnut, tmp_path):
    shutil.copytree(hazelnut / "train", tmp_path / "c" / "train")
    for path in sorted((tmp_path / "c/train/good").iterdir())[:5]:
        shutil.copy(path, path.with_name(f"z_{path.name}"))
    train, val = (
        MVTecDataset(tmp_path, "c", split=split, train_val_split=0.7)
        for split in (DatasetSplit.TRAIN, DatasetSplit.VAL)
    )
    assert (len(train), len(val)) == (7, 3)
    assert len(MVTecDataset(tmp_path, "c")) == 15


def test_without_a_class_all_are_there(hazelnut, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(hazelnut / "train", tmp_path / name / "train")
    (tmp_path / "notes").mkdir()
    data = MVTecDataset(tmp_path, None, resize=64, imagesize=64)
    assert data.classnames_to_use == ["a", "b"]
    assert [data[i]["classname"] for i in (0, 10)] == ["a", "b"]
    with pytest.raises(DataError, match="holds no class"):
        MVTecDataset(tmp_path / "notes", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "train"}, r"split is 'train'; expected DatasetSplit.TRAIN"),
        ({"train_val_split": 0}, "train_val_split is 0"),
        ({"resize": 200}, "imagesize is 224; expected at most 200"),
    ],
)
def test_wrong_arguments_of_the_data_set_are_explained(arguments, message, hazelnut):
    with pytest.raises(UsageError, match=message):
        MVTecDataset(hazelnut.parent, "hazelnut", **arguments)


def test_grey_images_become_three_channels(tmp_path):
    (tmp_path / "c/train/good").mkdir(parents=True)
    Image.fromarray(np.full((64, 64), 128, np.uint8)).save(tmp_path / "c/train/good/0.png")
    image = MVTecDataset(tmp_path, "c", 64, 64, mean=(0.0,) * 3, std=(1.0,) * 3)[0]["image"]
    torch.testing.assert_close(image, torch.full((3, 64, 64), 128 / 255))


# Metrics


def test_image_metrics_are_the_receiver_operating_characteristic():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 50)
    scores = rng.random(50) + labels
    found = metrics.compute_imagewise_retrieval_metrics(list(scores), list(labels))
    assert set(found) == {"auroc", "fpr", "tpr", "threshold"}
    # By counting pairs
    pairs = scores[labels == 1][:, None] > scores[labels == 0][None]
    assert found["auroc"] == pytest.approx(pairs.mean())
    for rate, kind in (("fpr", 0), ("tpr", 1)):
        expected = [(scores[labels == kind] >= threshold).mean() for threshold in found["threshold"]]
        np.testing.assert_allclose(found[rate], expected)


def test_pixel_metrics_are_over_all_pixels_and_their_optimum_is_that_of_f1():
    rng = np.random.default_rng(1)
    masks = rng.random((4, 1, 8, 9)) > 0.8
    maps = [rng.random((8, 9)) + 0.5 * mask[0] for mask in masks]
    found = metrics.compute_pixelwise_retrieval_metrics(maps, list(masks))
    flat, truth = np.ravel(maps), masks.ravel()
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, flat))
    best = max(np.unique(flat), key=lambda threshold: f1_score(truth, flat >= threshold))
    assert found["optimal_threshold"] == pytest.approx(best)
    assert found["optimal_fpr"] == pytest.approx((flat[~truth] >= best).mean())
    assert found["optimal_fnr"] == pytest.approx((flat[truth] < best).mean())


def test_metrics_need_both_kinds_and_equal_sizes():
    with pytest.raises(UsageError, match="All labels are the same"):
        metrics.compute_imagewise_retrieval_metrics([1.0, 2.0], [0, 0])
    with pytest.raises(UsageError, match="The maps have 4 pixels and the masks 9"):
        metrics.compute_pixelwise_retrieval_metrics([np.zeros((2, 2))], [np.zeros((3, 3))])


# Utilities


def test_seeds_fix_what_is_drawn():
    state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    drawn = []
    for _ in range(2):
        utils.fix_seeds(7, with_cuda=False)
        drawn.append((random.random(), float(np.random.rand()), float(torch.rand(1))))
    assert drawn[0] == drawn[1]
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])
    random.setstate(state[2])


def test_devices_are_those_of_the_list():
    assert utils.set_torch_device([]) == torch.device("cpu")
    assert utils.set_torch_device([1, 0]) == torch.device("cuda:1")


def test_storage_folders_are_new_or_taken_again(tmp_path):
    first, second, third = (utils.create_storage_folder(tmp_path, "p", "g") for _ in range(3))
    assert [path.rpartition("/")[2] for path in (first, second, third)] == ["g", "g_0", "g_1"]
    assert utils.create_storage_folder(tmp_path, "p", "g", mode="overwrite") == first
    with pytest.raises(UsageError, match="mode is 'append'"):
        utils.create_storage_folder(tmp_path, "p", "g", mode="append")


def test_results_are_a_table_with_its_mean(tmp_path):
    found = utils.compute_and_store_final_results(tmp_path, [[1, 0.5], [0, 0.25]], ["a", "b"], ["x", "y"])
    assert found == {"mean_x": 0.5, "mean_y": 0.375}
    with (tmp_path / "results.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["Row Names", "x", "y"], ["a", "1", "0.5"], ["b", "0", "0.25"], ["Mean", "0.5", "0.375"],
        ]  # fmt: skip
    with pytest.raises(UsageError, match="expected rows with 5 numbers each"):
        utils.compute_and_store_final_results(tmp_path, [[1, 2]])


def test_sheets_show_images_masks_and_maps_on_one_scale(tmp_path, hazelnut):
    image = str(hazelnut / "test/colour/00.jpg")
    mask = str(hazelnut / "ground_truth/colour/00_mask.png")
    maps = [np.full((40, 40), value, np.float32) for value in (0.1, 1.0)]
    utils.plot_segmentation_images(tmp_path / "a", [image, image], maps, [0.1, 1.0], [mask, None])
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["hazelnut_test_colour_00_0.1.png", "hazelnut_test_colour_00_1.png"]
    low, high = (np.asarray(Image.open(tmp_path / "a" / name)).astype(int) for name in names)
    assert low.shape == (40, 120, 3)
    assert high.shape == (40, 80, 3)
    assert set(np.unique(low[:, 40:80])) == {0, 255}  # the mask
    calm = np.asarray(draw.overlay(low[:, :40].astype(np.uint8), np.zeros((40, 40)), 1.0)).astype(int)
    np.testing.assert_array_equal(low[:, -40:], calm)  # a tenth of the highest value: no colour
    assert np.abs(high[:, -40:] - calm).mean() > 20
    utils.plot_segmentation_images(tmp_path / "b", [image], maps[:1])
    assert len(list((tmp_path / "b").iterdir())) == 1


# Backbones


def test_every_name_of_patchcore_inspection_stands_for_a_network_that_there_is():
    assert len(backbones.NAMES) == 40
    for name, ours in backbones.NAMES.items():
        if ours.startswith("torchvision:"):
            base, _, tag = ours.removeprefix("torchvision:").partition(".")
            assert tag == "IMAGENET1K_V1"
            assert tag in models.get_model_weights(base).__members__
        elif name == "resnet200":  # there has never been any other
            assert timm.is_model(ours)
        else:
            assert ours in timm.list_pretrained(), name


@pytest.mark.parametrize("name", ["alexnet", "mnasnet_a1", "resnet50"])
def test_networks_come_by_name_with_random_weights(name):
    one, two = backbones.load(name, "random"), backbones.load(name, "random")
    assert one.name == name
    assert one.source.mean == (0.485, 0.456, 0.406)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_our_own_names_work_with_what_their_weights_want():
    network = backbones.load("efficientnet_lite0")
    assert (network.source.mean, network.source.interpolation) == ((0.5, 0.5, 0.5), "bicubic")


def test_names_that_do_not_exist_and_weights_that_do_not_fit_are_explained(tmp_path):
    with pytest.raises(BackboneError, match="Did you mean 'wideresnet50'"):
        backbones.load("wideresnet5")
    with pytest.raises(BackboneError, match="bninception comes from the package pretrainedmodels"):
        backbones.load("bninception")
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="no tensor fits"):
        backbones.load("alexnet", str(tmp_path / "w.pth"))
