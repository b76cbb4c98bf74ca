"""Files whose pixels are easily misread, or whose damage is easily missed: the library and the runtime, which read
them with the same code, against what was written, tifffile and OpenCV."""

import io
import itertools
import json
import random
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import patchcore_runtime.formats
import pytest
import tifffile
from image_helpers import UPRIGHT
from patchcore_runtime import ImageError as RuntimeImageError
from patchcore_runtime import images as runtime
from PIL import Image, PngImagePlugin

from patchcore.data import formats, images
from patchcore.data.reading import EXTENSIONS
from patchcore.errors import ImageError

HEIGHT, WIDTH = 40, 56
Y, X = np.mgrid[:HEIGHT, :WIDTH]
GREY = (X * 3 + Y * 2).astype(np.uint8)
DEEP = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 4), np.uint16)


def read(path, max_pixels=10**6):
    """What the library reads; the runtime must read the same, or refuse it for the same reason."""
    try:
        pixels = images.read(path, "a", max_pixels)
    except ImageError as error:
        with pytest.raises(RuntimeImageError, match=re.escape(str(error))):
            runtime.read(path, "a", max_pixels)
        raise
    np.testing.assert_array_equal(runtime.read(path, "a", max_pixels), pixels, strict=True)
    return pixels


def test_the_runtime_has_the_same_code():
    ours, theirs = (Path(one.__file__).parent for one in (formats, patchcore_runtime.formats))
    assert {p.name: p.read_bytes() for p in ours.glob("*.py")} == {p.name: p.read_bytes() for p in theirs.glob("*.py")}


# ---- TIFF


TYPES = [np.uint8, np.uint16, np.int8, np.int16, np.uint32, np.int32, np.float16, np.float32, np.float64]
READ = {
    **dict.fromkeys(itertools.product(["minisblack", "miniswhite", "rgb"], [np.uint8, np.uint16]), True),
    **dict.fromkeys(itertools.product(["minisblack"], [np.int16, np.uint32, np.int32, np.float32]), True),
}


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_tiff_of_any_numbers_is_read_as_it_is_meant_or_refused(tmp_path, dtype, photometric):
    shape = (HEIGHT, WIDTH, 3) if photometric == "rgb" else (HEIGHT, WIDTH)
    whole = np.issubdtype(dtype, np.integer)
    top = min(np.iinfo(dtype).max, 65535) if whole else 1
    array = (np.random.default_rng(0).random(shape) * top).astype(dtype)
    expected = array if array.dtype.itemsize == 1 or not whole else array.astype(np.uint16)
    expected = np.iinfo(dtype).max - array if whole and photometric == "miniswhite" else expected
    storages = [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"bigtiff": True}, {"rowsperstrip": 7}]
    storages += [{"compression": "zlib", "predictor": True}] * whole
    for number, (storage, order) in enumerate(itertools.product(storages, "<>")):
        orientation = number % 8 + 1
        tag = [(274, "H", 1, orientation, False)]
        tifffile.imwrite(tmp_path / "a.tif", array, photometric=photometric, byteorder=order, extratags=tag, **storage)
        if READ.get((photometric, dtype)):
            found = read(tmp_path / "a.tif")
            turned = UPRIGHT[orientation](expected)
            np.testing.assert_array_equal(found if turned.ndim == 3 else found[..., 0], turned, str((storage, order)))
        else:
            with pytest.raises(ImageError, match=r"a TIFF of .*: not read\. Save it with grey or RGB pixels, or give"):
                read(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_turned_grey_tiff_stands_upright(tmp_path, orientation, dtype, compression):
    tag = (274, "H", 1, orientation, False)
    array = GREY.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", compression=compression, extratags=[tag])
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], UPRIGHT[orientation](array))


@pytest.mark.parametrize("unit", [1, 257])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_colour_map_may_fill_8_or_16_bits(tmp_path, unit, order, compression):
    shades = np.random.default_rng(0).integers(0, 256, (3, 256), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        GREY,
        photometric="palette",
        colormap=shades * unit,
        byteorder=order,
        compression=compression,
    )
    found = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, shades.T[GREY])
    np.testing.assert_array_equal(found, cv2.imread(str(tmp_path / "a.tif"))[..., ::-1])


