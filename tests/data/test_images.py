import io
import os
import struct
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
import torch
from image_helpers import UPRIGHT
from patchcore_runtime import ImageError as RuntimeImageError
from patchcore_runtime import images as runtime
from PIL import Image, ImageFile

from patchcore.data import images
from patchcore.data.images import to_tensor
from patchcore.data.masks import read_mask
from patchcore.data.reading import EXTENSIONS, MAX_PIXELS
from patchcore.errors import DataError, ImageError

HEIGHT, WIDTH = 6, 9


def outcome(reader, refusal, *arguments):
    """Pixels and None, or None and the error."""
    try:
        return reader(*arguments), None
    except refusal as error:
        return None, error


def read(image, name, max_pixels=MAX_PIXELS, colour="rgb"):
    """What the library reads. The runtime without torch must read the same, or refuse it for the same reason."""
    pixels, refused = outcome(images.read, ImageError, image, name, max_pixels, colour)
    if not isinstance(image, torch.Tensor):
        theirs, too = outcome(runtime.read, RuntimeImageError, image, name, max_pixels, colour)
        np.testing.assert_array_equal(theirs, pixels, strict=True)
        assert (refused is None) == (too is None)
        if refused:
            assert (too.name, too.reason.split(". ")[0]) == (refused.name, refused.reason.split(". ")[0])
    if refused:
        raise refused
    return pixels


def grey(dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH), dtype, endpoint=True)


def colour(channels=3, dtype=np.uint8, seed=0):
    limit = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, limit, (HEIGHT, WIDTH, channels), dtype, endpoint=True)


