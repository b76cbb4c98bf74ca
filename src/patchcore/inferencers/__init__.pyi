from .base import Inferencer as Inferencer
from .models import (
    get_model as get_model,
    get_model_metadata as get_model_metadata,
    read_config as read_config,
)
from .pre_processor import PreProcessor as PreProcessor
from .torch_inferencer import TorchInferencer as TorchInferencer
from .training import train as train
from .visuals import (
    add_label as add_label,
    anomaly_map_to_color_map as anomaly_map_to_color_map,
    superimpose_anomaly_map as superimpose_anomaly_map,
)