def write_tiff(path, body, order="<", *, bits=8, colours=1, size=(WIDTH, HEIGHT), tags=()):
    """A TIFF of one strip, by hand: any tag, and any kind of pixels. `tags`: (number, type, values)."""
    letters = {1: "B", 3: "H", 4: "I"}
    given = {256: (4, size[:1]), 257: (4, size[1:]), 258: (3, (bits,)), 259: (3, (1,)), 262: (3, (colours,))}
    given |= {273: (4, (8,)), 277: (3, (1,)), 278: (4, size[1:]), 279: (4, (len(body),))}
    given |= {number: (kind, values) for number, kind, values in tags}
    data, entries = b"II*\0"[:2] if order == "<" else b"MM", b""
    extra, at = b"", 8 + len(body) + len(body) % 2
    for number, (kind, values) in sorted(given.items()):
        value = struct.pack(f"{order}{len(values)}{letters[kind]}", *values)
        if len(value) > 4:
            extra, value = extra + value + b"\0" * (len(value) % 2), struct.pack(order + "I", at + len(extra))
        entries += struct.pack(order + "HHI", number, kind, len(values)) + value.ljust(4, b"\0")
    start = at + len(extra)
    directory = struct.pack(order + "H", len(given)) + entries + bytes(4)
    path.write_bytes(data + struct.pack(order + "HI", 42, start) + body + b"\0" * (len(body) % 2) + extra + directory)


def packed(array, bits):
    """Values in so many bits each, every row in whole bytes."""
    return b"".join(
        int("".join(f"{v:0{bits}b}" for v in row).ljust(-(-len(row) * bits // 8) * 8, "0"), 2).to_bytes(
            -(-len(row) * bits // 8), "big"
        )
        for row in array
    )


REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("colours", [0, 1])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_tiff_of_few_bits_uses_the_whole_range(tmp_path, bits, colours, reverse):
    values = (GREY % 2**bits)[:, :53]
    body = packed(values, bits)
    body, order = (body.translate(REVERSED), [(266, 3, (2,))]) if reverse else (body, [])
    write_tiff(tmp_path / "a.tif", body, bits=bits, colours=colours, size=(53, HEIGHT), tags=order)
    top = 2**bits - 1
    np.testing.assert_array_equal(
        read(tmp_path / "a.tif")[..., 0], (values if colours else top - values) * (255 // top)
    )


@pytest.mark.parametrize("order", "<>")
def test_a_tiff_of_12_bits_keeps_its_numbers(tmp_path, order):
    values = GREY.astype(np.uint16) * 16 + 7
    write_tiff(tmp_path / "a.tif", packed(values, 12), order, bits=12)
    try:
        np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], values)
    except ImageError as error:
        assert order == ">", error  # noqa: PT017


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_colour_map_of_few_bits_is_read(tmp_path, bits):
    values = GREY % 2**bits
    shades = np.random.default_rng(0).integers(256, 65536, (3, 2**bits))
    tags = [(320, 3, tuple(shades.ravel().tolist()))]
    write_tiff(tmp_path / "a.tif", packed(values, bits), bits=bits, colours=3, tags=tags)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), shades.T[values] // 256)


@pytest.mark.parametrize("kind", ["unspecified", "unassalpha", "assocalpha"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_of_a_tiff_is_dropped_and_divided_out(tmp_path, kind, compression, channels):
    array = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)
    array[..., -1] |= 128
    tifffile.imwrite(
        tmp_path / "a.tif",
        array,
        photometric="rgb" if channels == 4 else "minisblack",
        planarconfig="contig",
        extrasamples=[kind],
        compression=compression,
    )
    colours, alpha = array[..., :-1].astype(int), array[..., -1:]
    expected = np.minimum(255, colours * 255 // alpha) if kind == "assocalpha" else colours
    assert np.abs(read(tmp_path / "a.tif").astype(int) - expected).max() <= (kind == "assocalpha")


@pytest.mark.parametrize("kind", ["unspecified", "unassalpha"])
@pytest.mark.parametrize("storage", [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"tile": (16, 16)}])
def test_16_bit_colours_with_a_fourth_channel_are_read(tmp_path, kind, storage):
    tifffile.imwrite(tmp_path / "a.tif", DEEP, photometric="rgb", extrasamples=[kind], **storage)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), DEEP[..., :3])


