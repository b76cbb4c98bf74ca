"""Configuration files of anomalib's command line: models, data and engines from them."""

import warnings
from pathlib import Path

import pytest
from torchvision.transforms.v2 import Compose, Normalize, Resize

from patchcore import UsageError
from patchcore.lightning import Engine, Patchcore, TaskType
from patchcore.lightning.data import AnomalibDataModule, Folder, MVTec

LAYERS = ("blocks.2", "blocks.4")
CONFIG = """
model:
  class_path: anomalib.models.Patchcore
  init_args:
    backbone: efficientnet_lite0
    layers: [blocks.2, blocks.4]
    pre_trained: true
    coreset_sampling_ratio: 0.2
    num_neighbors: 9
"""


def test_a_model_comes_from_a_configuration(tmp_path):
    from patchcore.lightning.components import AnomalyModule

    path = tmp_path / "patchcore.yaml"
    path.write_text(CONFIG)
    for kind in (AnomalyModule, Patchcore):
        model = kind.from_config(path, **{"model.num_neighbors": 3, "model.init_args.pre_trained": False})
        assert type(model) is Patchcore
        assert (model.coreset_sampling_ratio, model.model.num_neighbors, model.model.layers) == (0.2, 3, LAYERS)
    path.write_text(CONFIG + "trainer: {max_epochs: 1}\n")
    with pytest.warns(UserWarning, match="trainer has no effect"):
        Patchcore.from_config(path)


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("model: {class_path: anomalib.models.Padim}", {}, r"class_path is 'anomalib.models.Padim'.*Known: Patchcore"),
        ("model: {class_path: os.Patchcore}", {}, "class_path is 'os.Patchcore'"),
        ("data: {}", {}, "has no model"),
        ("[]", {}, "has no model"),
        ("a: [", {}, "cannot be read"),
        (CONFIG.replace("layers", "layer"), {}, "no argument 'layer'. Did you mean 'layers'"),
        (CONFIG, {"model__backbone": "resnet18"}, "expected model.NAME"),
        ("model: {class_path: Patchcore, dict_kwargs: {}}", {}, "model has 'dict_kwargs'"),
        ("{class_path: anomalib.data.MVTec}", {}, "has no model"),
    ],
)
def test_a_configuration_that_is_wrong_says_so(tmp_path, text, more, message):
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        Patchcore.from_config(path, **more)


def test_a_configuration_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no configuration file"):
        Patchcore.from_config(tmp_path / "none.yaml")


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


DATA = """
class_path: anomalib.data.MVTec
init_args:
  root: ROOT
  category: hazelnut
  train_batch_size: 32
  eval_batch_size: 32
  num_workers: 8
  task: segmentation
  transform: null
  train_transform: null
  eval_transform: null
  test_split_mode: FROM_DIR
  test_split_ratio: 0.2
  val_split_mode: NONE
  val_split_ratio: 0.5
  seed: null
"""
QUIET = pytest.mark.filterwarnings("ignore:(test|val)_split_ratio has no effect")


@QUIET
def test_data_come_from_a_configuration_alone_or_in_its_section(hazelnut, tmp_path):
    alone = written(tmp_path / "data.yaml", DATA.replace("ROOT", str(hazelnut.parent)))
    section = written(tmp_path / "all.yaml", "data:\n" + alone.read_text().replace("\n", "\n  "))
    for path in (alone, section):
        data = AnomalibDataModule.from_config(path, **{"data.train_batch_size": 1, "data.init_args.num_workers": 1})
        assert type(data) is MVTec
        assert (data.train_batch_size, data.eval_batch_size, data.num_workers) == (1, 32, 1)
        assert (len(data.train), data.calibration) == (10, [])
    with pytest.raises(UsageError, match=r"from_config got 'data_train_batch_size'; expected data.NAME, such as"):
        AnomalibDataModule.from_config(alone, data_train_batch_size=8)
    with pytest.raises(UsageError, match=r"MVTec has no argument 'train_batch_sice'. Did you mean 'train_batch_size'"):
        MVTec.from_config(alone, **{"data.train_batch_sice": 8})
    with pytest.raises(UsageError, match=r"class_path is 'anomalib.data.MVTec'. Known: Folder"):
        Folder.from_config(alone)
    with pytest.raises(FileNotFoundError, match="There is no configuration file"):
        AnomalibDataModule.from_config(tmp_path / "none.yaml")


