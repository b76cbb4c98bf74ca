"""FAISS's IVF-PQ. Few dimensions, as learning the codes takes a second for every part that they have."""

import sys

import numpy as np
import pytest
import torch

from patchcore import Detector, MissingExtraError, Recipe, UsageError
from patchcore.maths.neighbours import Points, nearest
from patchcore.memory.bank import LEARNED, Bank
from patchcore.memory.ivf_pq import Rows
from patchcore.model import store

faiss = pytest.importorskip("faiss")


def clustered(n, d=74, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = 5 * torch.randn(300, d, generator=torch.Generator().manual_seed(99))
    return centres[torch.randint(300, (n,), generator=generator)] + torch.randn(n, d, generator=generator)


ROWS = clustered(10_000, 134)  # 134 = 2 * 67: two parts
QUERIES = clustered(200, 134, seed=1)


@pytest.fixture(scope="module")
def index() -> Rows:
    return Rows(ROWS)


@pytest.mark.parametrize("k", [1, 3, 100])
def test_distances_are_exact_for_the_rows_that_are_found(index, k):
    distances, rows = index.nearest(QUERIES, k)
    assert distances.shape == rows.shape == (200, k)
    expected = np.linalg.norm(QUERIES.double().numpy()[:, None] - ROWS.double().numpy()[rows], axis=2)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)
    assert (distances[:, 1:] >= distances[:, :-1]).all()
    assert all(len(set(row)) == k for row in rows.tolist())


def test_most_true_neighbours_are_found(index):
    expected, true = nearest(QUERIES, Points(ROWS), 1)
    distances, rows = index.nearest(QUERIES, 1)
    assert float((rows == true).float().mean()) > 0.8
    # What is missed is replaced by something nearly as near.
    assert float((distances / expected).mean()) < 1.02
    assert (distances >= expected * (1 - 1e-5)).all()


def test_a_row_of_the_bank_finds_itself(index):
    distances, rows = index.nearest(ROWS[::100], 1)
    assert float((rows[:, 0] == torch.arange(0, 10_000, 100)).float().mean()) > 0.95
    assert float((distances == 0).float().mean()) > 0.95


def test_learning_from_few_rows_says_nothing(capfd):
    # FAISS writes its warnings to standard error by itself.
    Rows(ROWS[:, :67].contiguous())
    assert capfd.readouterr().err == ""


def test_threads_are_as_they_were_and_answers_do_not_depend_on_them(index):
    from threadpoolctl import threadpool_info

    def settings():
        return [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]

    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            outside = settings()
            found.append(index.nearest(QUERIES, 3))
            assert settings() == outside
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("rows", [1, 9983])
def test_a_bank_of_too_few_rows_is_refused(rows):
    with pytest.raises(UsageError, match=rf"a bank of {rows} rows; it needs 9984.*search='exact'"):
        Rows(torch.zeros(rows, 4))


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"search='ivf_pq'.*faiss-cpu.*patchcore\[faiss\]"):
        Rows(ROWS)


def test_an_exact_bank_needs_no_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    bank = Bank(ROWS[:50], torch.zeros(50, 3, dtype=torch.int32), torch.ones(134))
    assert bank.nearest(ROWS[:50], 1)[1][:, 0].tolist() == list(range(50))


class Pairs(torch.nn.Module):
    """A network of a caller's own: the mean and the slope of 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = torch.nn.Conv2d(3, 2, 4, 4, bias=False)
        with torch.no_grad():
            self.cells.weight[0] = 1 / 48
            self.cells.weight[1] = torch.linspace(-1, 1, 4) / 12

    def forward(self, x):
        return self.cells(x)


RECIPE = Recipe(
    taps=("cells",), size=240, resize="stretch", crop=None, coreset="identity", patch_size=1, pool="mean",
    search="ivf_pq", ratio=1, calibration="held_out",
)  # fmt: skip


def images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 240, 240, 3), np.uint8)


def test_a_recipe_may_ask_for_it(tmp_path):
    approximate = Detector(RECIPE, backbone=Pairs()).fit(images(4))
    assert len(approximate.fitted.members[0].bank.rows) == 10_800  # three of the images
    exact = Detector(RECIPE.replace(search="exact"), backbone=Pairs()).fit(images(4))
    before = torch.get_num_threads()
    new = images(3, seed=1)
    new[0, 100:140, 100:140] = 255
    ours, theirs = approximate.predict(new), exact.predict(new)
    for one, other in zip(ours, theirs, strict=True):
        # Only ever farther than the true neighbour, and in two dimensions hardly that.
        assert one.score == pytest.approx(other.score, rel=0.02)
        assert (one.patch_scores >= other.patch_scores - 1e-6).all()
        assert float((one.nearest_rows == other.nearest_rows).float().mean()) > 0.95
    assert torch.get_num_threads() == before
    approximate.save(tmp_path / "m")
    assert_the_same(ours, tmp_path / "m", new)
    # A file of before holds the rows alone: the codes are learned again, and are the same ones.
    tensors, header = store.read(tmp_path / "m")
    assert set(LEARNED) < set(tensors)
    store.write(tmp_path / "old", {name: t for name, t in tensors.items() if name not in LEARNED}, header)
    assert_the_same(ours, tmp_path / "old", new)


def assert_the_same(expected, path, new):
    loaded = Detector.load(path, backbone=Pairs())
    assert loaded.fitted.members[0].bank.search == "ivf_pq"
    for one, again in zip(expected, loaded.predict(new), strict=True):
        assert one.score == again.score
        assert torch.equal(one.patch_scores, again.patch_scores)


def test_what_was_learned_is_not_learned_again(index, monkeypatch):
    learned = index.tensors()
    monkeypatch.setattr(faiss.IndexIVFPQ, "train", None)
    again = Rows(ROWS, learned)
    for found, expected in zip(again.nearest(QUERIES, 3), index.nearest(QUERIES, 3), strict=True):
        assert torch.equal(found, expected)
    assert all(torch.equal(tensor, learned[name]) for name, tensor in again.tensors().items())


def test_a_bank_that_is_too_small_is_said_by_fit():
    with pytest.raises(UsageError, match="a bank of 3600 rows; it needs 9984"):
        Detector(RECIPE, backbone=Pairs()).fit(images(2))


def test_a_fit_without_faiss_names_the_extra_before_it_chooses(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr("patchcore.maths.coreset.select", None)
    with pytest.raises(MissingExtraError, match=r"patchcore\[faiss\]"):
        Detector(RECIPE, backbone=Pairs()).fit(images(2))


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_fit_never_gives_a_detector_that_cannot_predict(share):
    # Without calibration, nothing is searched for until the first prediction.
    with pytest.raises(UsageError, match="rows; it needs 9984"):
        Detector(RECIPE.replace(calibration_share=share), backbone=Pairs()).fit(images(2))