@pytest.mark.parametrize("storage", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"rowsperstrip": 7}])
def test_planes_of_8_bits_are_read_and_deeper_ones_refused(tmp_path, storage):
    planes = np.ascontiguousarray(DEEP[..., :3].transpose(2, 0, 1))
    shallow = (planes >> 8).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", shallow, photometric="rgb", planarconfig="separate", **storage)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), shallow.transpose(1, 2, 0))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", **storage)
    with pytest.raises(ImageError, match="a TIFF with its channels in separate planes: not read"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_deflate", "group3", "group4"])
def test_compressed_black_and_white_is_read_as_libtiff_does(tmp_path, compression):
    bits = GREY > 90
    Image.fromarray(bits).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], bits * np.uint8(255))
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], cv2.imread(str(tmp_path / "a.tif"), 0))


def test_floats_stored_by_their_differences_are_read(tmp_path):
    array = np.random.default_rng(0).random((HEIGHT, WIDTH), np.float32)
    Image.fromarray(array).save(tmp_path / "a.tif", compression="tiff_adobe_deflate", tiffinfo={317: 3})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].predictor == 3
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], array)


@pytest.mark.parametrize(
    ("tags", "what"),
    [
        ([(339, 3, (2,))], "8-bit signed numbers"),
        ([(339, 3, (4,))], "8-bit undefined numbers"),
        ([(262, 3, (8,))], "colour space 8"),
        ([(262, 3, (32803,))], "colour space 32803"),
        ([(262, 3, (6,)), (277, 3, (3,)), (258, 3, (8, 8, 8))], "YCbCr without JPEG"),
        ([(277, 3, (4,)), (258, 3, (8, 8, 8, 8)), (262, 3, (5,)), (332, 3, (2,))], "other inks than CMYK"),
        ([(277, 3, (4,)), (258, 3, (8, 8, 8, 8)), (262, 3, (5,)), (336, 3, (10, 240))], "other inks than CMYK"),
        ([(277, 3, (3,)), (258, 3, (8, 8, 16)), (262, 3, (2,))], "3 channels with 8, 8, 16 bits"),
        ([(277, 3, (3,)), (258, 3, (8, 8, 8))], "3 channels with 8, 8, 8 bits in colour space 1"),
        ([(258, 3, (10,))], "10-bit numbers"),
        ([(258, 3, (16,)), (266, 3, (2,))], "bits are in reverse order"),
        ([(317, 3, (2,))], "a predictor without a compression"),
        ([(262, 3, (0,)), (266, 3, (2,))], "bits are in reverse order"),
        ([(262, 3, (3,)), (266, 3, (2,)), (320, 3, (0,) * 768)], "bits are in reverse order"),
        ([(259, 3, (6,))], "compression 6"),
        ([(259, 3, (34676,))], "compression 34676"),
        ([(32997, 4, (5,))], "a volume"),
    ],
)
def test_what_is_not_known_to_be_read_rightly_is_refused(tmp_path, tags, what):
    write_tiff(tmp_path / "a.tif", bytes(HEIGHT * WIDTH * 4), tags=tags)
    with pytest.raises(ImageError, match=rf"a: a TIFF .*{what}.*: not read\. Save it with grey or RGB pixels, or give"):
        read(tmp_path / "a.tif")


def test_metadata_that_make_no_sense_do_no_harm(tmp_path):
    tags = [(34665, 4, (5,)), (330, 4, (0,)), (34675, 1, tuple(range(200))), (282, 3, (0,)), (305, 4, (9,) * 9)]
    write_tiff(tmp_path / "a.tif", GREY.tobytes(), tags=tags)
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], GREY)


