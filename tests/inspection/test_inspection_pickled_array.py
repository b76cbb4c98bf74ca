"""Features that patchcore-inspection has pickled are read, and nothing else that a pickle can hold is."""

import contextlib
import pickle
import random
import struct

import faiss
import numpy as np
import pytest
from hostile import Runs

from patchcore import StoreError
from patchcore.inspection import NearestNeighbourScorer
from patchcore.inspection.pickled_array import read

FEATURES = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
PROTOCOLS = range(3, pickle.HIGHEST_PROTOCOL + 1)


def write(path, value, protocol=pickle.HIGHEST_PROTOCOL):
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
    return path


def test_features_that_lie_beside_an_index_are_loaded_with_it(tmp_path):
    index = faiss.IndexFlatL2(8)
    index.add(FEATURES)
    faiss.write_index(index, str(tmp_path / "m_nnscorer_search_index.faiss"))
    write(tmp_path / "m_nnscorer_features.pkl", FEATURES)
    scorer = NearestNeighbourScorer(1)
    scorer.load(tmp_path, "m_")
    np.testing.assert_array_equal(scorer.detection_features, FEATURES)
    scorer.detection_features[0] = 0  # the caller's own, as after a fit
    scorer.save(tmp_path, save_features_separately=True)
    again = NearestNeighbourScorer(1)
    again.load(tmp_path)
    np.testing.assert_array_equal(again.detection_features, scorer.detection_features)
    (tmp_path / "m_nnscorer_features.pkl").unlink()
    scorer.load(tmp_path, "m_")
    assert scorer.detection_features is None


def test_features_of_ours_come_before_a_pickle(tmp_path):
    scorer = NearestNeighbourScorer(1)
    scorer.fit([FEATURES])
    scorer.save(tmp_path, save_features_separately=True)
    write(tmp_path / "nnscorer_features.pkl", FEATURES + 1)
    scorer.load(tmp_path)
    np.testing.assert_array_equal(scorer.detection_features, FEATURES)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8", "<f2"])
def test_every_protocol_and_every_kind_of_float_is_read(protocol, kind, tmp_path):
    value = FEATURES.astype(kind)
    for one in (value, np.asfortranarray(value), value[::2], value[:, ::2]):
        found = read(write(tmp_path / "p", one, protocol))
        assert found.dtype == np.float32
        assert found.flags.writeable
        np.testing.assert_array_equal(found, one.astype(np.float32))


@pytest.mark.parametrize("name", ["numpy.core.numeric", "numpy._core.numeric"])
def test_pickles_of_older_and_newer_numpy_are_read(name, tmp_path):
    data = pickle.dumps(FEATURES, 5)
    own = next(one for one in (b"numpy._core.numeric", b"numpy.core.numeric") if one in data)
    old = b"\x8c" + bytes([len(own)]) + own
    data = data.replace(old, b"\x8c" + bytes([len(name)]) + name.encode())
    frame = data.index(b"\x95")
    data = data[:frame] + data[frame + 9 :]  # the length of a frame would no longer be right
    np.testing.assert_array_equal(read(write(tmp_path / "p", data)), FEATURES)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_a_program_is_refused_and_runs_nothing(protocol, tmp_path):
    path = write(tmp_path / "nnscorer_features.pkl", Runs(tmp_path / "ran"), protocol)
    with pytest.raises(
        StoreError, match=r"nnscorer_features.pkl: refused: it asks for (posix|nt).system\. Expected on"
    ):
        read(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 3), np.int32), np.zeros(3, np.float32), np.zeros((2, 3, 1), np.float32), np.zeros((2, 2), object),
        np.zeros((2, 2), np.complex64), np.zeros((2, 2), [("a", "f4"), ("b", "f4")]), np.float32(3), [FEATURES],
        (FEATURES, FEATURES), {"a": FEATURES}, "text", 3, None, b"bytes", np.dtype("f4"), np.ndarray,
        np.ma.masked_array(FEATURES), np.zeros((2, 2), "U3"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_anything_but_an_array_of_floats_is_refused(value, protocol, tmp_path):
    with pytest.raises(StoreError, match=r"refused: .* Expected one array of floats \(N, D\)"):
        read(write(tmp_path / "p", value, protocol))


HEAD = b"\x80\x05\x8c\x13numpy._core.numeric\x8c\x0b_frombuffer\x93"
F4 = b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02f4\x89\x88\x87R"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"\x80\x05.",
        b"\x80\x05(.",
        HEAD + b".",
        HEAD + b"(C\x04aaaa" + F4 + b"K\x02K\x02\x86\x8c\x01CtR.",  # 4 bytes for 2 x 2
        HEAD + b"(C\x04aaaa" + F4 + b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86\x8c\x01CtR.",  # -1 x -1
        HEAD + b"(C\x04aaaa" + F4 + b"C\x04aaaa\x8c\x01CtR.",  # bytes for a shape
        HEAD + b"(" + F4 + b"h\x00h\x00\x86\x8c\x01CtR.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x05\x8e" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x05r" + struct.pack("<I", 2**31) + b".",
        b"\x80\x05)" + b"\x85" * 1000 + b".",
        b"\x80\x05\x8c\x05numpy\x8c\x04load\x93\x8c\x01x\x85R.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"cbuiltins\neval\n(S'1'\ntR.",
    ],
)
def test_hostile_and_broken_files_are_refused(data, tmp_path):
    with pytest.raises(StoreError, match="p: refused: "):
        read(write(tmp_path / "p", data))


def test_a_damaged_file_is_an_array_or_refused(tmp_path):
    rng = random.Random(0)
    seeds = [pickle.dumps(FEATURES[:3], protocol) for protocol in PROTOCOLS]
    for _ in range(2000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(len(data))] = rng.choice([rng.randrange(256), *b"(.NRKJhrt]}\x80\x85\x86\x93\x94\x95"])
        cut = rng.randrange(len(data))
        path = write(tmp_path / "p", bytes(data[: rng.choice([len(data), len(data), cut])]))
        with contextlib.suppress(StoreError):
            found = read(path)
            assert found.ndim == 2
            assert found.nbytes <= 2 * len(data)


def test_what_is_no_file_or_a_pointer_to_one_says_so(tmp_path):
    with pytest.raises(StoreError, match="a Git LFS pointer, not the file itself"):
        read(write(tmp_path / "p", b"version https://git-lfs.github.com/spec/v1\noid sha256:3cdd\nsize 228\n"))
    with pytest.raises(StoreError, match="refused: "):
        read(tmp_path)
