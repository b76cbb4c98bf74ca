"""Run by test_processes.py: fits and tests with two processes, and writes what the first one has."""

import sys
import warnings
from pathlib import Path

import torch
from lightning import Trainer

from patchcore.lightning import ImageDataModule, Patchcore

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    root, out = Path(sys.argv[1]), Path(sys.argv[2])
    model = Patchcore("efficientnet_lite0", ("blocks.2", "blocks.4"))
    data = ImageDataModule(root, train_batch_size=2, eval_batch_size=2, num_workers=0, image_size=(128, 128))
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **model.trainer_arguments,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    (logged,) = trainer.test(model, datamodule=data, verbose=False)
    torch.save(
        {"bank": model.model.memory_bank, "threshold": model.image_threshold, "logged": logged},
        out / f"{trainer.global_rank}.pt",
    )