@pytest.mark.parametrize("bits", [1, 8, 16])
@pytest.mark.parametrize("colours", [0, 1])
def test_one_channel_may_be_said_to_be_a_plane(tmp_path, bits, colours):
    values = GREY.astype(np.uint16) * 257 if bits == 16 else GREY & np.uint8(2**bits - 1)
    body = packed(values, bits) if bits == 1 else values.tobytes()
    write_tiff(tmp_path / "a.tif", body, bits=bits, colours=colours, tags=[(284, 3, (2,))])
    top = 2**bits - 1
    expected = (values if colours else top - values) * (255 if bits == 1 else 1)
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], expected)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_an_orientation_that_there_is_not_turns_nothing(tmp_path, orientation, compression):
    tag = (274, "H", 1, orientation, False)
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="minisblack", compression=compression, extratags=[tag])
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], GREY)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("offset", [[], [9]])
def test_strips_of_16_bit_colours_lie_where_the_file_says(tmp_path, order, offset):
    rows = [DEEP[:16], DEEP[16:32], DEEP[32:]]
    bodies = [row.astype(f"{order}u2").tobytes() for row in rows]
    places = (8 + len(bodies[1]) + len(bodies[2]), 8, 8 + len(bodies[1]))  # the first one is the last in the file
    tags = [(277, 3, (4,)), (258, 3, (16,) * 4), (338, 3, (2,)), (278, 3, (16,))]
    tags += [(273, 4, (*places, *offset)), (279, 4, (*map(len, bodies), *offset))]
    write_tiff(tmp_path / "a.tif", b"".join((bodies[1], bodies[2], bodies[0])), order, bits=16, colours=2, tags=tags)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), DEEP[..., :3])


@pytest.mark.parametrize("tags", [[(273, 4, (9,))], [(273, 4, (2**31,))], [(278, 3, (16,))]])
def test_16_bit_colours_whose_strips_are_not_there_are_refused(tmp_path, tags):
    tags = [(277, 3, (3,)), (258, 3, (16,) * 3), *tags]
    write_tiff(tmp_path / "a.tif", DEEP[..., :3].tobytes()[:-300], bits=16, colours=2, tags=tags)
    with pytest.raises(ImageError, match="damaged or truncated: it is cut off"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK"])
@pytest.mark.parametrize("tags", [{}, {278: 16}])
def test_a_jpeg_within_a_tiff_is_read_and_a_hole_in_it_is_an_error_or_a_warning(tmp_path, mode, tags):
    Image.fromarray(photo()).convert(mode).save(tmp_path / "a.tif", compression="jpeg", tiffinfo=tags)
    assert warnings_of(tmp_path / "a.tif") == []
    found = read(tmp_path / "a.tif")
    theirs = cv2.imread(str(tmp_path / "a.tif"), cv2.IMREAD_UNCHANGED)
    theirs = theirs[..., 2::-1] if theirs.ndim == 3 else theirs[..., None]
    assert np.abs(found.astype(int) - theirs).max() <= (mode == "CMYK")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match="a: damaged: its compressed data do not end where its pixels do"):
        read(tmp_path / "a.tif")
    assert len(warnings_of(tmp_path / "a.tif")) == 1


def write_pages(path, *pages):
    with tifffile.TiffWriter(path) as file:
        for array, kind in pages:
            file.write(array, photometric="minisblack", subfiletype=kind, metadata=None)


SMALL = GREY[::4, ::4].copy()


@pytest.mark.parametrize(
    "pages",
    [
        [(GREY, 0), (SMALL, 1)],
        [(SMALL, 1), (GREY, 0)],
        [(SMALL, 1), (GREY, 2), (SMALL[::2].copy(), 1)],
        [(GREY, 1)],  # all that there is
    ],
)
def test_of_several_pages_the_only_one_of_full_resolution_is_read(tmp_path, pages):
    write_pages(tmp_path / "a.tif", *pages)
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], GREY)


