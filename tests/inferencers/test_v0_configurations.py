"""anomalib shipped fourteen configurations of PatchCore with 0.2.0 to 0.7.0: tools/train.py takes each of them."""

import json
import logging
import runpy
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from patchcore.errors import UsageError
from patchcore.inferencers import TorchInferencer, get_model, train
from patchcore.inferencers.configuration import DatasetSection, trainer_arguments, without_effect

TRAIN = str(Path(__file__).parents[2] / "tools" / "train.py")

# The first release with each of them.
RELEASES = ["0.2.0", "0.2.3", "0.2.4a", "0.2.5", "0.2.6", "0.3.0", "0.3.1", "0.3.2", "0.3.3", "0.3.4", "0.3.6", "0.3.7",
            "0.4.0", "0.6.0"]  # fmt: skip

# What they state: name, value, and the first and the last release with that.
STATED = """
dataset.category | "carpet" | 0.2.0 0.2.3
dataset.category | "bottle" | 0.2.4a 0.6.0
dataset.center_crop | 224 | 0.4.0 0.6.0
dataset.create_validation_set | false | 0.2.5 0.3.7
dataset.eval_batch_size | 32 | 0.6.0 0.6.0
dataset.format | "mvtec" | 0.2.0 0.6.0
dataset.image_size | 224 | 0.2.0 0.3.7
dataset.image_size | 256 | 0.4.0 0.6.0
dataset.label_format | "None" | 0.2.0 0.2.4a
dataset.name | "mvtec" | 0.2.0 0.6.0
dataset.normalization | "imagenet" | 0.4.0 0.6.0
dataset.num_workers | 36 | 0.2.0 0.2.5
dataset.num_workers | 0 | 0.2.6 0.3.1
dataset.num_workers | 8 | 0.3.2 0.6.0
dataset.path | "./datasets/MVTec" | 0.2.0 0.6.0
dataset.task | "segmentation" | 0.2.0 0.6.0
dataset.test_batch_size | 1 | 0.2.0 0.3.7
dataset.test_batch_size | 32 | 0.4.0 0.4.0
dataset.test_split_mode | "from_dir" | 0.4.0 0.6.0
dataset.test_split_ratio | 0.2 | 0.4.0 0.6.0
dataset.tiling.apply | false | 0.2.0 0.2.4a
dataset.tiling.apply | true | 0.2.5 0.2.5
dataset.tiling.apply | false | 0.2.6 0.6.0
dataset.tiling.random_tile_count | 16 | 0.2.0 0.6.0
dataset.tiling.remove_border_count | 0 | 0.2.0 0.6.0
dataset.tiling.stride | null | 0.2.0 0.6.0
dataset.tiling.tile_size | null | 0.2.0 0.2.4a
dataset.tiling.tile_size | 64 | 0.2.5 0.2.5
dataset.tiling.tile_size | null | 0.2.6 0.6.0
dataset.tiling.use_random_tiling | false | 0.2.0 0.6.0
dataset.train_batch_size | 32 | 0.2.0 0.6.0
dataset.transform_config | null | 0.2.5 0.2.5
dataset.transform_config.eval | null | 0.4.0 0.6.0
dataset.transform_config.train | null | 0.2.6 0.6.0
dataset.transform_config.val | null | 0.2.6 0.3.7
dataset.url | "ftp://example.org/mvtec.tar.xz" | 0.2.0 0.2.3
dataset.val_split_mode | "same_as_test" | 0.4.0 0.6.0
dataset.val_split_ratio | 0.5 | 0.4.0 0.6.0
model.backbone | "wide_resnet50_2" | 0.2.0 0.6.0
model.coreset_sampling_ratio | 0.001 | 0.2.0 0.2.3
model.coreset_sampling_ratio | 0.1 | 0.2.4a 0.6.0
model.layers | ["layer2", "layer3"] | 0.2.0 0.6.0
model.metric | "auc" | 0.2.0 0.2.6
model.name | "patchcore" | 0.2.0 0.6.0
model.normalization_method | "min_max" | 0.2.4a 0.6.0
model.normalize_scores | false | 0.2.3 0.2.3
model.num_neighbors | 9 | 0.2.0 0.6.0
model.pre_trained | true | 0.3.4 0.6.0
model.threshold.adaptive | true | 0.2.0 0.3.1
model.threshold.default | 0 | 0.2.0 0.2.0
model.threshold.image_default | 0 | 0.2.3 0.3.1
model.threshold.pixel_default | 0 | 0.2.3 0.3.1
model.weight_file | "weights/model.ckpt" | 0.2.0 0.3.3
metrics.image | ["F1Score", "AUROC"] | 0.3.0 0.6.0
metrics.pixel | ["F1Score", "AUROC"] | 0.3.0 0.6.0
metrics.threshold.adaptive | true | 0.3.2 0.3.6
metrics.threshold.image_default | 0 | 0.3.2 0.3.6
metrics.threshold.manual_image | null | 0.3.7 0.6.0
metrics.threshold.manual_pixel | null | 0.3.7 0.6.0
metrics.threshold.method | "adaptive" | 0.3.7 0.6.0
metrics.threshold.pixel_default | 0 | 0.3.2 0.3.6
visualization.image_save_path | null | 0.3.3 0.6.0
visualization.log_images | true | 0.3.3 0.6.0
visualization.mode | "full" | 0.3.3 0.6.0
visualization.save_images | true | 0.3.3 0.6.0
visualization.show_images | false | 0.3.3 0.6.0
project.log_images_to | ["local"] | 0.2.0 0.3.1
project.logger | false | 0.2.0 0.3.1
project.path | "./results" | 0.2.0 0.6.0
project.save_to_csv | false | 0.2.0 0.2.5
project.seed | 0 | 0.2.0 0.6.0
logging.log_graph | false | 0.3.2 0.6.0
logging.log_images_to | ["local"] | 0.3.2 0.3.2
logging.logger | [] | 0.3.2 0.6.0
optimization.export_mode | null | 0.3.6 0.6.0
trainer.accelerator | null | 0.2.0 0.2.6
trainer.accelerator | "auto" | 0.3.0 0.6.0
trainer.accumulate_grad_batches | 1 | 0.2.0 0.6.0
trainer.amp_backend | "native" | 0.2.0 0.3.7
trainer.amp_level | "O2" | 0.2.0 0.2.3
trainer.auto_lr_find | false | 0.2.0 0.6.0
trainer.auto_scale_batch_size | false | 0.2.0 0.6.0
trainer.auto_select_gpus | false | 0.2.0 0.3.7
trainer.benchmark | false | 0.2.0 0.6.0
trainer.check_val_every_n_epoch | 1 | 0.2.0 0.6.0
trainer.checkpoint_callback | true | 0.2.0 0.2.5
trainer.default_root_dir | null | 0.2.0 0.6.0
trainer.detect_anomaly | false | 0.3.0 0.6.0
trainer.deterministic | true | 0.2.0 0.2.3
trainer.deterministic | false | 0.2.4a 0.6.0
trainer.devices | 1 | 0.3.1 0.6.0
trainer.distributed_backend | null | 0.2.0 0.2.3
trainer.enable_checkpointing | true | 0.2.6 0.6.0
trainer.enable_model_summary | true | 0.3.0 0.6.0
trainer.enable_progress_bar | true | 0.3.0 0.6.0
trainer.fast_dev_run | false | 0.2.0 0.6.0
trainer.flush_logs_every_n_steps | 100 | 0.2.0 0.2.3
trainer.gpus | 1 | 0.2.0 0.2.6
trainer.gpus | null | 0.3.0 0.3.7
trainer.gradient_clip_algorithm | "norm" | 0.4.0 0.6.0
trainer.gradient_clip_val | 0 | 0.2.0 0.6.0
trainer.ipus | null | 0.3.0 0.3.7
trainer.limit_predict_batches | 1.0 | 0.2.0 0.6.0
trainer.limit_test_batches | 1.0 | 0.2.0 0.6.0
trainer.limit_train_batches | 1.0 | 0.2.0 0.6.0
trainer.limit_val_batches | 1.0 | 0.2.0 0.6.0
trainer.log_every_n_steps | 50 | 0.2.0 0.6.0
trainer.log_gpu_memory | null | 0.2.0 0.3.7
trainer.max_epochs | 1 | 0.2.0 0.6.0
trainer.max_steps | null | 0.2.0 0.2.3
trainer.max_steps | -1 | 0.2.4a 0.6.0
trainer.max_time | null | 0.3.0 0.6.0
trainer.min_epochs | null | 0.2.0 0.6.0
trainer.min_steps | null | 0.2.0 0.6.0
trainer.move_metrics_to_cpu | false | 0.2.0 0.6.0
trainer.multiple_trainloader_mode | "max_size_cycle" | 0.2.0 0.6.0
trainer.num_nodes | 1 | 0.2.0 0.6.0
trainer.num_processes | 1 | 0.2.0 0.3.0
trainer.num_processes | null | 0.3.1 0.3.7
trainer.num_sanity_val_steps | 0 | 0.2.0 0.6.0
trainer.overfit_batches | 0.0 | 0.2.0 0.6.0
trainer.plugins | null | 0.2.0 0.6.0
trainer.precision | 32 | 0.2.0 0.6.0
trainer.prepare_data_per_node | true | 0.2.0 0.2.6
trainer.process_position | 0 | 0.2.0 0.2.6
trainer.profiler | null | 0.2.0 0.6.0
trainer.progress_bar_refresh_rate | null | 0.2.0 0.2.6
trainer.reload_dataloaders_every_epoch | false | 0.2.0 0.2.3
trainer.reload_dataloaders_every_n_epochs | 0 | 0.3.0 0.6.0
trainer.replace_sampler_ddp | true | 0.2.0 0.6.0
trainer.resume_from_checkpoint | null | 0.2.0 0.2.0
trainer.stochastic_weight_avg | false | 0.2.0 0.2.6
trainer.strategy | null | 0.3.0 0.6.0
trainer.sync_batchnorm | false | 0.2.0 0.6.0
trainer.terminate_on_nan | false | 0.2.0 0.2.6
trainer.tpu_cores | null | 0.2.0 0.3.7
trainer.track_grad_norm | -1 | 0.2.0 0.6.0
trainer.truncated_bptt_steps | null | 0.2.0 0.2.3
trainer.val_check_interval | 1.0 | 0.2.0 0.6.0
trainer.weights_save_path | null | 0.2.0 0.2.6
trainer.weights_summary | "top" | 0.2.0 0.2.6
"""

