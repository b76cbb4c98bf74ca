import io
import json
import os
import stat
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from patchcore.detector import Detector
from patchcore.errors import StoreError, UsageError
from patchcore.model import store


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "bank.rows": torch.randn(7, 5, generator=generator).half(),
        "bank.origins": torch.arange(21, dtype=torch.int32).view(7, 3),
        "weights.a.weight": torch.randn(3, 2, 2, generator=generator),
        "weights.a.count": torch.tensor(12),
        "weights.a.flags": torch.tensor([True, False, True]),
        "weights.a.none": torch.zeros(0, 4),
    }


HEADER = {
    "recipe": {"size": 256, "ratio": 1e-05, "names": ["Tür", "部品", 'quote " and \\ and \n']},
    "calibration": {"scores": [0.1, 2.5, 1 / 3], "threshold": None},
    "versions": {"patchcore": "0.1.0"},
}


def contents(path):
    """Length of the safetensors header, and the header."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return length, json.loads(data[8 : 8 + length])


def forge(path, header, given=None):
    """A file whose header says anything, with a SHA-256 that does not have to match."""
    save_file(
        given or tensors(), path, metadata={"patchcore": header if isinstance(header, str) else json.dumps(header)}
    )


# ---- there and back


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "a.patchcore"
    store.write(path, tensors(), HEADER)
    got, header = store.read(path)
    assert set(got) == set(tensors())
    for name, tensor in tensors().items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)
    assert {name: header[name] for name in HEADER} == HEADER
    assert header["format"] == store.FORMAT


def test_views_and_other_layouts_are_written_as_what_they_show(tmp_path):
    base = torch.arange(24).view(4, 6)
    store.write(tmp_path / "a", {"columns": base[:, ::2], "turned": base.T}, {})
    got, _ = store.read(str(tmp_path / "a"))
    assert torch.equal(got["columns"], base[:, ::2])
    assert torch.equal(got["turned"], base.T)


def test_the_hash_that_is_returned_stands_in_the_file(tmp_path):
    digest = store.write(tmp_path / "a", tensors(), HEADER)
    assert len(digest) == 64
    assert store.read(tmp_path / "a")[1]["sha256"] == digest


def test_the_same_contents_are_the_same_bytes_wherever_and_whenever(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    store.write(tmp_path / "a", tensors(), HEADER)
    backwards = {name: HEADER[name] for name in reversed(HEADER)}
    store.write(tmp_path / "deep" / "er" / "b", {k: v for k, v in reversed(tensors().items())}, backwards)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "deep" / "er" / "b").read_bytes()


def test_any_other_contents_have_another_hash(tmp_path):
    changed = tensors()
    changed["bank.rows"][3, 3] += 1
    renamed = tensors()
    renamed["other"] = renamed.pop("bank.rows")
    reshaped = {**tensors(), "bank.rows": tensors()["bank.rows"].view(5, 7)}
    retyped = {**tensors(), "bank.rows": tensors()["bank.rows"].view(torch.bfloat16)}
    digests = [
        store.write(tmp_path / "a", given, header)
        for given, header in [
            (tensors(), HEADER),
            (changed, HEADER),
            (renamed, HEADER),
            (reshaped, HEADER),
            (retyped, HEADER),
            (tensors(), {**HEADER, "seed": 1}),
        ]
    ]
    assert len(set(digests)) == len(digests)


def test_the_header_is_sorted_and_holds_neither_paths_nor_times(tmp_path):
    path = tmp_path / "a.patchcore"
    store.write(path, tensors(), HEADER)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert list(metadata) == ["patchcore"]
    pairs = json.loads(metadata["patchcore"], object_pairs_hook=lambda pairs: [name for name, _ in pairs])
    assert pairs == sorted(pairs)
    assert set(pairs) == {*HEADER, "format", "sha256"}
    assert str(tmp_path).encode() not in path.read_bytes()


def test_nested_parts_of_the_header_are_sorted_too(tmp_path):
    store.write(tmp_path / "a", {}, {"z": {"b": 1, "a": {"d": 1, "c": 2}}})
    data = (tmp_path / "a").read_bytes()
    assert data.index(b'c\\":2') < data.index(b'd\\":1') < data.index(b'b\\":1')


def test_names_that_are_no_unicode_are_kept(tmp_path):
    # What os.listdir gives on Linux for a file name in Latin-1.
    name = os.fsdecode(b"T\xfcr.png")
    store.write(tmp_path / "a", tensors(), {"images": [name]})
    assert store.read(tmp_path / "a")[1]["images"] == [name]


def test_a_second_write_replaces_the_file(tmp_path):
    store.write(tmp_path / "a", tensors(), HEADER)
    store.write(tmp_path / "a", {"x": torch.ones(2)}, {})
    assert set(store.read(tmp_path / "a")[0]) == {"x"}
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    store.write(tmp_path / "a", tensors(), HEADER)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


# ---- writing that fails


def test_a_folder_that_is_missing_is_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(StoreError, match=r"the folder .*none does not exist\. Create it first"):
        store.write(tmp_path / "none" / "a", tensors(), HEADER)
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_file_s_place_is_an_error_that_leaves_nothing_behind(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kept").touch()
    with pytest.raises((OSError, StoreError), match="a"):
        store.write(tmp_path / "a", tensors(), HEADER)
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["kept"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_a_header_that_is_no_json_leaves_the_old_file_alone(tmp_path, value):
    store.write(tmp_path / "a", tensors(), HEADER)
    before = (tmp_path / "a").read_bytes()
    with pytest.raises((ValueError, TypeError), match="JSON"):
        store.write(tmp_path / "a", tensors(), {"threshold": value})
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == before


def test_tensors_that_cannot_be_stored_leave_the_old_file_alone(tmp_path):
    store.write(tmp_path / "a", tensors(), HEADER)
    before = (tmp_path / "a").read_bytes()
    with pytest.raises(Exception, match=r"(?i)float32|sparse|layout|support"):
        store.write(tmp_path / "a", {"x": torch.eye(3).to_sparse()}, HEADER)
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == before


# ---- reading what is not right


def test_a_missing_file(tmp_path):
    with pytest.raises(StoreError, match=r"none: no such file"):
        store.read(tmp_path / "none")
    with pytest.raises(StoreError, match=r"https://x\.y/m\.patchcore: no such file\. It is a URL"):
        store.read("https://x.y/m.patchcore")
    with pytest.raises(StoreError, match="File name too long"):
        store.read("x" * 5000)


@pytest.mark.parametrize("given", [b"bytes", io.BytesIO(), None, 3, "a\0b"])
def test_what_is_no_path_is_wrong_usage(given):
    for function in (store.read, lambda path: store.write(path, {}, {})):
        with pytest.raises(UsageError, match=r"got (bytes|BytesIO|NoneType|int|a text with a zero in it); "):
            function(given)


def test_a_pointer_of_git_lfs(tmp_path):
    (tmp_path / "a").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    with pytest.raises(StoreError, match="a pointer of Git LFS, not the file itself; `git lfs pull` gets that"):
        store.read(tmp_path / "a")


@pytest.mark.parametrize("data", [b"", b"not a detector\n" * 100, b"\0" * 64, b"\xff" * 64, b"\x80\x04\x95pickle"])
def test_a_file_of_another_kind(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(StoreError, match=r"a: not a detector, or a damaged one \(.+\)\. Copy it again, or fit again"):
        store.read(tmp_path / "a")


def test_a_folder(tmp_path):
    with pytest.raises(StoreError, match="a folder; expected the file of a detector"):
        store.read(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_foreign_safetensors_file(tmp_path, metadata):
    save_file(tensors(), tmp_path / "a", metadata=metadata)
    with pytest.raises(StoreError, match=r"a: a safetensors file, but not a detector\. Fit one with `patchcore fit"):
        store.read(tmp_path / "a")


def test_a_truncated_file_at_every_length(tmp_path):
    path = tmp_path / "a"
    store.write(path, tensors(), HEADER)
    data = path.read_bytes()
    for length in range(0, len(data), 13):
        path.write_bytes(data[:length])
        with pytest.raises(StoreError, match="not a detector, or a damaged one"):
            store.read(path)


def test_a_file_with_something_behind_it(tmp_path):
    store.write(tmp_path / "a", tensors(), HEADER)
    with (tmp_path / "a").open("ab") as file:
        file.write(b"more")
    with pytest.raises(StoreError, match="not a detector, or a damaged one"):
        store.read(tmp_path / "a")


@pytest.mark.parametrize("mask", [0x01, 0x14])  # one bit; and what turns "-" into "9", as in 1e-05
def test_a_byte_altered_anywhere_is_noticed(tmp_path, mask):
    path = tmp_path / "a"
    store.write(path, tensors(), HEADER)
    data = path.read_bytes()
    length, _ = contents(path)
    # Every byte of the header, and some of the tensors.
    for offset in (*range(8 + length), *range(8 + length, len(data), 11), len(data) - 1):
        altered = bytearray(data)
        altered[offset] ^= mask
        path.write_bytes(altered)
        try:
            got, header = store.read(path)
        except StoreError:
            continue
        # JSON allows other white space, and \u escapes: the contents are still what was written.
        assert offset < 8 + length, f"byte {offset} of the tensors"
        assert {name: header[name] for name in HEADER} == HEADER, f"byte {offset}"
        assert all(torch.equal(got[name], tensor) for name, tensor in tensors().items()), f"byte {offset}"


def test_altered_contents_name_the_hash(tmp_path):
    digest = store.write(tmp_path / "a", tensors(), HEADER)
    data = bytearray((tmp_path / "a").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(StoreError, match=rf"do not match the SHA-256 in the file \({digest[:12]}\.\.\.\).*altered"):
        store.read(tmp_path / "a")


def test_an_altered_header_is_noticed_too(tmp_path):
    path = tmp_path / "a"
    store.write(path, tensors(), HEADER)
    path.write_bytes(path.read_bytes().replace(b"2.5", b"3.5"))
    with pytest.raises(StoreError, match="do not match the SHA-256"):
        store.read(path)


@pytest.mark.parametrize("number", [b"1e905", b"1e+99"])
def test_a_number_altered_to_another_or_to_infinity_is_noticed(tmp_path, number):
    path = tmp_path / "a"
    store.write(path, tensors(), HEADER)
    data = path.read_bytes()
    assert data.count(b"1e-05") == 1
    path.write_bytes(data.replace(b"1e-05", number))
    with pytest.raises(StoreError, match=r"altered|damaged"):
        store.read(path)


def test_a_newer_format_says_who_wrote_it_and_what_to_do(tmp_path):
    forge(tmp_path / "a", {"format": store.FORMAT + 1, "versions": {"patchcore": "9.1"}, "sha256": "?"})
    message = (
        rf"a: format {store.FORMAT + 1}, written by patchcore 9\.1; this version reads formats up to {store.FORMAT}"
    )
    with pytest.raises(StoreError, match=message + r"\. Upgrade: pip install -U patchcore"):
        store.read(tmp_path / "a")


@pytest.mark.parametrize(
    "header", ["", "no JSON", "[]", "3", "null", "{}", '{"format": null}', '{"format": "x"}', '{"format": 1e999}']
)
def test_a_header_that_says_nothing(tmp_path, header):
    forge(tmp_path / "a", header)
    with pytest.raises(StoreError, match=r"a: its header is damaged \(.+\)\. Copy the file again, or fit again"):
        store.read(tmp_path / "a")


def test_a_header_without_a_hash(tmp_path):
    forge(tmp_path / "a", {"format": store.FORMAT})
    with pytest.raises(StoreError, match="do not match the SHA-256"):
        store.read(tmp_path / "a")


# ---- parts of the header


def test_the_versions_are_those_of_what_a_score_depends_on():
    versions = store.versions()
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"patchcore", "numpy", "pillow", "timm", "torch", "torchvision"} <= set(versions)


def test_loading_prepares_no_search_and_counts_none(model_file):
    # Sorting and compiling pay after some searches; the image that a file is tried on must not be one of them.
    bank = Detector.load(model_file).fitted.members[0].bank
    assert "points" not in vars(bank)