def test_a_page_of_full_resolution_may_be_below_its_thumbnail(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(SMALL, photometric="minisblack", subfiletype=1, subifds=1, metadata=None)
        file.write(GREY, photometric="minisblack", subfiletype=0, metadata=None)
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[..., 0], GREY)


@pytest.mark.parametrize("pages", [[(GREY, 0), (255 - GREY, 0)], [(SMALL, 0), (GREY, 0)], [(SMALL, 1), (SMALL, 1)]])
def test_of_several_pages_none_is_guessed(tmp_path, pages):
    write_pages(tmp_path / "a.tif", *pages)
    with pytest.raises(ImageError, match=r"a TIFF with 2 pages of full resolution; expected one image\. Save the one"):
        read(tmp_path / "a.tif")


def test_a_stack_in_one_page_is_refused(tmp_path):
    text = tuple(b"ImageJ=1.54f\nimages=3\nslices=3\n\0")
    write_tiff(tmp_path / "a.tif", bytes(3 * HEIGHT * WIDTH), tags=[(270, 1, text)])
    with pytest.raises(ImageError, match="a stack of 3 images; expected one image"):
        read(tmp_path / "a.tif")


# ---- animations


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_an_animation_is_refused(tmp_path, suffix):
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], duration=50)
    with pytest.raises(ImageError, match=r"a: an animated (PNG|WebP); expected one image"):
        read(tmp_path / f"a.{suffix}")


# ---- PNG


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(path, *chunks, array=GREY, after=()):
    """A PNG that has these chunks before its pixels, and others after them."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    data = file.getvalue()
    at = data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + b"".join(chunks) + data[at:-12] + b"".join(after) + data[-12:])


BIG = b"a" * 2_000_000


@pytest.mark.parametrize(
    "odd",
    [
        chunk(b"zTXt", b"settings\0\0" + zlib.compress(BIG)),
        chunk(b"iTXt", b"settings\0\1\0\0\0" + zlib.compress(BIG)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(BIG)),
        chunk(b"tEXt", b"settings\0" + BIG),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2_000_000))),
        chunk(b"iCCP", b"profile\0\0not compressed"),
        chunk(b"zTXt", b"Raw profile type exif\0\0not compressed"),
        chunk(b"zTXt", b"no end of its keyword"),
        chunk(b"eXIf", b"no EXIF at all"),
        chunk(b"pHYs", b"?"),
        chunk(b"gAMA", b""),
        chunk(b"cHRM", b"123"),
        chunk(b"tIME", bytes(3)),
        chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b")) * 3000,
        chunk(b"tEXt", b"a\0b")[:-4] + b"????",  # a wrong sum over what nobody reads
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_metadata_of_a_png_make_it_no_error(tmp_path, odd, deep):
    array = GREY.astype(np.uint16) * 257 if deep else GREY
    for places in ({"after": ()}, {"after": (odd,)}):
        png_with(tmp_path / "a.png", *(() if places["after"] else (odd,)), array=array, **places)
        np.testing.assert_array_equal(read(tmp_path / "a.png")[..., 0], array)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_orientation_in_the_text_of_a_png_is_applied(tmp_path, compressed):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=compressed)
    Image.fromarray(GREY).save(tmp_path / "a.png", pnginfo=info)
    np.testing.assert_array_equal(read(tmp_path / "a.png")[..., 0], np.rot90(GREY, -1))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("left", [0.3, 0.7, 0.95])
def test_a_png_that_is_cut_off_or_altered_is_refused(tmp_path, deep, left):
    array = DEEP[..., :3] if deep else (DEEP[..., :3] >> 8).astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), array)
    data = bytearray((tmp_path / "a.png").read_bytes())
    at = int(len(data) * left)
    (tmp_path / "a.png").write_bytes(data[:at])
    with pytest.raises(ImageError, match="damaged or truncated"):
        read(tmp_path / "a.png")
    data[at] ^= 255
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="damaged or truncated"):
        read(tmp_path / "a.png")


# ---- JPEG


def photo(side=160, seed=0):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(side, side)), (0, 0), 1.5)
    grey = 90 + 60 * np.hypot(*np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]) + 120 * noise
    return np.stack([grey, grey * 0.8, grey * 0.6], -1).clip(0, 255).astype(np.uint8)


KINDS = [
    {"quality": 90},
    {"quality": 95, "subsampling": 0},
    {"quality": 60, "optimize": True},
    {"quality": 90, "restart_marker_rows": 1},
    {"quality": 90, "restart_marker_blocks": 5},
    {"quality": 85, "progressive": True},
    {"quality": 95, "progressive": True, "restart_marker_rows": 2},
]


def jpeg(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", **options)
    return file.getvalue()


def warnings_of(path):
    """What the library and the runtime say of a file that they read all the same."""
    ours, theirs = list[str](), list[str]()
    pixels = images.read(path, "a", warnings=ours)
    np.testing.assert_array_equal(runtime.read(path, "a", warnings=theirs), pixels)
    assert ours == theirs
    return ours


@pytest.mark.parametrize("options", KINDS)
def test_nothing_is_said_of_an_intact_jpeg(tmp_path, options):
    flat = np.full((90, 75, 3), 200, np.uint8)
    for array in (photo(), photo(121)[..., 0], flat, flat[..., 0], photo(8), photo(200)[:7]):
        data = jpeg(np.ascontiguousarray(array), **options)
        (tmp_path / "a.jpg").write_bytes(data)
        assert warnings_of(tmp_path / "a.jpg") == []
        with Image.open(tmp_path / "a.jpg") as image:
            expected = np.asarray(image)
        np.testing.assert_array_equal(read(tmp_path / "a.jpg"), expected if expected.ndim == 3 else expected[..., None])
        (tmp_path / "a.jpg").write_bytes(data + b"appended by a camera\xff\xd9\xff\xd8")
        assert warnings_of(tmp_path / "a.jpg") == []


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("grey", [False, True])
def test_a_jpeg_with_a_hole_is_an_error_or_a_warning(tmp_path, options, grey):
    data = bytearray(jpeg(photo()[..., 0] if grey else photo(), **options))
    data[len(data) // 3 : len(data) // 3 + 512] = b"" if grey else bytes(512)
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=r"a: damaged: its compressed data do not end where its pixels do"):
        read(tmp_path / "a.jpg")
    assert len(warnings_of(tmp_path / "a.jpg")) == 1


LIBJPEG = """
import json, os, sys, tempfile
import cv2, numpy as np
said = []
for line in sys.stdin.read().split():
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        cv2.imdecode(np.frombuffer(bytes.fromhex(line), np.uint8), cv2.IMREAD_UNCHANGED)
        os.dup2(before, 2)
        os.close(before)
        file.seek(0)
        said.append(bool(file.read()))
