import sys

import faiss
import inspection_golden as golden
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchcore import MissingExtraError, NotFittedError, StoreError, UsageError
from patchcore.inspection import ApproximateFaissNN, ExactNN, FaissNN, NearestNeighbourScorer
from patchcore.model import store

EXACT = {"engine": ExactNN, "faiss": FaissNN}


def values(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.fixture
def many() -> np.ndarray:
    return values(600, 64)


@pytest.mark.parametrize("kind", EXACT)
@given(n=st.integers(1, 40), q=st.integers(1, 30), d=st.integers(1, 12), k=st.integers(1, 5))
def test_distances_are_squared_and_ascend(kind, n, q, d, k):
    rows, queries = values(n, d), values(q, d, 1)
    search = EXACT[kind]()
    search.fit(rows)
    distances, found = search.run(k, queries)
    expected = np.sort(golden.squared_distances(queries, rows), 1)[:, : min(k, n)]
    np.testing.assert_allclose(distances, expected, rtol=1e-3, atol=1e-4)
    of_found = np.take_along_axis(golden.squared_distances(queries, rows), found, 1)
    np.testing.assert_allclose(of_found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", EXACT)
def test_shapes_and_types_are_those_of_the_documents(kind):
    search = EXACT[kind]()
    search.fit(values(20, 5))
    distances, found = search.run(3, values(7, 5, 1))
    assert (distances.shape, distances.dtype) == ((7, 3), np.float32)
    assert (found.shape, found.dtype) == ((7, 3), np.int64)
    assert [array.shape for array in search.run(3, np.empty((0, 5)))] == [(0, 3), (0, 3)]


@pytest.mark.parametrize("kind", EXACT)
def test_other_rows_are_searched_without_forgetting_the_index(kind):
    rows, others, queries = values(20, 5), values(9, 5, 2), values(4, 5, 1)
    search = EXACT[kind]()
    search.fit(rows)
    distances, _ = search.run(1, queries, others)
    np.testing.assert_allclose(distances[:, 0], golden.squared_distances(queries, others).min(1), rtol=1e-4)
    distances, _ = search.run(1, queries)
    np.testing.assert_allclose(distances[:, 0], golden.squared_distances(queries, rows).min(1), rtol=1e-4)


@pytest.mark.parametrize("kind", EXACT)
def test_a_second_fit_forgets_the_first_and_reset_forgets_all(kind):
    search = EXACT[kind]()
    search.fit(values(20, 5))
    search.fit(values(10, 3))
    np.testing.assert_array_equal(search.rows(), values(10, 3))
    search.reset_index()
    assert search.search_index is None
    for use in (lambda: search.run(1, values(2, 3)), search.rows, lambda: search.save("unused")):
        with pytest.raises(NotFittedError, match=r"no search index. Call fit\(features\)"):
            use()


def test_the_engine_s_distance_of_a_row_to_itself_is_zero():
    rows = values(200, 300) * 100
    search = ExactNN()
    search.fit(rows)
    assert search.run(1, rows)[0].max() == 0


@pytest.mark.parametrize("kind", EXACT)
def test_wrong_shapes_are_explained(kind):
    search = EXACT[kind]()
    with pytest.raises(UsageError, match=r"features has shape \(5,\); expected \(N, D\)"):
        search.fit(np.zeros(5))
    with pytest.raises(UsageError, match="at least one row"):
        search.fit(np.zeros((0, 5)))
    search.fit(values(20, 5))
    with pytest.raises(UsageError, match=r"query_features has shape \(2, 4\); expected \(Q, 5\)"):
        search.run(1, values(2, 4))
    with pytest.raises(UsageError, match="n_nearest_neighbours is 0"):
        search.run(0, values(2, 5))


@pytest.mark.parametrize("written", EXACT)
@pytest.mark.parametrize("read", EXACT)
def test_every_exact_search_reads_the_files_of_the_other(written, read, tmp_path):
    rows, queries = values(30, 6), values(5, 6, 1)
    one, two = EXACT[written](), EXACT[read]()
    one.fit(rows)
    path = tmp_path / f"index{one.suffix}"
    one.save(path)
    two.load(path)
    np.testing.assert_array_equal(two.rows(), rows)
    np.testing.assert_allclose(two.run(2, queries)[0], one.run(2, queries)[0], rtol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_faiss_reads_our_faiss_file(tmp_path):
    search = FaissNN()
    search.fit(values(30, 6))
    search.save(tmp_path / "i.faiss")
    index = faiss.read_index(str(tmp_path / "i.faiss"))
    assert (index.ntotal, index.d) == (30, 6)


@pytest.mark.parametrize("kind", EXACT)
def test_files_that_are_no_index_are_explained(kind, tmp_path):
    search = EXACT[kind]()
    (tmp_path / "bad.faiss").write_bytes(b"IxF2 and then nothing that FAISS knows")
    with pytest.raises(StoreError, match=r"bad.faiss: not a FAISS index, or a damaged one"):
        search.load(tmp_path / "bad.faiss")
    (tmp_path / "lfs.faiss").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(StoreError, match=r"a Git LFS pointer, not the index itself. Fetch it with: git lfs pull"):
        search.load(tmp_path / "lfs.faiss")
    with pytest.raises(StoreError, match=r"none.faiss: No such file"):
        search.load(tmp_path / "none.faiss")
    store.write(tmp_path / "other.safetensors", {}, {"kind": "detector"})
    with pytest.raises(StoreError, match=r"other.safetensors: holds no search index"):
        search.load(tmp_path / "other.safetensors")


def test_saving_leaves_the_old_file_or_the_new_one(tmp_path):
    search = FaissNN()
    search.fit(values(30, 6))
    with pytest.raises(StoreError, match="does not exist"):
        search.save(tmp_path / "nowhere" / "i.faiss")
    assert list(tmp_path.iterdir()) == []


def test_faiss_s_threads_are_what_they_were_after_each_call(monkeypatch, tmp_path, many):
    seen = []
    real = faiss.IndexFlatL2.search

    def search(index, *arguments):
        seen.append(faiss.omp_get_max_threads())
        return real(index, *arguments)

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        nn = FaissNN(False, 3)
        assert faiss.omp_get_max_threads() == 2
        nn.fit(many)
        monkeypatch.setattr(faiss.IndexFlatL2, "search", search)
        nn.run(1, many[:3])
        assert seen == [3]
        with pytest.raises(UsageError):
            nn.run(1, many[:, :2])
        nn.save(tmp_path / "i.faiss")
        nn.load(tmp_path / "i.faiss")
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


def test_no_workers_are_as_many_as_faiss_has():
    faiss = pytest.importorskip("faiss")
    before, rows = faiss.omp_get_max_threads(), np.eye(4, dtype=np.float32)
    assert FaissNN(False, 0).run(1, rows, rows)[1].ravel().tolist() == [0, 1, 2, 3]
    assert faiss.omp_get_max_threads() == before


@pytest.mark.parametrize("workers", [-1, 1.5, True])
def test_threads_are_a_whole_number(workers):
    with pytest.raises(UsageError, match="num_workers is"):
        FaissNN(False, workers)


def test_a_gpu_needs_a_faiss_that_knows_them(monkeypatch):
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    with pytest.raises(UsageError, match=r"on_gpu=True needs a FAISS that was built for GPUs.*Use on_gpu=False"):
        FaissNN(on_gpu=True)


def test_without_faiss_the_engine_searches_and_faiss_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'patchcore\[faiss\]'"):
        FaissNN()
    scorer = NearestNeighbourScorer(1)
    scorer.fit([values(20, 5)])
    scorer.save(tmp_path)
    scorer.load(tmp_path)
    assert scorer.predict([values(2, 5)])[0].shape == (2,)
    (tmp_path / "x.faiss").write_bytes(b"IxF2")
    with pytest.raises(MissingExtraError, match=r"\.faiss file"):
        ExactNN().load(tmp_path / "x.faiss")


# ApproximateFaissNN


def test_ivf_pq_has_512_lists_and_64_parts_of_8_bits(many):
    search = ApproximateFaissNN()
    with pytest.warns(UserWarning, match=r"ApproximateFaissNN got 600 rows; below 19,968"):
        search.fit(many)
    index = search.search_index
    assert isinstance(index, faiss.IndexIVFPQ)
    assert (index.nlist, index.pq.M, index.pq.nbits, index.ntotal) == (512, 64, 8, 600)
    assert (search.on_gpu, search.num_workers) == (False, 4)
    index.nprobe = 512  # every list: what is left is the error of the codes
    distances, found = search.run(3, many[:50])
    assert distances.shape == (50, 3)
    assert (found == np.arange(50)[:, None]).any(1).mean() > 0.9


def test_ivf_pq_goes_through_a_file_of_its_own(many, tmp_path):
    search, again = ApproximateFaissNN(), ApproximateFaissNN()
    with pytest.warns(UserWarning, match="600 rows"):
        search.fit(many)
    search.save(tmp_path / "i.faiss")
    again.load(tmp_path / "i.faiss")
    np.testing.assert_array_equal(again.run(2, many[:9])[1], search.run(2, many[:9])[1])
    with pytest.raises(UsageError, match="ApproximateFaissNN stores codes, not the rows"):
        again.rows()
    with pytest.raises(StoreError, match=r"IndexIVFPQ, which stores codes.*ApproximateFaissNN\(\)"):
        ExactNN().load(tmp_path / "i.faiss")


def test_ivf_pq_says_what_it_cannot_learn_from():
    with pytest.raises(UsageError, match=r"features has 511 rows; 512 lists need at least 512"):
        ApproximateFaissNN().fit(values(511, 64))
    with pytest.raises(UsageError, match=r"features has 100 dimensions; expected a multiple of 64.*for example 128"):
        ApproximateFaissNN().fit(values(600, 100))


# NearestNeighbourScorer


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("k", [1, 3])
def test_scores_are_means_of_squared_distances(kind, k):
    rows, queries = values(40, 6), values(9, 6, 1)
    scorer = NearestNeighbourScorer(k, EXACT[kind]())
    scorer.fit([rows[:, :2], rows[:, 2:]])  # two layers, side by side
    scores, distances, found = scorer.predict([queries[:, :2], queries[:, 2:]])
    expected = np.sort(golden.squared_distances(queries, rows), 1)[:, :k]
    np.testing.assert_allclose(distances, expected, rtol=1e-4)
    np.testing.assert_allclose(scores, expected.mean(1), rtol=1e-4)
    assert found.shape == (9, k)
    np.testing.assert_array_equal(scorer.imagelevel_nn(queries)[0], distances)
    np.testing.assert_allclose(scorer.pixelwise_nn(queries, queries[::-1])[0][:, 0], np.zeros(9), atol=1e-4)


def test_scorers_made_without_a_search_do_not_share_one():
    one, two = NearestNeighbourScorer(1), NearestNeighbourScorer(1)
    assert one.nn_method is not two.nn_method
    assert isinstance(one.nn_method, ExactNN)


def test_more_neighbours_than_rows_are_all_rows_and_said(caplog):
    scorer = NearestNeighbourScorer(5)
    scorer.fit([values(3, 4)])
    assert "n_nearest_neighbours is 5, more than the 3 rows" in caplog.text
    assert scorer.predict([values(2, 4, 1)])[1].shape == (2, 3)


@pytest.mark.parametrize("kind", EXACT)
def test_scorers_go_through_a_folder(kind, tmp_path):
    rows, queries = values(30, 6), values(4, 6, 1)
    scorer = NearestNeighbourScorer(2, EXACT[kind]())
    scorer.fit([rows])
    scorer.save(tmp_path, save_features_separately=True, prepend="one_")
    suffix = EXACT[kind].suffix
    names = {f"one_nnscorer_search_index{end}" for end in {suffix, ".faiss"}} | {"one_nnscorer_features.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == names
    again = NearestNeighbourScorer(2, EXACT[kind]())
    again.load(tmp_path, prepend="one_")
    np.testing.assert_array_equal(again.predict([queries])[0], scorer.predict([queries])[0])
    np.testing.assert_array_equal(again.detection_features, rows)
    with pytest.raises(StoreError, match=r"holds no nnscorer_search_index"):
        again.load(tmp_path)
    scorer.save_and_reset(tmp_path)
    assert scorer.nn_method.search_index is None


def test_an_index_of_another_kind_does_not_outlive_its_model(tmp_path):
    for search, seed in ((ExactNN(), 1), (FaissNN(), 2), (ExactNN(), 3)):
        scorer = NearestNeighbourScorer(1, search)
        scorer.fit([values(8, 3, seed)])
        scorer.save(tmp_path)
        again = NearestNeighbourScorer(1)
        again.load(tmp_path)
        np.testing.assert_array_equal(again.nn_method.rows(), values(8, 3, seed))


def test_a_scorer_takes_whatever_has_the_methods_of_a_search(tmp_path):
    class Farthest:
        def fit(self, features):
            self.features = features

        def run(self, k, query, index_features=None):
            distances = golden.squared_distances(query, self.features)
            return -np.sort(-distances, 1)[:, :k], np.argsort(-distances, 1)[:, :k]

    scorer = NearestNeighbourScorer(2, Farthest())
    scorer.fit([values(8, 3)])
    scores, distances, _ = scorer.predict([values(4, 3, 1)])
    np.testing.assert_allclose(scores, distances.mean(1))


@pytest.mark.parametrize("features", [values(3, 4), []])
def test_features_are_a_list_of_layers(features):
    with pytest.raises(UsageError, match=r"features must be a list of arrays, one for each layer: \[features\]"):
        NearestNeighbourScorer(1).fit(features)


def test_a_scorer_without_neighbours_makes_no_sense():
    with pytest.raises(UsageError, match="n_nearest_neighbours is 0; it must be at least 1"):
        NearestNeighbourScorer(0)


def test_features_of_a_loaded_index_cannot_be_saved(tmp_path):
    scorer = NearestNeighbourScorer(1)
    scorer.fit([values(8, 3)])
    scorer.save(tmp_path)
    scorer.load(tmp_path)
    with pytest.raises(UsageError, match="The features were not kept"):
        scorer.save(tmp_path, save_features_separately=True)