# What has no effect here, and is said; a section within a section is said once.
SAID = {
    *(f"dataset.{name}" for name in ("create_validation_set", "format", "label_format", "name", "task", "url")),
    *(f"dataset.{name}" for name in ("test_split_ratio", "val_split_mode", "val_split_ratio")),
    *(f"metrics.{name}" for name in ("image", "pixel", "threshold")),
    *(f"model.{name}" for name in ("metric", "normalize_scores", "threshold")),
    *(f"visualization.{name}" for name in ("log_images", "mode", "save_images")),
    "logging.log_images_to",
    "project.log_images_to",
}


def configuration(release: str) -> dict:
    """What a release's file states."""
    found, at = {}, RELEASES.index(release)
    for line in STATED.strip().splitlines():
        name, value, releases = line.split(" | ")
        first, last = map(RELEASES.index, releases.split())
        if first <= at <= last:
            *sections, key = name.split(".")
            place = found
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = json.loads(value)
    return found


@pytest.fixture
def installed(hazelnut, tmp_path, monkeypatch):
    """Makes the dataset that a configuration names, and changes it for a machine without WideResNet's weights."""
    monkeypatch.chdir(tmp_path)
    was = torch.are_deterministic_algorithms_enabled()

    def prepare(config: dict) -> dict:
        root = tmp_path / "datasets" / "MVTec" / config["dataset"]["category"]
        for names in ("train/good/0[0-3].*", "test/good/04.*", "test/colour/00.*", "ground_truth/colour/00_mask.*"):
            for path in hazelnut.glob(names):
                (root / path.relative_to(hazelnut)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, root / path.relative_to(hazelnut))
        config["model"] |= {"backbone": "efficientnet_lite0", "layers": ["blocks.2", "blocks.4"]}
        config["dataset"]["num_workers"] = 0  # up to 36 processes would read six images
        return config

    yield prepare
    torch.use_deterministic_algorithms(was)  # which 0.2.0 asks Lightning for