print(json.dumps(said))
"""


def test_most_of_what_libjpeg_warns_of_is_noticed(tmp_path):
    draw, files = random.Random(0), list[bytes]()
    for number in range(140):
        data = bytearray(jpeg(photo(seed=number % 3), **KINDS[number % 7]))
        at = draw.randrange(700, len(data) - 4)
        if number % 3 == 0:
            data[at : min(at + 300, len(data) - 2)] = bytes(min(300, len(data) - 2 - at))
        elif number % 3 == 1:
            data[at] ^= 1 << draw.randrange(8)
        else:
            del data[at : min(at + 40, len(data) - 2)]
        files.append(bytes(data))
    lines = "\n".join(data.hex() for data in files)
    done = subprocess.run([sys.executable, "-c", LIBJPEG], input=lines, capture_output=True, text=True, check=True)
    noticed = []
    for data, warned in zip(files, json.loads(done.stdout), strict=True):
        (tmp_path / "a.jpg").write_bytes(data)
        try:
            said = bool(warnings_of(tmp_path / "a.jpg"))
        except ImageError:
            continue
        assert warned or not said  # no false alarm
        noticed += [said] * warned
    assert len(noticed) > 30
    assert sum(noticed) > 0.85 * len(noticed)


def test_a_jpeg_in_pieces_or_with_odd_metadata_is_read(tmp_path):
    data = jpeg(photo(), quality=90)
    odd = b"".join(b"\xff" + marker + struct.pack(">H", len(body) + 2) + body for marker, body in ODD)
    (tmp_path / "a.jpg").write_bytes(data)
    expected = read(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(data[:2] + odd + data[2:])
    np.testing.assert_array_equal(read(tmp_path / "a.jpg"), expected)


ODD = [
    (b"\xe1", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
    (b"\xe1", b"Exif\0\0nothing"),
    (b"\xe1", b"http://ns.adobe.com/xap/1.0/\0<no xml"),
    (b"\xe2", b"ICC_PROFILE\0\1\2half"),
    (b"\xe2", b"MPF\0MM\0*\0\0"),
    (b"\xed", b"Photoshop 3.0\0" + b"8BIM" * 9),
    (b"\xfe", b"\xff\xd9\xff\xda"),
]


@pytest.mark.parametrize("left", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("options", KINDS)
def test_a_jpeg_that_is_cut_off_is_refused(tmp_path, options, left):
    data = jpeg(photo(), **options)
    (tmp_path / "a.jpg").write_bytes(data[: int(len(data) * left)])
    with pytest.raises(ImageError, match="damaged or truncated"):
        warnings_of(tmp_path / "a.jpg")


# ---- PGM and PPM


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pgm_and_ppm_are_read(tmp_path, dtype, top, channels):
    array = (DEEP[..., :channels] >> (0 if top > 255 else 8)).astype(dtype)
    body = array.astype(np.dtype(dtype).newbyteorder(">")).tobytes()
    header = f"P{5 if channels == 1 else 6}\n# made by a camera\n{WIDTH} {HEIGHT}\n{top}\n".encode()
    (tmp_path / "a.ppm").write_bytes(header + body)
    found = read(tmp_path / "a.ppm")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)
    (tmp_path / "a.ppm").write_bytes(header + body[:-1])
    with pytest.raises(ImageError, match="damaged or truncated"):
        read(tmp_path / "a.ppm")
    (tmp_path / "a.ppm").write_bytes((header + body) * 2)
    with pytest.raises(ImageError, match="with more than an image in it; expected one image"):
        read(tmp_path / "a.ppm")


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gap", [" ", "\n", " # a comment 9\n"])
def test_pgm_and_ppm_may_be_ascii(tmp_path, dtype, top, channels, gap):
    array = (DEEP[..., :channels] >> (0 if top > 255 else 8)).astype(dtype)
    header = f"P{2 if channels == 1 else 3}\n# made by hand\n{WIDTH} {HEIGHT}\n{top}\n"
    text = header + gap.join(map(str, array.ravel().tolist())) + "\n"
    (tmp_path / "a.ppm").write_text(text)
    found = read(tmp_path / "a.ppm")
    np.testing.assert_array_equal(found, array, strict=True)
    if "#" not in gap:
        theirs = cv2.imread(str(tmp_path / "a.ppm"), cv2.IMREAD_UNCHANGED).reshape(found.shape)
        np.testing.assert_array_equal(found, theirs[..., ::-1], strict=True)
    for contents in (text.encode(), bytearray(text.encode())):  # not taken for a path, though without a zero byte
        np.testing.assert_array_equal(images.read(contents, "a"), array)
        np.testing.assert_array_equal(runtime.read(contents, "a"), array)
    for wrong, message in [
        (text[:-9].rpartition(gap)[0], "cut off"),
        (text + " 7", "with more than an image in it"),
        (text.rstrip()[:-1] + "x\n", "not all whole numbers"),
        (text.rstrip()[:-1] + "99999\n", f"a value of .*, where {top} is the most"),
    ]:
        (tmp_path / "a.ppm").write_text(wrong)
        with pytest.raises(ImageError, match=message):
            read(tmp_path / "a.ppm")


def test_a_long_ascii_image_is_read_in_pieces(tmp_path):
    array = np.random.default_rng(0).integers(0, 65536, (500, 700), np.uint16)
    for gap in (" ", "\n"):
        text = "P2 700 500 65535\n" + gap.join(map(str, array.ravel().tolist()))
        assert len(text) > 2**20
        (tmp_path / "a.pgm").write_text(text)
        np.testing.assert_array_equal(read(tmp_path / "a.pgm")[..., 0], array)


@pytest.mark.parametrize("header", [b"P5 4 4 1023\n", b"P5 4 4 0\n", b"P5 0 4 255\n", b"P6 x\n"])
def test_other_values_in_a_pgm_are_refused(tmp_path, header):
    (tmp_path / "a.pgm").write_bytes(header + bytes(99))
    with pytest.raises(ImageError, match=r"whose values do not go up to 255 or 65535\. Save it as PNG"):
        read(tmp_path / "a.pgm")


@pytest.mark.parametrize("suffix", sorted(EXTENSIONS))
def test_the_limit_holds_for_every_format(tmp_path, suffix):
    Image.fromarray(GREY).save(tmp_path / f"a{suffix}")
    with pytest.raises(ImageError, match="a: 56 x 40 pixels are more than the limit of 2239"):
        read(tmp_path / f"a{suffix}", HEIGHT * WIDTH - 1)
    assert read(tmp_path / f"a{suffix}", HEIGHT * WIDTH).shape[:2] == (HEIGHT, WIDTH)


# ---- memory

# Reads pairs of images, of which the first is small: everything is loaded then. A pair is a line of standard input, and
# has a process of its own, as peaks of one hide behind those of another.
PEAK = """
import os, resource, sys
if sys.argv[1] == "no":
    sys.modules["cv2"] = None
    from patchcore_runtime import images
