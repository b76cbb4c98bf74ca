"""Images to patches: where an image lies in the network's input, and which patch is which."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from patchcore import BackboneError, Detector, ImageError, Reading, Recipe, RecipeError
from patchcore.backbones import build, wrap
from patchcore.data.reading import MAX_PIXELS
from patchcore.data.resolve import resolve
from patchcore.data.sample import Sample
from patchcore.pipeline.embed import Embedder
from patchcore.pipeline.workers import Loaded, through

CPU = torch.device("cpu")


class Blocks(nn.Module):
    """A network whose cells are means of 8 x 8 pixels, and of 16 x 16: none sees its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.AvgPool2d(8)
        self.coarse = nn.AvgPool2d(2)

    def forward(self, x):
        return self.coarse(self.cells(x))


DECIDED = {"exposure": "even", "pool": "mean"}  # what fit would decide


def embedder_of(recipe: Recipe) -> Embedder:
    recipe = recipe.replace(**{name: value for name, value in DECIDED.items() if getattr(recipe, name) == "auto"})
    return Embedder(recipe, build(recipe.backbone, recipe.weights, recipe.taps, recipe.seen, recipe.seed), CPU)


def block_embedder(**fields) -> Embedder:
    recipe = Recipe(backbone="module", **{"taps": ("cells",), "crop": None, "patch_size": 1, **DECIDED, **fields})
    return Embedder(recipe, wrap(Blocks(), recipe.taps, recipe.seen), CPU)


def stream(embedder: Embedder, images, batch_size: int = 8):
    reading = Reading(batch=batch_size, threads=2)
    return list(through(embedder, resolve(images).samples, reading, embedder.recipe.value_range))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet18.tv_in1k"])
def test_patches_are_what_the_network_gives_for_the_resized_normalised_image(backbone, hazelnut):
    # Pillow resizes float images channel by channel, without rounding in between.
    recipe = Recipe(
        backbone=backbone,
        weights="pretrained" if "lite" in backbone else "random",
        size=(96, 128),
        resize="stretch",
        taps=(8, 16),
        pool="mean",
        pool_border="zeros",
        merge="concat",
        align="bilinear",
        patch_size=3,
        exposure="as_is",
    )
    path = hazelnut / "train/good/01.jpg"
    mean, std, kernel = (0.5, 0.5, "BICUBIC") if "lite" in backbone else (*IMAGENET, "BILINEAR")
    channels = [Image.fromarray(c) for c in np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / 255]
    resized = np.stack([np.asarray(c.resize((128, 96), Image.Resampling[kernel])) for c in channels], -1)
    x = torch.tensor((resized - mean) / std, dtype=torch.float32).permute(2, 0, 1)[None]
    embedder = embedder_of(recipe)
    with torch.inference_mode():
        shallow, deep = (F.avg_pool2d(tap, 3, 1, 1) for tap in embedder.backbone.extractor(x))
    expected = torch.cat([shallow, F.interpolate(deep, shallow.shape[-2:], mode="bilinear")], 1)
    (one,) = stream(embedder, [path])
    assert one.grid == (12, 16)
    actual = one.values.unflatten(0, one.grid).permute(2, 0, 1)
    torch.testing.assert_close(actual, expected[0], rtol=1e-3, atol=1e-3)


def test_patches_run_row_by_row_over_the_image():
    image = np.zeros((32, 48, 3), np.uint8)
    image[16:24, 40:48] = 255  # the cell of row 2, column 5
    (one,) = stream(block_embedder(resize="stretch", size=(32, 48)), [image])
    assert one.grid == (4, 6)
    assert divmod(int(one.values[:, 0].argmax()), 6) == (2, 5)


@pytest.mark.parametrize(
    ("fields", "source", "grid", "coverage"),
    [
        ({"resize": "stretch", "size": 64}, (100, 50), (8, 8), 1),
        ({"resize": "stretch", "size": (64, 32)}, (100, 50), (8, 4), 1),
        ({"resize": "short_side", "size": 64}, (128, 64), (16, 8), 1),
        ({"resize": "short_side", "size": 64}, (64, 98), (8, 12), 1),
        ({"resize": "short_side", "size": 64, "crop": 48}, (64, 128), (6, 6), 48 * 48 / (64 * 128)),
        ({"resize": "letterbox", "size": 64}, (128, 64), (8, 4), 1),
        ({"resize": "letterbox", "size": 64}, (50, 100), (4, 8), 1),
        ({"resize": "letterbox", "size": (64, 128)}, (100, 100), (8, 8), 1),
    ],
)
def test_each_way_to_resize_has_its_grid(fields, source, grid, coverage):
    (one,) = stream(block_embedder(**fields), [noise(*source)])
    assert one.grid == grid
    assert len(one.values) == grid[0] * grid[1]
    assert one.frame.coverage == pytest.approx(coverage)


