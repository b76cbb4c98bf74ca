from .anomaly_map import AnomalyMapGenerator as AnomalyMapGenerator
from .components import (
    AnomalyModule as AnomalyModule,
    DynamicBufferMixin as DynamicBufferMixin,
    KCenterGreedy as KCenterGreedy,
    LearningType as LearningType,
    MemoryBankMixin as MemoryBankMixin,
)
from .conversion import detector_of as detector_of
from .data import ImageDataModule as ImageDataModule
from .data.utils import TaskType as TaskType
from .engine import Engine as Engine
from .lightning_model import Patchcore as Patchcore
from .torch_model import PatchcoreModel as PatchcoreModel