@pytest.mark.parametrize("release", RELEASES)
def test_a_configuration_is_trained_as_it_is_and_what_has_no_effect_is_said(
    release, installed, tmp_path, caplog, capsys
):
    config = installed(configuration(release))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    runpy.run_path(TRAIN)["main"](["--model", "patchcore", "--config", "config.yaml"])
    assert "image AUROC 1.000 | pixel AUROC 0." in capsys.readouterr().out
    stated = {f"{section}.{name}" for section in config for name in config[section]}
    said = [record.message for record in caplog.records if record.name.startswith("patchcore")]
    assert {name for text in said for name in text.partition(" ha")[0].split(", ")} == stated & SAID
    assert sum(map(len, (text.partition(" ha")[0].split(", ") for text in said))) == len(stated & SAID)
    folder = tmp_path / "results" / "patchcore" / config["dataset"]["category"]
    model = TorchInferencer(folder / "config.yaml", folder / "weights/model.ckpt")
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "datasets", "results"}
    wanted = config["dataset"]
    assert model.model.model.input_size == (wanted.get("center_crop", wanted["image_size"]),) * 2
    assert model.model.model.apply_tiling == wanted["tiling"]["apply"]
    assert model.model.coreset_sampling_ratio == config["model"]["coreset_sampling_ratio"]
    assert model.model.seed == 0
    good, bad = (model.predict(next((tmp_path / "datasets").rglob(f"test/{kind}/*")))[1] for kind in ("good", "colour"))
    assert good < bad


