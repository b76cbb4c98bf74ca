import torch

from patchcore.memory.bank import Bank


def test_a_bank_is_kept_at_half_the_size_without_loss():
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).half().float()
    origins = torch.arange(150, dtype=torch.int32).view(50, 3)
    scales = torch.rand(8, generator=torch.Generator().manual_seed(1))
    tensors = Bank(rows, origins, scales).tensors()
    assert set(tensors) == {"bank.rows", "bank.origins", "bank.scales"}
    assert tensors["bank.rows"].dtype == torch.float16
    assert tensors["bank.rows"].nbytes * 2 == rows.nbytes
    assert torch.equal(tensors["bank.rows"].float(), rows)
    assert torch.equal(tensors["bank.origins"], origins)
    assert torch.equal(tensors["bank.scales"], scales)


def test_a_bank_finds_its_rows_and_is_prepared_once():
    rows = torch.randn(1200, 40, generator=torch.Generator().manual_seed(0)).half().float()
    bank = Bank(rows, torch.zeros(1200, 3, dtype=torch.int32), torch.ones(40))
    distances, found = bank.nearest(rows[::9], 2)
    assert found[:, 0].tolist() == list(range(0, 1200, 9))
    assert (distances[:, 0] == 0).all()
    assert bank.points is bank.points
    assert bank.nearest(rows[:1], 5000)[1].shape == (1, 1200)
