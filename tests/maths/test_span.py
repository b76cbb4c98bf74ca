import torch

from patchcore.maths.span import normalise_by_range


def test_normalising_by_a_range_has_its_half_at_the_threshold():
    values = normalise_by_range(torch.tensor([1.0, 2.0, 3.0, 9.0]), 2.0, 0.5, 2.5)
    assert values.tolist() == [0.0, 0.5, 1.0, 4.0]  # not clipped


def test_a_range_of_nothing_keeps_the_order():
    assert normalise_by_range(torch.tensor([1.0, 2.0, 4.0]), 2.0, 3.0, 3.0).tolist() == [-0.5, 0.5, 2.5]