def test_a_crop_is_that_of_training_and_a_map_lies_where_the_crop_was(installed, hazelnut, tmp_path):
    config = installed(configuration("0.6.0"))
    config["dataset"] |= {"image_size": [140, 161], "center_crop": 128}
    done = train(config, output=tmp_path / "out")
    inferencer = TorchInferencer(done.folder / "config.yaml", done.folder / "weights/model.ckpt")
    path = hazelnut / "test/colour/00.jpg"
    values, score = inferencer.predict(path, superimpose=False)
    assert values.shape == (512, 512)
    shown = ~torch.from_numpy(values).isnan()
    rows, columns = (shown.any(axis).nonzero().flatten() for axis in (1, 0))
    scale = 512 / 140, 512 / 161
    assert [int(rows[0]), int(rows[-1])] == pytest.approx([6 * scale[0], 134 * scale[0]], abs=scale[0])
    assert [int(columns[0]), int(columns[-1])] == pytest.approx([16 * scale[1], 144 * scale[1]], abs=scale[1])
    assert shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    again = inferencer.model.eval()(inferencer.model.configure_transforms()(torch.zeros(3, 512, 512))[None])
    assert again[0].shape == (1, 1, 128, 128)
    overlay, same = inferencer.predict(path)
    assert (overlay.shape, same) == ((512, 512, 3), score)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset.center_crop": 300}, r"is \(300, 300\); expected at most dataset.image_size, \(256, 256\)"),
        ({"dataset.image_size": None}, r"center_crop is \(224, 224\), without dataset.image_size"),
        ({"model.input_size": 200}, r"model.input_size is 200, and dataset.center_crop \(224, 224\): leave one"),
        ({"dataset.normalization": "none"}, "normalization got 'none': .*'imagenet'. Images get the mean"),
        ({"dataset.test_split_mode": "synthetic"}, "test_split_mode got 'synthetic': .*'from_dir'. Test images are"),
        ({"dataset.transform_config": {"train": "t.yaml"}}, "transform_config got .*t.yaml.*albumentations are"),
        ({"dataset.eval_batch_size": "x"}, "eval_batch_size got 'x': .*whole number"),
        ({"dataset.normal_dir": "good"}, "'normal_dir' describes a folder of one's own kind.* a CSV table with"),
        ({"dataset.tiling.use_random_tiling": True}, "use_random_tiling got True: Input should be False"),
        ({"dataset.tiling.remove_border_count": 3}, "remove_border_count got 3: Input should be 0"),
        ({"model.normalization_method": "cdf"}, "normalization_method got 'cdf': Input should be 'min_max'"),
        ({"trainer.strategy": "dp"}, "Lightning does not take the section trainer as it is: .*dp"),
        ({"trainer.precision": 31}, "Lightning does not take the section trainer as it is: .*31"),
        ({"trainer.limit_val_batches": 0}, "No good image was looked at to set the thresholds. Leave out"),
        ({"trainer": [1]}, r"The section trainer is \[1\]; expected names with values"),
        ({"project.seed": "x"}, "The seed is 'x'; it must be a number"),
        ({"data": {"class_path": "anomalib.data.MVTec"}}, "a configuration of anomalib's command line .*class_path"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_one_plain_error(changes, message, installed, tmp_path):
    config = installed(configuration("0.6.0"))
    for name, value in changes.items():
        *sections, key = name.split(".")
        place = config
        for section in sections:
            place = place[section]
        place[key] = value
    with pytest.raises(UsageError, match=message):
        train(config, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("section", "names", "said"),
    [
        ("logging", {"logger": ["wandb"], "log_graph": True}, "logging.logger, logging.log_graph have no effect: "),
        ("project", {"logger": "csv"}, "project.logger has no effect: nothing is logged: tools/train.py prints"),
        ("optimization", {"export_mode": "onnx"}, "optimization.export_mode has no effect: weights/model.ckpt is"),
        ("optimization", {"openvino": {"apply": False}}, None),
        ("model", {"weight_file": "w.ckpt"}, "model.weight_file has no effect: weights/model.ckpt is written"),
        ("model", {"normalization_method": None}, "model.normalization_method has no effect: scores are normalised by"),
        ("model", {"normalization_method": "min_max", "early_stopping": None}, None),
        ("model", {"early_stopping": {"patience": 3}}, "model.early_stopping has no effect: there is one epoch."),
        ("project", {"unique_dir": False, "seed": 1, "path": "x"}, "project.unique_dir has no effect: nothing"),
        ("visualization", {"show_images": False, "image_save_path": None}, None),
        ("openvino", True, "openvino has no effect: nothing reads it."),
    ],
)  # fmt: skip
def test_a_value_that_asks_for_more_than_happens_is_said(section, names, said):
    found = without_effect({section: names})
    assert [text[: len(said or "")] for text in found] == ([said] if said else [])


@pytest.mark.parametrize(
    ("given", "expected", "said"),
    [
        ({"accelerator": None, "max_steps": None}, {}, ""),
        ({"gpus": 0}, {"accelerator": "cpu", "devices": 1}, ""),
        ({"gpus": 0, "devices": 2}, {"accelerator": "cpu", "devices": 2}, ""),
        ({"accelerator": "ddp"}, {"strategy": "ddp"}, ""),
        ({"accelerator": "ddp", "strategy": "auto"}, {"strategy": "auto"}, ""),
        ({"replace_sampler_ddp": False}, {"use_distributed_sampler": False}, ""),
        ({"progress_bar_refresh_rate": 0}, {"enable_progress_bar": False}, ""),
        ({"progress_bar_refresh_rate": 5}, {"enable_progress_bar": True}, ""),
        ({"reload_dataloaders_every_epoch": True}, {"reload_dataloaders_every_n_epochs": 1}, ""),
        ({"weights_summary": "top"}, {"enable_model_summary": True}, ""),
        ({"enable_checkpointing": True}, {}, ""),
        ({"checkpoint_callback": False}, {}, "trainer.enable_checkpointing has no effect: weights/model.ckpt"),
        ({"auto_lr_find": True, "amp_backend": "apex"}, {}, "trainer.amp_backend, trainer.auto_lr_find: Lightning"),
        ({"resume_from_checkpoint": "m.ckpt"}, {}, "trainer.resume_from_checkpoint: Lightning 2 has no such argument"),
    ],
)  # fmt: skip
def test_arguments_of_lightning_1_become_those_of_lightning_2(given, expected, said):
    arguments, sentences = trainer_arguments(given)
    assert arguments == expected
    assert [text[: len(said)] for text in sentences] == ([said] if said else [])


def test_gpus_are_the_processor_where_there_are_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert trainer_arguments({"gpus": 2})[0] == {"accelerator": "auto", "devices": 1}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert trainer_arguments({"gpus": 2})[0] == {"accelerator": "gpu", "devices": 2}


def test_the_batch_size_of_all_but_training_has_two_names():
    assert DatasetSection.of({"test_batch_size": 3}).eval_batch_size == 3
    assert DatasetSection.of({"test_batch_size": 3, "eval_batch_size": 4}).eval_batch_size == 4
    with pytest.raises(UsageError, match=r"there is no key 'center_crp'. Did you mean 'center_crop'"):
        DatasetSection.of({"center_crp": 224})


def test_a_model_alone_says_what_of_its_section_has_no_effect(caplog):
    sections = configuration("0.2.5")
    sections["model"] |= {"pre_trained": False, "backbone": "resnet18"}
    with caplog.at_level(logging.WARNING):
        get_model(sections)
    assert [text.partition(" ha")[0] for text in caplog.messages] == ["model.metric", "model.threshold"]


def test_a_seed_of_null_is_the_default(installed, tmp_path):
    config = installed(configuration("0.6.0"))
    config["project"]["seed"] = None
    assert yaml.safe_load((train(config, output=tmp_path / "out").folder / "config.yaml").read_text())["project"] == {
        "path": "./results",
        "seed": 42,
    }
