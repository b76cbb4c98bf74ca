"""An image that is none: the error says what most likely went wrong."""

import numpy as np
import pytest

from patchcore import ImageError
from patchcore.data.formats import absent
from patchcore.data.images import read
from patchcore.data.resolve import resolve


def said(image: object) -> str:
    with pytest.raises(ImageError) as caught:
        read(image, "a", 10**6)
    return caught.value.reason


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("{}/a.png ", "without the spaces, line breaks or quotes"),
        ("'{}/a.png'", "without the spaces, line breaks or quotes"),
        ("{}/a.png\n", "without the spaces, line breaks or quotes"),
        ("{}/*.png", "looks like a pattern"),
        ("~/a.png", "expanduser"),
        ("file://{}/a.png", "is a URL"),
        ("https://example.com/a.png", "is a URL"),
        ("http:/example.com/a.png", "is a URL"),  # what a Path makes of it
        ("{}/https:/example.com/a.png", "is a URL"),  # and a table
        ("{}/~/a.png", "expanduser"),
        ("{}/a.PNG", "but there is a.png: capitals count"),
        ("{}/no\u00e9.png", "accents are stored in another way"),
        ("{}/b.png", "no such file."),
    ],
)
def test_a_path_where_nothing_is(path, expected, tmp_path):
    for name in ("a.png", "noe\u0301.png"):
        (tmp_path / name).touch()
    assert expected in absent(path.format(tmp_path))


def test_backslashes_of_another_system(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    assert said("sub\\a.png") == "no such file, but there is sub/a.png."


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 20, 30), r"transpose\(1, 2, 0\)"),
        ((7, 20, 30), r"array\[\.\.\., None\]"),
        ((2, 2, 2, 2), "C = 1, 3 or 4.$"),
    ],
)
def test_an_array_of_another_layout(shape, expected):
    with pytest.raises(ImageError, match=expected):
        read(np.zeros(shape, np.uint8), "a", 10**6)


def test_an_array_of_whole_numbers_that_are_too_wide():
    assert "array.astype('uint8')" in said(np.zeros((4, 4, 3), np.int32))


def test_what_can_be_no_path():
    assert "no path of a file" in said("a\0b.png")
    assert "b64decode" in said("iVBORw0KGgo" * 1000)  # an image in base64
    assert "b64decode" in said("x" * 300 + ".png")


def test_the_error_of_a_whole_image_as_text_is_short():
    text = "iVBORw0KGgo" * 1000
    with pytest.raises(ImageError, match="too long") as caught:
        read(text, text, 10**6)
    assert len(str(caught.value)) < 300
    [sample] = resolve(text).samples
    with pytest.raises(ImageError, match="too long"):
        read(sample.image, sample.name)


def test_a_pointer_of_git_lfs(tmp_path):
    (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    assert "git lfs pull" in said(tmp_path / "a.png")