@pytest.mark.parametrize("taps", [("cells",), ("cells", "coarse")])
@pytest.mark.parametrize("patch_size", [1, 3])
@pytest.mark.parametrize("border", ["zeros", "inside"])
@pytest.mark.parametrize("size", [(64, 32), (48, 64)])
def test_letterbox_padding_does_not_touch_the_patches(taps, patch_size, border, size):
    # With a network that does not look beyond a cell, a padded image is the image alone.
    pooling = {"taps": taps, "patch_size": patch_size, "pool_border": border}
    (padded,) = stream(block_embedder(resize="letterbox", size=64, **pooling), [noise(*size)])
    (alone,) = stream(block_embedder(resize="stretch", size=size, **pooling), [noise(*size)])
    assert padded.grid == alone.grid
    torch.testing.assert_close(padded.values, alone.values)


@pytest.mark.parametrize("size", [68, 60])
def test_a_letterbox_that_does_not_fit_the_grid_is_refused(size):
    with pytest.raises(RecipeError, match=rf"letterbox' got size {size}; .* multiple of 8"):
        block_embedder(resize="letterbox", size=size)


def test_patch_stride_thins_out_the_grid():
    image = noise(64, 64)
    (every,) = stream(block_embedder(resize="stretch", size=64), [image])
    (second,) = stream(block_embedder(resize="stretch", size=64, patch_stride=2), [image])
    assert second.grid == (4, 4)
    expected = every.values.unflatten(0, (8, 8))[::2, ::2].flatten(0, 1)
    torch.testing.assert_close(second.values, expected)


def test_images_of_many_shapes_keep_their_order_and_their_patches():
    embedder = block_embedder(resize="short_side", size=32)
    images = [noise(*size, seed) for seed, size in enumerate([(32, 32), (32, 64), (32, 64), (64, 32), (32, 32)])]
    together = stream(embedder, images)
    assert [one.grid for one in together] == [(4, 4), (4, 8), (4, 8), (8, 4), (4, 4)]
    for one, image in zip(together, images, strict=True):
        torch.testing.assert_close(one.values, stream(embedder, [image])[0].values)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batches_do_not_change_the_patches(batch_size, small_recipe, hazelnut):
    embedder = embedder_of(small_recipe)
    paths = sorted((hazelnut / "test/good").iterdir())
    for one, other in zip(stream(embedder, paths, batch_size), stream(embedder, paths), strict=True):
        torch.testing.assert_close(one.values, other.values, rtol=1e-4, atol=1e-4)


def test_the_value_range_of_the_recipe_is_applied():
    deep = (noise(32, 32).astype(np.uint16)) * 16  # 12 bits in 16
    (wide,) = stream(block_embedder(resize="stretch", size=32, value_range=(0, 4080)), [deep])
    (narrow,) = stream(block_embedder(resize="stretch", size=32), [noise(32, 32)])
    torch.testing.assert_close(wide.values, narrow.values)


def test_an_even_exposure_makes_nothing_of_the_light():
    fields = {"resize": "letterbox", "size": 64}  # the padding is no part of the image
    dark = (noise(20, 60) * 0.4).astype(np.float32) / 255
    images = [dark, dark * 2, dark + 0.3]
    as_is = stream(block_embedder(**fields, exposure="as_is"), images)
    even = stream(block_embedder(**fields), images)
    for number in (1, 2):
        assert (as_is[number].values - as_is[0].values).abs().max() > 0.3
        torch.testing.assert_close(even[number].values, even[0].values, rtol=0, atol=0.05)


def test_an_image_outside_its_value_range_is_named():
    with pytest.raises(ImageError, match=r"#1: a float image with values from .* value_range"):
        stream(block_embedder(resize="stretch", size=32), [noise(32, 32), noise(32, 32) * 1.0])


