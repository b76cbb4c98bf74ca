"""A small .faiss file beside rows in safetensors: scripts that count such files find it, and our searches follow it."""

import shutil

import faiss
import numpy as np
import pytest

from patchcore import StoreError
from patchcore.inspection import ApproximateFaissNN, ExactNN, FaissNN, NearestNeighbourScorer, PatchCore

NAME = "nnscorer_search_index"


def rows(seed: int = 0, n: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 8)).astype(np.float32)


def saved(folder, search, seed: int = 0, prepend: str = "") -> NearestNeighbourScorer:
    scorer = NearestNeighbourScorer(1, search)
    scorer.fit([rows(seed)])
    folder.mkdir(exist_ok=True)
    scorer.save(folder, prepend=prepend)
    return scorer


def loaded(folder, search, prepend: str = "") -> np.ndarray:
    scorer = NearestNeighbourScorer(1, search)
    scorer.load(folder, prepend)
    return scorer.nn_method.rows()


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("search", [ExactNN, FaissNN])
def test_a_script_that_counts_faiss_files_finds_every_member(search, members, make, network, good, new, tmp_path):
    model = make()
    model.fit([good])
    model.anomaly_scorer.nn_method = search()
    model.anomaly_scorer.fit([np.stack(model.embed(good))])
    for i in range(members):
        model.save_to_path(tmp_path, f"Ensemble-{i + 1}-{members}_" if members > 1 else "")
    count = len([name.name for name in tmp_path.iterdir() if ".faiss" in name.name])
    assert count == members
    for i in range(count):
        again = PatchCore("cpu")
        prepend = f"Ensemble-{i + 1}-{count}_" if count > 1 else ""
        again.load_from_path(tmp_path, "cpu", FaissNN(False, 8), prepend, backbone=network)
        np.testing.assert_allclose(again.predict(new)[0], model.predict(new)[0], rtol=1e-4)


def test_a_marker_says_what_it_is_and_no_more(tmp_path):
    saved(tmp_path, ExactNN(), prepend="m_")
    text = (tmp_path / f"m_{NAME}.faiss").read_text()
    assert text.startswith(f"Not a FAISS index: the rows are in m_{NAME}.safetensors, beside this file.")
    with pytest.raises(RuntimeError):  # FAISS itself does not take it for an index
        faiss.read_index(str(tmp_path / f"m_{NAME}.faiss"))


@pytest.mark.parametrize("search", [ExactNN, FaissNN])
def test_every_search_that_is_given_a_marker_reads_the_rows_beside_it(search, tmp_path):
    saved(tmp_path, ExactNN())
    one = search()
    one.load(tmp_path / f"{NAME}.faiss")
    np.testing.assert_array_equal(one.rows(), rows())
    np.testing.assert_array_equal(loaded(tmp_path, search()), rows())


def test_an_approximate_search_is_made_from_the_rows(tmp_path):
    many = np.random.default_rng(0).standard_normal((600, 64)).astype(np.float32)
    exact = NearestNeighbourScorer(1)
    exact.fit([many])
    exact.save(tmp_path)
    scorer = NearestNeighbourScorer(1, ApproximateFaissNN())
    with pytest.warns(UserWarning, match="600 rows"):
        scorer.load(tmp_path)
    assert scorer.predict([many[:3]])[0].shape == (3,)


def test_one_kind_of_index_takes_the_place_of_the_other(tmp_path):
    for seed, search in enumerate((ExactNN(), FaissNN(), ExactNN())):
        saved(tmp_path, search, seed)
        for reader in (ExactNN(), FaissNN()):
            np.testing.assert_array_equal(loaded(tmp_path, reader), rows(seed))
    saved(tmp_path, FaissNN(), 7)
    np.testing.assert_array_equal(faiss.read_index(str(tmp_path / f"{NAME}.faiss")).reconstruct_n(0, 30), rows(7))


@pytest.mark.parametrize("search", [ExactNN, FaissNN])
def test_a_marker_without_its_rows_says_which_file_is_missing(search, tmp_path):
    saved(tmp_path / "a", ExactNN())
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / f"{NAME}.faiss", tmp_path / "b")
    with pytest.raises(StoreError, match=rf"{NAME}\.faiss: a marker, not an index: its rows are in .* Copy that file"):
        loaded(tmp_path / "b", search())
