"""The good patch beside the most unusual one: the right place of the right image, or a reason."""

import base64
import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from patchcore import Detector
from patchcore.data.resolve import detect
from patchcore.data.sample import Dataset
from patchcore.errors import StoreError
from patchcore.model.album import Album
from patchcore.oversight.sources import Sources
from patchcore.report.images import nearest_good


@pytest.fixture(scope="module")
def result(detector, hazelnut):
    return detector.predict(hazelnut / "test/colour/00.jpg")


@pytest.fixture(scope="module")
def origin(detector, result):
    """Name, row and column of what the hottest patch was compared with."""
    row, column = result.worst_patch
    number = int(result.nearest_rows[row, column, 0])
    image, *cell = detector.fitted.members[0].bank.origins[number].tolist()
    return detector.fitted.images[image], cell


def shown(figure):
    data = figure.source.removeprefix("data:image/jpeg;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), float)


@pytest.mark.parametrize("place", ["train/good", "."])
def test_it_is_found_and_is_the_surroundings_of_the_remembered_cell(detector, hazelnut, result, origin, place):
    root = hazelnut / place
    assert nearest_good(earlier(detector), result, Sources.of(Dataset(""), root)).source
    figure = nearest_good(detector, result, Sources.of(Dataset(""), root))
    name, (row, column) = origin
    assert figure.missing == ""
    assert figure.caption == f"Nearest good patch, in {name}"
    image = Image.open(hazelnut / "train/good" / name).convert("RGB")
    # 512 pixels over 16 cells of 32; the close-up shows 11 of them, moved inwards at the border.
    left, top = (min(max(0, (at - 5) * 32), 512 - 11 * 32) for at in (column, row))
    expected = np.asarray(image.resize((200, 200), Image.Resampling.BICUBIC, (left, top, left + 352, top + 352)), float)
    difference = np.abs(shown(figure) - expected).mean(-1)
    assert np.median(difference) < 5  # but for JPEG and the frame
    # The frame lies around 3 x 3 cells.
    lines = np.argwhere(difference > 40)
    scale = 200 / 352
    edges = [((row - 1) * 32 - top) * scale, ((column - 1) * 32 - left) * scale]
    assert lines.min(0) == pytest.approx(np.clip(edges, 0, 200), abs=5)


def changed(detector, *, images=None, album=None, **bank):
    """A detector with other names of training images, with another album, or with another bank."""
    fitted = detector.fitted
    member = replace(fitted.members[0], bank=replace(fitted.members[0].bank, **bank))
    album = fitted.album if album is None else album
    images = fitted.images if images is None else images
    return Detector.of(replace(fitted, members=(member,), images=images, album=album))


def bare(detector):
    """Without thumbnails."""
    return changed(detector, album=replace(detector.fitted.album, thumbnails=None))


def earlier(detector):
    """As a file of an earlier version gives it."""
    return changed(detector, album=Album())


VERSIONS = {"with hashes": bare, "of an earlier version": earlier}
both_versions = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS.keys())


def test_a_folder_may_lie_deeper_than_the_name_says(detector, hazelnut, result):
    deeper = changed(detector, images=tuple(f"train/good/{name}" for name in detector.fitted.images))
    assert not nearest_good(deeper, result, Sources.of(Dataset(""), hazelnut / "train/good")).missing


def test_a_data_set_root_knows_its_training_images_by_table(detector, hazelnut, result):
    sources = Sources.of(detect(hazelnut / "train/good"), hazelnut / "train/good")
    assert not nearest_good(detector, result, sources).missing


def test_images_that_were_fitted_by_absolute_paths_are_found(hazelnut, small_recipe, tmp_path):
    rows = "".join(f"{path},good,train\n" for path in sorted((hazelnut / "train/good").iterdir())[:4])
    table = tmp_path / "nuts.csv"
    table.write_text(f"path,label,split\n{rows}{hazelnut / 'test/good/04.jpg'},good,test\n", "utf-8")
    found = detect(table)
    detector = Detector(small_recipe).fit(found)
    result = detector.predict(hazelnut / "test/colour/00.jpg")
    assert not nearest_good(detector, result, Sources.of(found, table)).missing


@both_versions
def test_another_image_of_the_same_name_is_not_shown(version, detector, hazelnut, result, origin, tmp_path):
    other = "01.jpg" if origin[0] != "01.jpg" else "02.jpg"
    shutil.copy(hazelnut / "train/good" / other, tmp_path / origin[0])
    figure = nearest_good(version(detector), result, Sources({}, (tmp_path,)))
    assert figure.source == ""
    assert f"{origin[0]} is not the image that the detector was fitted on" in figure.missing


