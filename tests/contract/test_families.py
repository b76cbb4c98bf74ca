"""The recipes `lightning` and `inspection` against the two reference systems, written out here.

The references are plain and slow, and take the taps as given. Every patch is in the bank, so that
nothing but the arithmetic is compared; images of 256 x 256 pixels make the resize an identity.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as vision

from patchcore import Detector, Recipe
from patchcore.backbones import build

BACKBONES = {"efficientnet_lite0": "pretrained", "resnet18": "random"}


@pytest.fixture(scope="module")
def train(hazelnut) -> list[np.ndarray]:
    return [read(path) for path in sorted((hazelnut / "train/good").iterdir())[:3]]


@pytest.fixture(scope="module")
def new(hazelnut) -> list[np.ndarray]:
    return [read(hazelnut / "test/good/04.jpg"), read(hazelnut / "test/colour/00.jpg")]


def read(path) -> np.ndarray:
    return np.asarray(Image.open(path).resize((256, 256)))


def recipe_of(family: str, backbone: str, **fields) -> Recipe:
    everything = {"coreset": "identity", "ratio": 1.0, "projection": "none", "calibration_share": 0.0}
    return Recipe.named(family).replace(backbone=backbone, weights=BACKBONES[backbone], **everything, **fields)


def taps_of(images: list[np.ndarray], backbone: str) -> list[Tensor]:
    """The layers of stride 8 and 16 for the central 224 x 224 pixels, normalised."""
    built = build(backbone, BACKBONES[backbone], (8, 16), (224, 224))
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)[..., 16:240, 16:240] / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (built.source.mean, built.source.std))
    with torch.inference_mode():
        return built.extractor((x - mean) / std)


def in_half_precision(rows: Tensor) -> Tensor:
    """What a bank keeps of its rows; the references keep all bits."""
    return rows.half().float()


# anomalib


def lightning_embedding(taps: list[Tensor]) -> Tensor:
    """(B, D, h, w): each layer averaged over 3 x 3, zeros counted, brought to the first grid, stacked."""
    pooled = [nn.AvgPool2d(3, 1, 1)(tap) for tap in taps]
    grid = pooled[0].shape[-2:]
    return torch.cat([F.interpolate(tap, grid, mode="bilinear") for tap in pooled], 1)


def rows(embedding: Tensor) -> Tensor:
    return embedding.permute(0, 2, 3, 1).reshape(-1, embedding.shape[1])


def lightning_score(patches: Tensor, bank: Tensor, neighbours: int) -> tuple[float, Tensor]:
    """Image score by eq. 7, and the distance of each patch to its nearest row."""
    distances = torch.cdist(patches.double(), bank.double())
    nearest, where = distances.min(1)
    star = nearest.argmax()
    if neighbours == 1:
        return float(nearest[star]), nearest
    m_star = bank[where[star]].double()
    around = torch.cdist(m_star[None], bank.double())[0].topk(neighbours, largest=False).indices
    weight = 1 - torch.softmax(distances[star][around], 0)[0]
    return float(weight * nearest[star]), nearest


def lightning_map(distances: Tensor, size: int) -> Tensor:
    """Nearest upsampling, then a Gaussian of sigma 4 over 33 pixels, the border mirrored."""
    side = int(len(distances) ** 0.5)
    grid = F.interpolate(distances.reshape(1, 1, side, side), (size, size))
    offsets = torch.arange(-16, 17, dtype=grid.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * 4**2))
    kernel = torch.outer(kernel, kernel)
    return F.conv2d(F.pad(grid, (16, 16, 16, 16), "reflect"), (kernel / kernel.sum())[None, None])[0, 0]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("neighbours", [9, 1])
def test_lightning_computes_what_anomalib_does(backbone, neighbours, train, new):
    detector = Detector(recipe_of("lightning", backbone, reweight_neighbours=neighbours)).fit(train)
    bank = in_half_precision(rows(lightning_embedding(taps_of(train, backbone))))
    torch.testing.assert_close(detector.fitted.members[0].bank.rows, bank, rtol=2**-9, atol=1e-3)
    embedding = lightning_embedding(taps_of(new, backbone))
    for result, one in zip(detector.predict(new), embedding, strict=True):
        score, distances = lightning_score(rows(one[None]), bank, neighbours)
        assert result.score == pytest.approx(score, rel=1e-3)
        torch.testing.assert_close(result.patch_scores.flatten(), distances.float(), rtol=2e-3, atol=2e-3)
        expected = lightning_map(distances, 224)
        np.testing.assert_allclose(result.map[16:240, 16:240], expected, rtol=2e-3)


# patchcore-inspection


def unfolded(tap: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h, w, C, 3, 3): the zero-padded neighbourhood of each cell."""
    b, c, h, w = tap.shape
    return nn.Unfold(3, padding=1)(tap).reshape(b, c, 3, 3, h, w).permute(0, 4, 5, 1, 2, 3)


