"""More than one process: nothing is lost, and nothing counts twice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Trainer
from torch.utils.data import DataLoader, DistributedSampler

from patchcore.lightning import ImageDataModule, Patchcore
from patchcore.lightning.processes import merged, owners, places

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


@given(n=st.integers(1, 120), world=st.integers(1, 7), shuffle=st.booleans(), epoch=st.integers(0, 3))
def test_what_a_sampler_deals_out_comes_back_in_order_and_once(n, world, shuffle, epoch):
    hands = []
    for rank in range(world):
        sampler = DistributedSampler(range(n), world, rank, shuffle=shuffle)
        sampler.set_epoch(epoch)
        hands.append(list(sampler))
        loader = DataLoader(range(n), sampler=sampler, batch_size=3)
        assert places(loader, len(sampler)) == [int(i) for batch in loader for i in batch]
    assert [hands[rank][i] for rank, i in owners(hands)] == list(range(n))


def test_101_images_on_two_processes_are_101_again():
    hands = [list(DistributedSampler(range(101), 2, rank)) for rank in (0, 1)]
    assert [len(hand) for hand in hands] == [51, 51]
    assert len(owners(hands)) == 101


def test_without_a_sampler_or_with_one_process_order_stays():
    assert places(None, 3) == [0, 1, 2]
    assert merged(["a", "b"], [0, 1]) == ["a", "b"]


def test_two_processes_build_the_bank_of_one(hazelnut, tmp_path):
    root = tmp_path / "nuts"
    shutil.copytree(hazelnut, root)
    (root / "train/good/11.jpg").unlink()  # nine to train on, two of which are held out: seven on two processes
    model = Patchcore("efficientnet_lite0", ("blocks.2", "blocks.4"))
    data = ImageDataModule(root, train_batch_size=2, eval_batch_size=2, image_size=(128, 128))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    alone = Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **model.trainer_arguments)
    alone.fit(model, datamodule=data)
    (logged,) = alone.test(model, datamodule=data, verbose=False)
    assert len(data.train) == 7

    script = Path(__file__).with_name("two_processes.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, script, root, tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["bank"].shape == (int(7 * 14 * 14 * 0.1), 152)
        assert torch.equal(found["bank"], model.model.memory_bank)
        torch.testing.assert_close(found["threshold"], model.image_threshold, rtol=1e-4, atol=0)
        assert found["logged"].keys() == logged.keys()
        for name, value in logged.items():
            assert found["logged"][name] == pytest.approx(value, abs=1e-3), name