TRANSFORM = """
class_path: anomalib.data.Folder
init_args:
  name: nuts
  root: ROOT
  normal_dir: train/good
  abnormal_dir: test/colour
  extensions: [".jpg"]
  augmentations: {class_path: torchvision.transforms.v2.Resize, init_args: {size: [64, 64]}}
  eval_transform:
    class_path: torchvision.transforms.v2.Compose
    init_args:
      transforms:
        - {class_path: torchvision.transforms.v2.Resize, init_args: {size: [64, 64]}}
        - class_path: torchvision.transforms.v2.Normalize
          init_args: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
"""


def test_a_configuration_makes_transforms_and_no_other_objects(hazelnut, tmp_path):
    path = written(tmp_path / "data.yaml", TRANSFORM.replace("ROOT", str(hazelnut)))
    data = Folder.from_config(path, **{"data.augmentations": None})
    assert isinstance(data.eval_transform, Compose)
    assert [type(one) for one in data.eval_transform.transforms] == [Resize, Normalize]
    assert data.test_data[0]["image"].shape == (3, 64, 64)
    for foreign in ("os.system", "torchvision.transforms.v2.functional.resize", "torchvision.models.Resize"):
        written(path, path.read_text().replace("torchvision.transforms.v2.Normalize", foreign))
        with pytest.raises(UsageError, match=f"eval_transform is an object of {foreign}; a file makes transforms of"):
            Folder.from_config(path)
        written(path, path.read_text().replace(foreign, "torchvision.transforms.v2.Normalize"))


WHOLE = """
seed_everything: 7
trainer:
  accelerator: cpu
  devices: auto
  max_epochs: null
  callbacks: CALLBACKS
  logger: null
  enable_progress_bar: false
normalization: {normalization_method: MIN_MAX}
task: SEGMENTATION
metrics:
  image: [F1Score, AUROC]
  pixel: null
  threshold: THRESHOLD
logging: {log_graph: false}
default_root_dir: RESULTS
ckpt_path: null
model:
  class_path: anomalib.models.Patchcore
  init_args: {backbone: efficientnet_lite0, layers: [blocks.2, blocks.4], coreset_sampling_ratio: 0.01}
data:
"""


@QUIET
def test_an_engine_a_model_and_data_come_from_one_configuration(hazelnut, tmp_path):
    text = WHOLE.replace("RESULTS", str(tmp_path)) + DATA.replace("ROOT", str(hazelnut.parent)).replace("\n", "\n  ")
    path = written(tmp_path / "all.yaml", text.replace("CALLBACKS", "null").replace("THRESHOLD", "null"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*_split_ratio has no effect")
        engine, model, data = Engine.from_config(path)
    assert (type(engine), type(model), type(data)) == (Engine, Patchcore, MVTec)
    assert (engine.task, engine.normalization, data.task) == (TaskType.SEGMENTATION, "min_max", TaskType.SEGMENTATION)
    assert (model.coreset_sampling_ratio, model.seed, data.num_workers) == (0.01, 7, 8)
    given = {"task": "CLASSIFICATION", "data.train_batch_size": 1, "model.num_neighbors": 3, "trainer.devices": 1}
    with pytest.warns(UserWarning, match="pixel_metrics have no effect"):
        engine, model, data = Engine.from_config(path, **given, **{"metrics.pixel": ["AUROC"]})
    assert engine.task is data.task is TaskType.CLASSIFICATION
    assert (data.train_batch_size, model.model.num_neighbors) == (1, 3)


@QUIET
@pytest.mark.filterwarnings("ignore:.*all.yaml")
def test_what_a_whole_configuration_cannot_have_is_named_once(hazelnut, tmp_path):
    text = WHOLE.replace("RESULTS", str(tmp_path)) + DATA.replace("ROOT", str(hazelnut.parent)).replace("\n", "\n  ")
    text = text.replace("CALLBACKS", "[{class_path: lightning.pytorch.callbacks.Timer}]")
    text = text.replace("THRESHOLD", "F1AdaptiveThreshold").replace("ckpt_path: null", "ckpt_path: model.ckpt")
    path = written(tmp_path / "all.yaml", text)
    named = "all.yaml: trainer.callbacks, metrics.threshold, ckpt_path have no effect: thresholds come from held-out"
    with pytest.warns(UserWarning, match=named):
        Engine.from_config(path)
    with pytest.raises(UsageError, match=r"Engine has no argument 'max_epoch'. Did you mean 'max_epochs'"):
        Engine.from_config(path, **{"trainer.max_epoch": 3})
    with pytest.raises(UsageError, match="has no data; expected a section data: with class_path"):
        Engine.from_config(written(tmp_path / "model.yaml", CONFIG))
    with pytest.raises(UsageError, match="trainer is 3; expected names with values"):
        Engine.from_config(written(path, text.replace("trainer:\n", "trainer: 3\nother:\n")))
