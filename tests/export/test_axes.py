import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcore.export.axes import ShortForms, best_axes
from patchcore.maths.groups import principal_axes


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def low(n, d, rank, noise, seed=0):
    return normal(n, rank, seed) @ normal(rank, d, seed=99) + noise * normal(n, d, seed + 1)


def centred(x):
    return x - x.mean(0)


CLOUDS = {
    "isotropic": normal(500, 200),
    "near a plane": low(500, 200, 6, 0.02),
    "in a plane": low(500, 200, 6, 0),
    "fewer dimensions than axes": normal(500, 20),
    "one dimension": normal(50, 1),
    "fewer points than axes": normal(9, 200),
    "one point": normal(1, 200),
    "no variance at all": torch.full((300, 200), 2.5),
    "one point apart": torch.cat([torch.zeros(299, 200), torch.full((1, 200), 1e4)]),
    "very small": 1e-6 * normal(300, 200),
    "very large": 1e5 * normal(300, 200),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_axes_are_orthonormal(name):
    x = centred(CLOUDS[name])
    axes = principal_axes(x, 128)
    assert axes.shape == (x.shape[1], min(128, x.shape[1]))
    torch.testing.assert_close(axes.T @ axes, torch.eye(axes.shape[1]), atol=1e-5, rtol=0)


def test_axes_are_the_leading_eigenvectors():
    # Of clearly different variances; NumPy's eigenvectors in float64.
    x = centred(normal(3000, 60) * 0.8 ** torch.arange(60.0))
    vectors = np.linalg.eigh(np.cov(x.double().numpy().T))[1][:, ::-1][:, :16]
    axes = principal_axes(x, 16).double().numpy()
    np.testing.assert_allclose(abs((axes * vectors).sum(0)), 1, atol=1e-3)


def test_axes_hold_all_of_points_in_a_plane():
    x = centred(CLOUDS["in a plane"])
    axes = principal_axes(x, 6)
    torch.testing.assert_close(x @ axes @ axes.T, x, atol=1e-3, rtol=1e-4)


def test_axes_of_many_points_are_about_those_of_all():
    # More than the few thousand that are looked at.
    x = centred(low(10_000, 50, 4, 0.01))
    axes = principal_axes(x, 4)
    left = (x - x @ axes @ axes.T).square().sum() / x.square().sum()
    assert float(left) < 1e-3


@settings(max_examples=40)
@given(
    n=st.integers(1, 150),
    d=st.integers(17, 60),
    rank=st.integers(1, 8),
    noise=st.sampled_from([0.0, 0.01]),
    seed=st.integers(0, 1000),
)
def test_short_forms_are_never_farther_apart_than_their_points(n, d, rank, noise, seed):
    x = low(n, d, rank, noise, seed)
    short = ShortForms(x)(x).double()
    apart, bound = torch.cdist(x.double(), x.double()), torch.cdist(short, short)
    assert (bound <= apart + 1e-5 * float(x.abs().max()) * d**0.5).all()
    # A length is not lost: along the axes, and the rest.
    lengths = (x - x.mean(0)).double().norm(dim=1)
    torch.testing.assert_close(short.norm(dim=1), lengths, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("d", [8, 64, 300])
def test_isotropic_noise_is_searched_plainly(d):
    x = centred(normal(3000, d))
    assert best_axes(x, principal_axes(x, 128)) == 0
    assert ShortForms(normal(3000, d)).vectors.shape == (d, 0)


@pytest.mark.parametrize("rank", [2, 6, 12])
def test_points_near_a_plane_need_few_axes(rank):
    assert ShortForms(low(4000, 300, rank, 0.01)).vectors.shape == (300, 16)


def test_more_dimensions_need_more_axes():
    counts = [ShortForms(low(4000, 400, rank, 0.01)).vectors.shape[1] for rank in (6, 22, 60)]
    assert counts == sorted(counts)
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize("name", CLOUDS)
def test_the_number_of_axes_is_one_of_those_there_are(name):
    x = CLOUDS[name]
    axes = ShortForms(x).vectors.shape[1]
    assert axes in (0, 16, 24, 32, 48, 64, 96, 128)
    assert axes == 0 or axes < x.shape[1]


def test_axes_do_not_depend_on_threads_nor_on_what_was_drawn_before():
    # Torch's own generator is not touched either.
    before, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        for x in (low(4000, 300, 6, 0.01), low(3000, 200, 30, 0.1), normal(3000, 152)):
            found = []
            for threads in (1, 2):
                torch.set_num_threads(threads)
                torch.rand(threads)
                found.append(ShortForms(x))
            again = ShortForms(x)
            assert found[0].vectors.shape == found[1].vectors.shape == again.vectors.shape
            assert torch.equal(again.vectors, found[1].vectors)
    finally:
        torch.set_num_threads(before)
        torch.set_rng_state(state)
    ShortForms(low(300, 100, 3, 0.1))
    assert torch.equal(torch.get_rng_state(), state)