def test_a_smaller_image_of_the_same_name_is_not_shown(hazelnut, small_recipe, tmp_path):
    detector = Detector(small_recipe.replace(resize="area")).fit(hazelnut / "train/good", limit=3)
    result = detector.predict(hazelnut / "test/colour/00.jpg")
    for path in (hazelnut / "train/good").iterdir():
        Image.open(path).crop((0, 0, 512, 60)).save(tmp_path / path.name)
    for version in VERSIONS.values():
        assert "is not the image" in nearest_good(version(detector), result, Sources({}, (tmp_path,))).missing


@both_versions
def test_an_image_that_is_not_there_is_named_with_what_to_do(version, detector, result, origin, tmp_path):
    figure = nearest_good(version(detector), result, Sources({}, (tmp_path,)))
    assert figure.missing == f"Its image, {origin[0]}, was not found. Give the training folder: --good."
    assert "was not found" in nearest_good(version(detector), result, Sources()).missing


@both_versions
def test_a_damaged_image_is_said(version, detector, result, origin, tmp_path):
    (tmp_path / origin[0]).write_bytes(b"no image")
    assert "can no longer be read" in nearest_good(version(detector), result, Sources({}, (tmp_path,))).missing


def test_without_a_folder_the_thumbnail_is_shown(detector, hazelnut, result, origin):
    figure = nearest_good(detector, result, Sources())
    assert figure.caption == f"Nearest good patch, in {origin[0]} (from its thumbnail)"
    whole = nearest_good(detector, result, Sources.of(Dataset(""), hazelnut / "train/good"))
    assert np.median(np.abs(shown(figure) - shown(whole))) < 8


def test_a_thumbnail_that_cannot_be_decoded_is_an_error_of_the_model(detector, result):
    small = detector.fitted.album.thumbnails.clone()
    small[:, 700:] = 0
    broken = changed(detector, album=replace(detector.fitted.album, thumbnails=small))
    with pytest.raises(StoreError, match=r"The thumbnail of .* is damaged"):
        nearest_good(broken, result, Sources())


@pytest.mark.parametrize("name", ["../secret.png", "a/../../secret.png", "/etc/secret.png", "C:\\secret.png",
                                  "..\\secret.png", "secret.txt", "#3", ""])  # fmt: skip
def test_a_name_cannot_lead_out_of_the_folders_or_to_other_files(name, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (tmp_path / "secret.png", tmp_path / "secret.txt", folder / "secret.txt"):
        path.write_bytes(b"")
    assert Sources({}, (folder,)).find(name) is None


def test_rows_of_unknown_origin_are_said(detector, result):
    unknown = changed(detector, origins=detector.fitted.members[0].bank.origins * 0 - 1)
    assert "does not say which image" in nearest_good(unknown, result, Sources()).missing


def test_a_patch_of_an_augmented_copy_is_shown_as_it_was_remembered(hazelnut, small_recipe, result):
    recipe = small_recipe.replace(augment=("rotate_90", "flip_h"), calibration_share=0, coreset="identity")
    folder = hazelnut / "train/good"
    detector = Detector(recipe).fit(folder, limit=1)
    (name,) = detector.fitted.images
    images = []
    for copy, said in enumerate(("", ", augmented by rotate_90", ", augmented by flip_h")):
        row = int((detector.fitted.members[0].bank.origins == torch.tensor([0, 8, 4, copy])).all(1).nonzero())
        compared = replace(result, nearest_rows=torch.full_like(result.nearest_rows, row))
        figure = nearest_good(detector, compared, Sources({}, (folder,)))
        assert figure.missing == ""
        assert figure.caption == f"Nearest good patch, in {name}{said}"
        images.append(shown(figure))
    # 16 x 16 cells; the close-up of row 8 and column 4 of the mirrored image is that of column 11, mirrored.
    row = int((detector.fitted.members[0].bank.origins == torch.tensor([0, 8, 11, 0])).all(1).nonzero())
    compared = replace(result, nearest_rows=torch.full_like(result.nearest_rows, row))
    wanted = shown(nearest_good(detector, compared, Sources({}, (folder,))))[:, ::-1]
    assert np.median(np.abs(images[2] - wanted)) < 5
    assert np.median(np.abs(images[2] - images[0])) > 5


def test_a_copy_that_the_recipe_does_not_make_is_of_unknown_origin(detector, result):
    origins = detector.fitted.members[0].bank.origins
    unknown = changed(detector, origins=torch.cat([origins, torch.ones_like(origins[:, :1])], 1))
    assert "does not say which image" in nearest_good(unknown, result, Sources()).missing