# The seven passes of an interlaced PNG: first column and row, and the steps from there.
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def write_png(path, array, *, kind, exif=b"", interlaced=False):
    """A PNG of 16 bits per channel, written by hand: Pillow cannot. `kind` is the PNG colour type."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = array.shape[:2]
    parts = [array[top::down, left::right] for left, top, right, down in (ADAM7 if interlaced else [(0, 0, 1, 1)])]
    rows = [row.astype(">u2").tobytes() for part in parts if part.size for row in part]
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, interlaced))
        + (chunk(b"eXIf", exif) if exif else b"")
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


def write_lzw_tiff(path, array):
    """A 16-bit colour TIFF, compressed as photo editors do: LZW, here with nothing but literals."""
    data = array.astype("<u2").tobytes()
    codes = [code for i in range(0, len(data), 200) for code in (256, *data[i : i + 200])] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    height, width, channels = array.shape
    depths = 8 + 2 + 12 * 10 + 4  # where the directory ends
    entries = [
        (256, 1, width),
        (257, 1, height),
        (258, 3, depths),
        (259, 1, 5),
        (262, 1, 2),
        (273, 1, depths + 6),
        (277, 1, channels),
        (278, 1, height),
        (279, 1, len(body)),
        (284, 1, 1),
    ]
    directory = b"".join(struct.pack("<HHII", tag, 3, count, value) for tag, count, value in entries)
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, 10) + directory + struct.pack("<IHHH", 0, 16, 16, 16) + body)


def exif_bytes(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes().removeprefix(b"Exif\0\0")


# ---- formats and modes


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "webp"])
def test_colour_is_read_without_loss(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(colour()).save(path, lossless=True)
    pixels = read(path, "a")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, colour())


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_grey_is_read_as_one_channel(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(grey()).save(path)
    pixels = read(str(path), "a")
    assert pixels.shape == (HEIGHT, WIDTH, 1)
    np.testing.assert_array_equal(pixels[..., 0], grey())


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
def test_lossy_formats_are_read_nearly(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    smooth = np.broadcast_to(np.linspace(0, 255, 64)[:, None, None], (64, 64, 3)).astype(np.uint8)
    Image.fromarray(smooth).save(path, quality=95)
    pixels = read(path, "a")
    assert pixels.shape == (64, 64, 3)
    assert np.abs(pixels.astype(int) - smooth).max() < 12


def test_a_grey_jpeg_has_one_channel(tmp_path):
    Image.fromarray(np.full((16, 16), 77, np.uint8)).save(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg", "a"), np.full((16, 16, 1), 77))


def test_the_name_of_a_file_does_not_decide_its_format(tmp_path):
    Image.fromarray(colour()).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg", "a"), colour())


def test_black_and_white_becomes_0_and_255(tmp_path):
    bits = grey() > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "1"
    np.testing.assert_array_equal(read(tmp_path / "a.png", "a")[..., 0], bits * np.uint8(255))


def test_transparency_is_dropped(tmp_path):
    rgba, la = colour(4), colour(2)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(la, "LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read(tmp_path / "rgba.png", "a"), rgba[..., :3])
    np.testing.assert_array_equal(read(tmp_path / "la.png", "a"), la[..., :1])


def indexed(palette):
    image = Image.fromarray(np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 4)
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(palette)
    return image


def test_a_palette_of_colours_becomes_rgb(tmp_path):
    palette = [10, 20, 30, 40, 50, 60, 70, 80, 90, 255, 0, 0]
    indexed(palette).save(tmp_path / "a.png")
    index = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 4
    np.testing.assert_array_equal(read(tmp_path / "a.png", "a"), np.reshape(palette, (4, 3))[index])


def test_a_palette_of_greys_becomes_one_channel(tmp_path):
    indexed([7, 7, 7, 99, 99, 99, 180, 180, 180, 255, 255, 255]).save(tmp_path / "a.png")
    index = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 4
    expected = np.array([7, 99, 180, 255])[index]
    np.testing.assert_array_equal(read(tmp_path / "a.png", "a"), expected[..., None])


def test_a_palette_with_transparency_becomes_rgb(tmp_path):
    palette = [10, 20, 30, 40, 50, 60, 70, 80, 90, 255, 0, 0]
    indexed(palette).save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 255]))
    index = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 4
    np.testing.assert_array_equal(read(tmp_path / "a.png", "a"), np.reshape(palette, (4, 3))[index])


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb(tmp_path, suffix):
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[..., 0] = 255  # all cyan ink, which takes the red away
    Image.fromarray(cmyk, "CMYK").save(tmp_path / f"a.{suffix}")
    pixels = read(tmp_path / f"a.{suffix}", "a")
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels[8, 8].astype(int) - [0, 255, 255]).max() < 12


# ---- depth


def test_a_16_bit_grey_png_keeps_its_depth(tmp_path):
    array = grey(np.uint16)
    Image.fromarray(array).save(tmp_path / "a.png")
    pixels = read(tmp_path / "a.png", "a")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels[..., 0], array)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_16_bit_colour_png_keeps_its_depth(tmp_path, channels):
    array = colour(channels, np.uint16)
    write_png(tmp_path / "a.png", array, kind={3: 2, 4: 6}[channels])
    pixels = read(tmp_path / "a.png", "a")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, array[..., :3])


def test_a_16_bit_grey_png_with_transparency_keeps_its_depth(tmp_path):
    array = colour(2, np.uint16)
    write_png(tmp_path / "a.png", array, kind=4)
    pixels = read(tmp_path / "a.png", "a")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, array[..., :1])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_16_bit_grey_tiff_keeps_its_depth(tmp_path, byteorder, compression):
    array = grey(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder=byteorder, compression=compression)
    pixels = read(tmp_path / "a.tif", "a")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels[..., 0], array)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_16_bit_colour_tiff_keeps_its_depth(tmp_path, byteorder, channels):
    array = colour(channels, np.uint16)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder=byteorder, photometric="rgb", **extra)
    pixels = read(tmp_path / "a.tif", "a")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, array[..., :3])


def test_a_16_bit_colour_tiff_with_lzw_keeps_its_depth(tmp_path):
    array = colour(3, np.uint16)
    write_lzw_tiff(tmp_path / "a.tif", array)
    pixels = read(tmp_path / "a.tif", "a")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, array)


@pytest.mark.parametrize(
    "layout",
    [
        {"tile": (16, 16)},
        {"rowsperstrip": 2},
        {"compression": "zlib", "predictor": True},
        {"compression": "zlib", "predictor": True, "tile": (16, 16), "byteorder": ">"},
        {"bigtiff": True},
    ],
)
def test_a_16_bit_colour_tiff_of_any_layout_keeps_its_pixels(tmp_path, layout):
    array = np.random.default_rng(0).integers(0, 65536, (40, 50, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", **layout)
    np.testing.assert_array_equal(read(tmp_path / "a.tif", "a"), array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_colour_tiff_in_planes_is_read_or_refused_but_never_misread(tmp_path, dtype):
    array = colour(3, dtype)
    planes = np.ascontiguousarray(array.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    try:
        pixels = read(tmp_path / "a.tif", "a")
    except ImageError as error:
        assert "planes" in str(error) or "planar" in str(error)  # noqa: PT017
    else:
        np.testing.assert_array_equal(pixels, array)


def test_a_16_bit_colour_png_may_be_interlaced(tmp_path):
    array = colour(3, np.uint16)
    write_png(tmp_path / "a.png", array, kind=2, interlaced=True)
    np.testing.assert_array_equal(read(tmp_path / "a.png", "a"), array)


@pytest.mark.parametrize("value", [-1, 65536])
def test_a_tiff_of_32_bit_whole_numbers_is_not_silently_cut(tmp_path, value):
    array = grey().astype(np.int32)
    array[2, 3] = value
    tifffile.imwrite(tmp_path / "a.tif", array)
    with pytest.raises(ImageError, match=r"a: .*(int32|32-bit|16 bits|65535)"):
        read(tmp_path / "a.tif", "a")


def test_a_float_tiff_keeps_its_values(tmp_path):
    array = np.random.default_rng(0).random((HEIGHT, WIDTH), np.float32)
    tifffile.imwrite(tmp_path / "a.tif", array)
    pixels = read(tmp_path / "a.tif", "a")
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels[..., 0], array)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_float_tiff_with_values_that_are_no_numbers_is_refused(tmp_path, bad):
    array = np.zeros((HEIGHT, WIDTH), np.float32)
    array[2, 3] = bad
    tifffile.imwrite(tmp_path / "a.tif", array)
    with pytest.raises(ImageError, match="a: a float image with NaN or infinite values"):
        read(tmp_path / "a.tif", "a")


# ---- orientation


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colour()).save(tmp_path / f"a.{suffix}", exif=exif, lossless=True)
    np.testing.assert_array_equal(read(tmp_path / f"a.{suffix}", "a"), UPRIGHT[orientation](colour()))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.empty(3, 8, 8, device="meta"), "meta tensor"),
        (torch.ones(3, 8, 8).to_sparse(), "Sparse"),
    ],
)
def test_a_tensor_without_plain_pixels_is_refused(tensor, reason):
    with pytest.raises(ImageError, match=f"x: a tensor without plain pixels .*{reason}.*Give a dense one"):
        images.read(tensor, "x")


@pytest.mark.parametrize(("reads", "error"), [(images.read, ImageError), (runtime.read, RuntimeImageError)])
def test_a_masked_array_is_refused_if_it_masks_anything(reads, error):
    pixels = colour()
    np.testing.assert_array_equal(reads(np.ma.masked_array(pixels), "x"), pixels)
    with pytest.raises(error, match=r"x: a masked array.*array\.data"):
        reads(np.ma.masked_array(pixels, pixels > 100), "x")


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_of_a_jpeg_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = np.zeros((16, 32), np.uint8)
    array[:8, :16] = 250  # a bright corner, in whole blocks of the compression
    Image.fromarray(array).save(tmp_path / "a.jpg", exif=exif, quality=100)
    pixels = read(tmp_path / "a.jpg", "a")[..., 0]
    np.testing.assert_allclose(pixels, UPRIGHT[orientation](array), atol=3)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_of_a_16_bit_colour_png_is_applied(tmp_path, orientation):
    array = colour(3, np.uint16)
    write_png(tmp_path / "a.png", array, kind=2, exif=exif_bytes(orientation))
    np.testing.assert_array_equal(read(tmp_path / "a.png", "a"), UPRIGHT[orientation](array))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_of_a_16_bit_colour_tiff_is_applied(tmp_path, orientation):
    array = colour(3, np.uint16)
    tag = (274, "H", 1, orientation, False)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extratags=[tag])
    np.testing.assert_array_equal(read(tmp_path / "a.tif", "a"), UPRIGHT[orientation](array))


@pytest.mark.parametrize("orientation", [1, 6])
def test_orientation_of_a_pillow_image_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colour()).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(read(image, "a"), UPRIGHT[orientation](colour()))


# ---- files that are no images


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    # A half-written TIFF or WebP may lack the part that says what it is.
    with pytest.raises(ImageError, match=r"my part: (damaged or truncated: .+|not an image that can be read)"):
        read(path, "my part")


def test_a_truncated_deep_png_is_refused(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, np.random.default_rng(0).integers(0, 65536, (80, 80, 3), np.uint16), kind=2)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match="a: damaged or truncated: "):
        read(path, "a")


def test_a_truncated_deep_tiff_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    array = np.random.default_rng(0).integers(0, 65536, (80, 80, 3), np.uint16)
    tifffile.imwrite(path, array, photometric="rgb")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match="a: damaged or truncated: "):
        read(path, "a")


def test_a_pillow_image_of_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as image, pytest.raises(ImageError, match="a: damaged or truncated: "):
        read(image, "a")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match=r"a\.png: an empty file \(0 bytes\)"):
        read(tmp_path / "a.png", "a.png")


def test_a_text_file_is_refused_and_the_known_formats_are_named(tmp_path):
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(ImageError, match=r"a: not an image that can be read\. Known: PNG, JPEG, BMP, TIFF, "):
        read(tmp_path / "a.png", "a")


@pytest.mark.parametrize("array", [np.ones((8, 8)), np.ones((8, 8, 3), np.float32)])
def test_a_float_tiff_that_cannot_be_read_says_how_to_give_it(tmp_path, array):
    tifffile.imwrite(tmp_path / "a.tiff", array, photometric="rgb" if array.ndim == 3 else "minisblack")
    with pytest.raises(
        ImageError, match=r"a: a TIFF of \d\d-bit floating numbers.*: not read\. .* or give it as an array\."
    ):
        read(tmp_path / "a.tiff", "a")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ImageError, match="a: a folder, where an image was expected"):
        read(tmp_path, "a")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"a: no such file"):
        read(tmp_path / "none.png", "a")


def test_the_error_says_which_image_and_is_caught_as_bad_data(tmp_path):
    with pytest.raises(DataError) as caught:
        read(tmp_path / "none.png", "line 7")
    assert caught.value.name == "line 7"
    assert caught.value.reason == "no such file."


# ---- limits


def test_an_image_above_the_limit_is_refused_before_it_is_decoded(tmp_path):
    # A header that promises 10 gigapixels, with no data behind it.
    write_png(tmp_path / "a.png", np.zeros((1, 1), np.uint16), kind=0)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"a: 100000 x 100000 pixels are more than the limit of 100000000\."):
        read(tmp_path / "a.png", "a")


@pytest.mark.parametrize("pillow_limit", [None, 30, 60, 10**9])
def test_the_limit_is_ours_whatever_pillow_s_is(tmp_path, monkeypatch, pillow_limit):
    # Pillow warns above its own limit and raises above twice that.
    Image.fromarray(colour()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    np.testing.assert_array_equal(read(tmp_path / "a.png", "a", max_pixels=HEIGHT * WIDTH), colour())
    assert pillow_limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match=rf"a: {WIDTH} x {HEIGHT} pixels are more than the limit of 53.*--max-pixels"):
        read(tmp_path / "a.png", "a", max_pixels=HEIGHT * WIDTH - 1)
    assert pillow_limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("pillow_limit", [30, 15])
def test_a_limit_below_pillow_s_is_named_even_where_pillow_would_refuse_too(tmp_path, monkeypatch, pillow_limit):
    Image.fromarray(colour()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    with pytest.raises(ImageError, match=r"a: 9 x 6 pixels are more than the limit of 10\."):
        read(tmp_path / "a.png", "a", max_pixels=10)


def test_images_are_decoded_side_by_side(tmp_path, monkeypatch):
    # A decoder that goes on once two threads are in it; one at a time, the barrier breaks.
    both = threading.Barrier(2)

    class Waiting(ImageFile.PyDecoder):
        def decode(self, buffer):
            both.wait(timeout=10)
            self.set_as_raw(bytes(HEIGHT * WIDTH))
            return -1, 0

    Image.fromarray(grey()).save(tmp_path / "a.png")
    monkeypatch.setitem(Image.DECODERS, "zip", Waiting)
    with ThreadPoolExecutor(2) as pool:
        for pixels in pool.map(lambda name: read(tmp_path / "a.png", name), ["a", "b"]):
            assert not pixels.any()


def test_pillow_s_limit_is_back_before_an_image_is_decoded(tmp_path, monkeypatch):
    # The limit belongs to the whole process: other threads rely on it while ours decode.
    seen = []

    class Looking(ImageFile.PyDecoder):
        def decode(self, buffer):
            seen.append(Image.MAX_IMAGE_PIXELS)
            self.set_as_raw(bytes(HEIGHT * WIDTH))
            return -1, 0

    Image.fromarray(grey()).save(tmp_path / "a.png")
    monkeypatch.setitem(Image.DECODERS, "zip", Looking)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    read(tmp_path / "a.png", "a", max_pixels=5000)
    assert seen == [1000, 1000]  # the library's, and the runtime's


# ---- arrays, tensors, Pillow images


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_of_each_layout(dtype):
    for array, expected in [
        (grey(dtype), grey(dtype)[..., None]),
        (grey(dtype)[..., None], grey(dtype)[..., None]),
        (colour(3, dtype), colour(3, dtype)),
        (colour(4, dtype), colour(4, dtype)[..., :3]),
    ]:
        pixels = read(array, "a")
        assert pixels.dtype == dtype
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_tensors_of_each_layout(dtype):
    array = (colour(4) // 2).astype({torch.uint8: "u1", torch.uint16: "u2", torch.float32: "f4"}[dtype])
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for got, expected in [
        (tensor[0], array[..., :1]),
        (tensor[:1], array[..., :1]),
        (tensor[:3], array[..., :3]),
        (tensor, array[..., :3]),
    ]:
        pixels = read(got, "a")
        assert pixels.dtype == array.dtype
        np.testing.assert_array_equal(pixels, expected)


def test_a_tensor_that_needs_gradients_is_read():
    assert read(torch.zeros(3, 4, 5, requires_grad=True), "a").shape == (4, 5, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_of_any_width_become_float32(dtype):
    array = (colour() / 255).astype(dtype)
    pixels = read(array, "a")
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, array.astype(np.float32))


def test_a_bfloat16_tensor_is_read():
    assert read(torch.full((3, 4, 5), 0.5, dtype=torch.bfloat16), "a").tolist() == [[[0.5] * 3] * 5] * 4


def test_a_big_endian_array_is_read():
    pixels = read(grey(np.uint16).astype(">u2"), "a")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels[..., 0], grey(np.uint16))


def test_truth_values_become_black_and_white():
    pixels = read(grey() > 127, "a")
    assert pixels.dtype == np.uint8
    assert set(np.unique(pixels)) == {0, 255}


def test_pillow_images_are_read_like_their_files():
    np.testing.assert_array_equal(read(Image.fromarray(colour()), "a"), colour())
    np.testing.assert_array_equal(read(Image.fromarray(grey(np.uint16)), "a")[..., 0], grey(np.uint16))
    floats = (grey() / 255).astype(np.float32)
    np.testing.assert_array_equal(read(Image.fromarray(floats), "a")[..., 0], floats)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.zeros((2, 3, 4, 3), np.uint8), r"\(2, 3, 4, 3\)"),
        (np.zeros((3, 40, 50), np.uint8), r"\(3, 40, 50\)"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros(7, np.uint8), r"\(7,\)"),
    ],
)
def test_an_array_of_another_shape_is_refused(array, shape):
    message = rf"a: an array of shape {shape}; expected \(H, W\), or \(H, W, C\) with C = 1, 3 or 4\."
    with pytest.raises(ImageError, match=message):
        read(array, "a")


def test_a_tensor_of_another_shape_is_refused_with_the_shape_that_it_has():
    message = r"a: a tensor of shape \(40, 50, 3\); expected \(H, W\), or channels first, \(C, H, W\), with C = 1, 3"
    with pytest.raises(ImageError, match=message):
        read(torch.zeros(40, 50, 3), "a")


@pytest.mark.parametrize("array", [np.zeros((0, 0, 3), np.uint8), np.zeros((0, 5)), torch.zeros(3, 0, 5)])
def test_an_array_without_pixels_is_refused(array):
    shape = str(tuple(array.shape)).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ImageError, match=rf"of shape {shape}, which has no pixels"):
        read(array, "a")


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.complex64])
def test_an_array_of_another_type_is_refused(dtype):
    name = np.dtype(dtype).name
    with pytest.raises(ImageError, match=f"a: an array of {name}; expected uint8, uint16 or float"):
        read(np.zeros((4, 4), dtype), "a")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_values_that_are_no_numbers_are_refused(bad, as_tensor):
    array = np.zeros((4, 4), np.float32)
    array[1, 2] = bad
    with pytest.raises(ImageError, match="a: a float image with NaN or infinite values"):
        read(torch.from_numpy(array) if as_tensor else array, "a")


# ---- to_tensor


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_whole_numbers_use_their_full_range(dtype, top):
    pixels = np.array([[[0, 1, top]]], dtype)
    tensor = to_tensor(pixels, "a")
    assert tensor.dtype == torch.float32
    assert tensor.shape == (3, 1, 1)
    assert tensor.flatten().tolist() == pytest.approx([0, 1 / top, 1])


def test_channels_come_first():
    tensor = to_tensor(colour(), "a")
    np.testing.assert_allclose(tensor.numpy(), colour().transpose(2, 0, 1) / 255, rtol=1e-6)


def test_floats_from_0_to_1_stay_as_they_are():
    pixels = np.array([[[0.0], [0.25], [1.0]]], np.float32)
    assert to_tensor(pixels, "a").flatten().tolist() == [0, 0.25, 1]


@pytest.mark.parametrize(
    ("low", "high", "suggested"),
    [
        (-0.5, 1, "-1,1"),
        (-2.1, 2.6, "-3,3"),
        (0, 1.5, "0,255"),
        (0, 241, "0,255"),
        (3, 4000, "0,4095"),
        (0, 1e5, "0,100000"),
    ],
)
def test_other_floats_are_refused_without_a_range_and_one_is_suggested(low, high, suggested):
    pixels = np.array([[[low], [high]]], np.float32)
    message = rf"a: a float image with values from {low:g} to {high:g}; expected 0 to 1.*value_range=\[{suggested}\]"
    message = message.replace("+", r"\+")
    with pytest.raises(ImageError, match=message):
        to_tensor(pixels, "a")


def test_a_stated_range_stands_for_black_and_white():
    deep = np.array([[[100], [2100], [4100], [0], [65535]]], np.uint16)
    assert to_tensor(deep, "a", (100, 4100)).flatten().tolist() == [0, 0.5, 1, 0, 1]
    temperatures = np.array([[[-20.0], [0.0], [20.0], [-99.0]]], np.float32)
    assert to_tensor(temperatures, "a", (-20, 20)).flatten().tolist() == [0, 0.5, 1, 0]


def test_the_pixels_that_were_read_are_not_changed():
    pixels = np.array([[[0.2], [0.7]]], np.float32)
    to_tensor(pixels, "a", (0, 2))
    assert pixels.flatten().tolist() == pytest.approx([0.2, 0.7])


# ---- masks


@pytest.mark.parametrize("high", [1, 255])
def test_a_mask_marks_what_is_white(tmp_path, high):
    mask = grey() > 127
    Image.fromarray((mask * high).astype(np.uint8)).save(tmp_path / "m.png")
    got = read_mask(tmp_path / "m.png", (HEIGHT, WIDTH))
    assert got.dtype == bool
    np.testing.assert_array_equal(got, mask)


def test_a_mask_of_bits_of_16_bits_or_of_colours_marks_what_is_white(tmp_path):
    mask = grey() > 127
    Image.fromarray(mask).save(tmp_path / "bits.png")
    Image.fromarray(mask * np.uint16(65535)).save(tmp_path / "deep.png")
    Image.fromarray(np.repeat(mask[..., None] * np.uint8(255), 3, 2)).save(tmp_path / "colour.png")
    for name in ("bits", "deep", "colour"):
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png", (HEIGHT, WIDTH)), mask)


@pytest.mark.parametrize("ink", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)])
def test_a_mask_drawn_in_any_colour_on_black_marks_what_is_drawn(tmp_path, ink):
    mask = grey() > 127
    Image.fromarray(mask[..., None] * np.array(ink, np.uint8)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", (HEIGHT, WIDTH)), mask)


def test_a_mask_that_is_most_likely_inverted_is_doubtful(tmp_path):
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[2:4, 2:4] = 0
    Image.fromarray(mask).save(tmp_path / "m.png")
    notes: list[str] = []
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", mask.shape, notes=notes), mask > 0)
    assert "and its whole border, is marked. What is not black is the defect" in notes[0]
    mask[:, 0] = 0  # a defect that reaches three sides
    Image.fromarray(mask).save(tmp_path / "m.png")
    notes.clear()
    read_mask(tmp_path / "m.png", mask.shape, notes=notes)
    assert notes == []


@pytest.mark.parametrize("values", [(1, 2, 9), (100, 200), (127, 128, 255), (255, 1), (3000, 60000), (0.2, 0.9)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_every_value_of_a_mask_that_numbers_kinds_of_defect_marks_one(tmp_path, values, suffix):
    dtype = np.float32 if values[0] < 1 else np.uint16 if max(values) > 255 else np.uint8
    mask, notes = np.array([[0, *values, 0]], dtype), list[str]()
    suffix = "tif" if dtype == np.float32 else suffix
    Image.fromarray(mask).save(tmp_path / f"m.{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"m.{suffix}", mask.shape, notes=notes), mask > 0)
    assert len(notes) == (values != (1, 2, 9))  # on either side of half: that is said


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_mask_with_blurred_edges_is_marked_above_half(tmp_path, suffix):
    mask, notes = np.zeros((64, 64), np.uint8), list[str]()
    mask[16:48, 16:48] = 255
    image = Image.fromarray(mask)
    blurred = image.resize((7, 7)).resize((64, 64), Image.Resampling.BICUBIC) if suffix == "png" else image
    blurred.save(tmp_path / f"m.{suffix}")
    found = read_mask(tmp_path / f"m.{suffix}", mask.shape, notes=notes)
    assert (found ^ (mask > 0)).mean() < 0.1
    pixels = read(tmp_path / f"m.{suffix}", "m")[..., 0]
    np.testing.assert_array_equal(found, pixels > pixels.max() / 2)
    assert all("only what is above half of the largest one" in note for note in notes)


@pytest.mark.parametrize("colour", [(255, 0, 0), (255, 255, 255), (0, 0, 0), (9, 9, 9)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_marks_defects_in_a_mask_of_one_colour(tmp_path, colour, mode):
    mask = grey() > 127
    if mode == "P":
        image = Image.frombytes("P", (WIDTH, HEIGHT), mask.astype(np.uint8).tobytes())
        image.putpalette([*colour, *colour])
        image.save(tmp_path / "m.png", transparency=bytes([0, 255]))
    else:
        image = Image.fromarray(np.dstack([np.broadcast_to(np.uint8(colour), (*mask.shape, 3)), mask * np.uint8(255)]))
        image.convert(mode).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", mask.shape), mask)


@pytest.mark.parametrize(("ground", "ink"), [((0, 0, 0), (255, 0, 0)), ((255, 255, 255), (255, 0, 0))])
def test_a_mask_drawn_on_a_transparent_ground_marks_what_is_drawn(tmp_path, ground, ink):
    mask = grey() > 127
    colours = np.where(mask[..., None], np.uint8(ink), np.uint8(ground))
    Image.fromarray(np.dstack([colours, mask * np.uint8(255)])).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", mask.shape), mask)


def test_a_mask_that_is_opaque_all_over_marks_what_is_not_black(tmp_path):
    mask = grey() > 127
    Image.fromarray(np.dstack([mask * np.uint8(255)] * 3 + [np.full_like(grey(), 255)])).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", mask.shape), mask)


def test_a_mask_whose_colours_and_transparency_contradict_each_other_is_refused(tmp_path):
    mask = grey() > 127
    Image.fromarray(np.dstack([mask * np.uint8(255)] * 3 + [~mask * np.uint8(255)])).save(tmp_path / "m.png")
    with pytest.raises(ImageError, match=r"m\.png: a mask whose colours and transparency mark different pixels"):
        read_mask(tmp_path / "m.png", mask.shape)


def test_an_empty_mask_marks_nothing(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "m.png")
    assert not read_mask(tmp_path / "m.png", (4, 4)).any()


def test_a_mask_of_another_size_is_refused(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "m.png")
    message = r"m\.png: a mask of 5 x 4 pixels for an image of 10 x 8; they must be the same size"
    with pytest.raises(ImageError, match=message):
        read_mask(tmp_path / "m.png", (8, 10))


def test_a_missing_mask_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        read_mask(tmp_path / "none.png", (8, 10))


def test_the_runtime_knows_the_same_limit():
    assert runtime.MAX_PIXELS == MAX_PIXELS


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("interlaced", [False, True])
def test_16_bit_colours_are_read_without_opencv_too(tmp_path, monkeypatch, kind, channels, interlaced):
    array = colour(channels, np.uint16)
    write_png(tmp_path / "a.png", array, kind=kind, interlaced=interlaced)
    monkeypatch.setitem(sys.modules, "cv2", None)
    pixels = read(tmp_path / "a.png", "a")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, array[..., : 1 if kind == 4 else 3])


def test_every_known_extension_is_one_that_can_be_read(tmp_path):
    for suffix in EXTENSIONS:
        Image.fromarray(colour()).save(tmp_path / f"a{suffix}")
        assert read(tmp_path / f"a{suffix}", "a").shape == (HEIGHT, WIDTH, 3)


# ---- what is no path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp", "a.tif", "deep.png", "deep.tif"])
def test_the_contents_of_a_file_are_read_as_the_file_is(tmp_path, name):
    path = tmp_path / name
    if name == "deep.png":
        write_png(path, colour(3, np.uint16), kind=2)
    elif name == "deep.tif":
        write_lzw_tiff(path, colour(3, np.uint16))
    else:
        Image.fromarray(colour()).save(path)
    content, expected = path.read_bytes(), read(path, "a")
    row = np.frombuffer(content, np.uint8)  # as cv2.imencode and np.fromfile give it
    for given in (content, bytearray(content), memoryview(content), io.BytesIO(content), os.fsencode(path), row):
        np.testing.assert_array_equal(read(given, "a"), expected, strict=True)
    (entry,) = os.scandir(tmp_path)
    np.testing.assert_array_equal(read(entry, "a"), expected, strict=True)
    buffer = io.BytesIO()
    buffer.write(content)  # and not brought back to its beginning
    np.testing.assert_array_equal(read(buffer, "a"), expected, strict=True)
    with pytest.raises(ImageError, match=f"{WIDTH} x {HEIGHT} pixels are more than the limit of 10"):
        read(content, "a", 10)
    with pytest.raises(ImageError, match=r"a: (damaged or truncated|not an image)"):
        read(content[: len(content) // 2], "a")


def closed():
    file = io.BytesIO(b"\xff\xd8\xff")
    file.close()
    return file


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"None, where an image was expected\. cv2\.imread gives None where it cannot read a file"),
        (b"", r"an empty file \(0 bytes\)"),
        (b"\0\1\2 no image", "not an image that can be read"),
        (b"nowhere.png", "bytes that are neither the contents of an image that can be read nor a file's path"),
        (b"<html>404 not found</html>", "bytes that are neither"),
        ("", "an empty path"),
        (io.StringIO("text"), r"a file that was opened as text; open it as binary"),
        (io.TextIOWrapper(io.BytesIO(b"\xff\xd8\xff")), r"a file that was opened as text; open it as binary"),
        (closed(), r"a file that is closed; open it again"),
        (object(), r"object, where an image was expected\. Give a path, an array"),
        (3, "int, where an image was expected"),
        (np.array(["a.png", "b.png"]), "ndarray, where an image was expected"),
        ([], r"an array of shape \(0,\)"),
    ],
    ids=range(13),
)
def test_what_is_no_image_is_named(given, message):
    with pytest.raises(ImageError, match=f"^a: {message}"):
        read(given, "a")


def test_the_order_of_an_array_s_channels_can_be_said(tmp_path):
    array = colour()
    np.testing.assert_array_equal(read(array[..., ::-1], "a", colour="bgr"), array, strict=True)
    np.testing.assert_array_equal(read(grey(), "a", colour="bgr"), grey()[..., None], strict=True)
    bgra = np.concatenate([array[..., ::-1], array[..., :1]], axis=2)
    np.testing.assert_array_equal(read(bgra, "a", colour="bgr"), array, strict=True)
    np.testing.assert_array_equal(read(torch.from_numpy(array).permute(2, 0, 1).flip(0), "a", colour="bgr"), array)
    Image.fromarray(array).save(tmp_path / "a.png")
    for image in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), Image.fromarray(array)):
        np.testing.assert_array_equal(read(image, "a", colour="bgr"), array, strict=True)