def inspection_patches(taps: list[Tensor]) -> Tensor:
    """(N, 1024), as its five modules do it one after the other."""
    neighbourhoods = [unfolded(tap) for tap in taps]
    b, h, w = neighbourhoods[0].shape[:3]
    binned = []
    for planes in neighbourhoods:
        channels = planes.shape[3]
        planes = planes.permute(0, 3, 4, 5, 1, 2).reshape(-1, 1, *planes.shape[1:3])  # each (c, p, p) by itself
        planes = F.interpolate(planes, (h, w), mode="bilinear", align_corners=False)
        planes = planes.reshape(b, channels, 3, 3, h, w).permute(0, 4, 5, 1, 2, 3).reshape(b * h * w, 1, -1)
        binned.append(F.adaptive_avg_pool1d(planes, 1024).squeeze(1))
    stacked = torch.stack(binned, 1).reshape(b * h * w, 1, -1)
    return F.adaptive_avg_pool1d(stacked, 1024).squeeze(1)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("neighbours", [1, 3])
def test_inspection_computes_what_patchcore_inspection_does(backbone, neighbours, train, new):
    detector = Detector(recipe_of("inspection", backbone, neighbours=neighbours)).fit(train)
    bank = in_half_precision(inspection_patches(taps_of(train, backbone)))
    torch.testing.assert_close(detector.fitted.members[0].bank.rows, bank, rtol=2**-9, atol=1e-3)
    patches = inspection_patches(taps_of(new, backbone)).double()
    squared = torch.cdist(patches, bank.double()).square().topk(neighbours, largest=False).values.mean(1)
    for result, scores in zip(detector.predict(new), squared.reshape(2, 28, 28), strict=True):
        assert result.score == pytest.approx(float(scores.max()), rel=1e-3)
        torch.testing.assert_close(result.patch_scores, scores.float(), rtol=4e-3, atol=4e-3)
        upsampled = F.interpolate(scores[None, None], (224, 224), mode="bilinear", align_corners=False)[0, 0]
        np.testing.assert_allclose(result.map[16:240, 16:240], gaussian_filter(upsampled, sigma=4), rtol=4e-3)


# Both


class Means(nn.Module):
    """A network that shows its input: the means of 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.AvgPool2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(x)


@pytest.mark.parametrize("family", ["lightning", "inspection"])
@pytest.mark.parametrize("size", [(256, 256), (300, 500), (500, 301), (200, 100), (522, 512), (257, 259)])
def test_images_are_resized_and_cut_as_torchvision_does(family, size):
    image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    recipe = Recipe.named(family).replace(taps=("cells",), patch_size=1, pool="mean", merge="concat",
                                          coreset="identity", ratio=1.0)  # fmt: skip
    bank = Detector(recipe, backbone=Means()).fit([image]).fitted.members[0].bank.rows
    x = vision.resize(torch.from_numpy(image).permute(2, 0, 1), [256], antialias=True)
    x = vision.normalize(vision.center_crop(x, [224]), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(bank, rows(nn.AvgPool2d(8)(x[None])), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("family", ["lightning", "inspection"])
def test_what_the_crop_hides_has_no_map(family, train, new):
    detector = Detector(recipe_of(family, "resnet18")).fit(train[:1])
    result = detector.predict(new[0])
    shown = np.isfinite(result.map)
    assert shown[16:240, 16:240].all()
    assert shown.sum() == 224 * 224
    assert result.coverage == pytest.approx((224 / 256) ** 2)