else:
    import cv2
    from patchcore.data import images
for line in sys.stdin:
    if os.fork() == 0:
        for path in line.rstrip("\\n").split("\\t"):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            pixels = images.read(path, "a")
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(more * 1024 / (pixels.shape[0] * pixels.shape[1]), flush=True)
        os._exit(0)
    if os.wait()[1]:
        print("nan", flush=True)
"""


@pytest.fixture(scope="module", params=["yes", "no"])
def peak(request):
    """Bytes for each pixel of the second image that reading it takes more than reading the first one: with OpenCV?"""
    command = [sys.executable, "-c", PEAK, request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def measured(*paths):
            process.stdin.write("\t".join(map(str, paths)) + "\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        yield measured
        process.stdin.close()


def write_any(path, array, how):
    if how == "cv2":
        assert cv2.imwrite(str(path), array)
    elif how in ("CMYK", "RGB"):
        Image.fromarray(array[..., :3]).convert(how).save(path)
    else:
        storage = {"extrasamples": ["unassalpha"]} if array.shape[2:] == (4,) else {}
        tifffile.imwrite(
            path, array, photometric="rgb" if array.ndim == 3 else "minisblack", compression=how, **storage
        )


@pytest.mark.parametrize(
    ("suffix", "dtype", "channels", "how"),
    [
        ("jpg", np.uint8, 4, "CMYK"),
        ("webp", np.uint8, 3, "RGB"),
        ("png", np.uint16, 4, "cv2"),
        ("tif", np.uint8, 4, "CMYK"),
        ("tif", np.uint16, 4, None),
        ("tif", np.uint16, 3, "zlib"),
        ("tif", np.float32, 0, None),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="how the peak is counted")
def test_reading_holds_less_than_16_bytes_a_pixel(peak, tmp_path, suffix, dtype, channels, how):
    side = 1500
    shape = (side, side, channels) if channels else (side, side)
    array = (np.arange(np.prod(shape)).reshape(shape) % 251 / (1 if dtype == np.uint8 else 251)).astype(np.float32)
    array = (array * 65535).astype(dtype) if dtype == np.uint16 else array.astype(dtype)
    write_any(tmp_path / f"small.{suffix}", np.ascontiguousarray(array[:8, :8]), how)
    write_any(tmp_path / f"large.{suffix}", array, how)
    found = peak(tmp_path / f"small.{suffix}", tmp_path / f"large.{suffix}")
    assert 0 < found < 16