def test_a_second_scale_adds_its_taps_on_the_grid_of_the_first():
    image = noise(64, 64)
    (one,) = stream(block_embedder(resize="stretch", size=64), [image])
    (half,) = stream(block_embedder(resize="stretch", size=32), [image])
    (both,) = stream(block_embedder(resize="stretch", size=64, scales=(1, 0.5)), [image])
    assert both.grid == one.grid == (8, 8)
    dimensions = one.values.shape[1]
    torch.testing.assert_close(both.values[:, :dimensions], one.values)
    small = half.values.T.reshape(1, dimensions, *half.grid)
    expected = torch.nn.functional.interpolate(small, (8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(both.values[:, dimensions:], expected.flatten(2)[0].T)


@pytest.mark.parametrize("resize", ["area", "stretch", "short_side", "letterbox"])
def test_scales_keep_the_grid_of_every_way_to_resize(resize):
    (one,) = stream(block_embedder(resize=resize, size=64), [noise(128, 96)])
    (both,) = stream(block_embedder(resize=resize, size=64, scales=(1, 0.75)), [noise(128, 96)])
    assert both.grid == one.grid
    assert both.values.shape[1] == 2 * one.values.shape[1]


# ---- tiles


@pytest.mark.parametrize("tile", [{"tile": 32}, {"tile": (32, 48), "tile_stride": (16, 32)}, {"tile": 512}])
@pytest.mark.parametrize(
    "framing",
    [
        {"resize": "area", "size": 96},
        {"resize": "stretch", "size": (80, 128)},
        {"resize": "short_side", "size": 70},
        {"resize": "short_side", "size": 100, "crop": 96},
        {"resize": "letterbox", "size": (96, 80)},
        {"resize": "area", "size": 96, "scales": (1, 0.75, 0.25)},
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_leave_no_trace_where_the_network_looks_no_further_than_a_cell(tile, framing, batch_size):
    # Pooling and aligning do look further, and do so across the borders of the tiles.
    fields = {"taps": ("cells", "coarse"), "patch_size": 3, **framing}
    images = [noise(*size, seed) for seed, size in enumerate([(120, 90), (120, 90), (60, 130)])]
    whole = stream(block_embedder(**fields), images)
    tiled = stream(block_embedder(**fields, **tile), images, batch_size)
    for one, other in zip(whole, tiled, strict=True):
        assert (one.grid, one.frame) == (other.grid, other.frame)
        torch.testing.assert_close(one.values, other.values, rtol=1e-5, atol=1e-5)


def test_an_image_that_a_tile_holds_is_read_whole(hazelnut):
    image = hazelnut / "test/good/04.jpg"
    results = []
    for fields in ({}, {"tile": 512}, {"tile": 512, "tile_stride": 256}):
        recipe = Recipe(size=128, calibration_share=0, **{**DECIDED, **fields})
        results.append(Detector(recipe).fit([image]).predict(hazelnut / "test/colour/00.jpg"))
    assert results[0].score == results[1].score == results[2].score
    assert torch.equal(results[0].patch_scores, results[1].patch_scores)


def test_the_network_sees_tiles_only_one_at_a_time_on_a_cpu():
    embedder, seen = block_embedder(resize="stretch", size=96, tile=(32, 48), tile_stride=16), []
    engine = embedder.engine
    embedder.engine = lambda images: (seen.append(tuple(images.shape)), engine(images))[1]
    stream(embedder, [noise(96, 96)])
    assert seen == [(1, 3, 32, 48)] * 5 * 4


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet18"])
def test_where_tiles_overlap_a_real_network_shows_no_seam(backbone, hazelnut):
    # The cells nearest to the borders between tiles, against all others: how far from what the whole image gives.
    def patches(**tile):
        weights = "pretrained" if "lite" in backbone else "random"
        recipe = Recipe(backbone=backbone, weights=weights, size=256, resize="stretch", patch_size=1, **DECIDED, **tile)
        backbone_of = build(recipe.backbone, recipe.weights, recipe.taps, recipe.seen, recipe.seed)
        (one,) = stream(Embedder(recipe, backbone_of, CPU), [hazelnut / "train/good/01.jpg"])
        return one.values.unflatten(0, one.grid)

    whole = patches()

    def at_the_border(**tile):
        wrong = (patches(**tile) - whole).norm(dim=2) / whole.norm(dim=2)
        return float(wrong[:, 15:17].mean())

    touching, overlapping = at_the_border(tile=128), at_the_border(tile=128, tile_stride=64)
    assert touching > 0.02  # tiles that touch know nothing of each other
    assert overlapping < touching / 2


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tile": 36}, "tile is 36; with these taps it must be a multiple of 8"),
        ({"tile": (32, 36)}, r"tile is \(32, 36\); .* multiple of 8"),
        ({"tile": 32, "tile_stride": 20}, "tile_stride is 20; .* multiple of 8"),
        ({"tile": 32, "resize": "stretch", "size": 100}, "tile=32 got size 100; .* multiple of 8"),
        ({"tile": 32, "resize": "short_side", "size": 120, "crop": 100}, "tile=32 got crop 100; .* multiple of 8"),
        ({"tile": 32, "resize": "letterbox", "size": 100}, "resize='letterbox' got size 100; .* multiple of 8"),
    ],
)
def test_tiles_that_do_not_fit_the_grid_are_refused(fields, says):
    with pytest.raises(RecipeError, match=says):
        block_embedder(**fields)


def test_taps_that_are_not_whole_cells_cannot_be_joined():
    class Valid(nn.Module):  # without padding: 31 cells of a tile of 64 pixels
        def __init__(self):
            super().__init__()
            self.cells = nn.Conv2d(3, 4, 3, 2)

        def forward(self, x):
            return self.cells(x)

    recipe = Recipe(backbone="module", taps=("cells",), size=128, tile=64, **DECIDED)
    with pytest.raises(BackboneError, match="tile of 64 x 64 pixels gives a tap of 31 x 31 cells"):
        stream(Embedder(recipe, wrap(Valid(), recipe.taps, recipe.seen), CPU), [noise(128, 128)])


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_detector_that_tiles_is_the_same_after_saving_on_any_engine(engine, hazelnut, tmp_path):
    if engine == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed: patchcore[openvino]")
    images = sorted((hazelnut / "train/good").iterdir())[:3]
    recipe = Recipe(size=128, ratio=0.05, min_rows=1, tile=64, tile_stride=48, scales=(1, 0.5), **DECIDED)
    one = Detector(recipe, threads=1).fit(images)
    two = Detector(recipe, threads=2).fit(images)
    assert one.save(tmp_path / "one") == two.save(tmp_path / "two")
    loaded = Detector.load(tmp_path / "one", engine=engine)
    assert loaded.recipe == one.fitted.recipe
    for got, expected in zip(loaded.predict(images), one.predict(images), strict=True):
        assert got.score == pytest.approx(expected.score, rel=1e-4)
    (alone,) = loaded.predict(images[:1], reading=Reading(batch=4))
    assert alone.score == pytest.approx(one.predict(images[0]).score, rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (1, 100_000), (2, 300_000)])
@pytest.mark.parametrize("resize", ["area", "short_side"])
def test_an_image_that_costs_more_than_it_shows_is_refused(shape, resize):
    strip = Loaded(Sample("strip", "strip.png"), np.zeros((*shape, 1), np.uint8))
    with pytest.raises(ImageError, match=r"strip: \d+ x \d+ pixels, which resized for the network .* raise the limit"):
        block_embedder(resize=resize).check(strip, MAX_PIXELS)


@pytest.mark.parametrize("shape", [(64, 64), (512, 4096), (40, 400), (3000, 3000), (1, 1), (9999, 9999)])
@pytest.mark.parametrize("resize", ["area", "short_side", "letterbox", "stretch"])
def test_the_shape_of_other_images_does_no_harm(shape, resize):
    pixels = np.broadcast_to(np.uint8(0), (*shape, 1))
    block_embedder(resize=resize, size=256).check(Loaded(Sample("a", "a.png"), pixels), MAX_PIXELS)


def test_the_limit_is_about_the_image_and_not_about_the_size_of_the_network_s_input():
    square = Loaded(Sample("a", "a.png"), np.zeros((32, 32, 1), np.uint8))
    block_embedder(size=512).check(square, 32 * 32)


def test_a_long_strip_is_refused_by_predict_and_fit(detector, small_recipe):
    strip = np.zeros((1, 100_000), np.uint8)
    with pytest.raises(ImageError, match="raise the limit"):
        Detector(small_recipe.replace(resize="area")).fit([strip])
    assert detector.predict(strip).map.shape == (1, 100_000)  # this recipe stretches it to a square
