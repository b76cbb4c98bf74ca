from .data.reading import Reading as Reading
from .data.sample import Dataset as Dataset, Sample as Sample
from .detector import Detector as Detector
from .errors import (
    BackboneError as BackboneError,
    DataError as DataError,
    ExportError as ExportError,
    ImageError as ImageError,
    MissingExtraError as MissingExtraError,
    NotFittedError as NotFittedError,
    PatchcoreError as PatchcoreError,
    RecipeError as RecipeError,
    StoreError as StoreError,
    UsageError as UsageError,
    WeightsError as WeightsError,
)
from .model.version import __version__ as __version__
from .recipe import Recipe as Recipe
from .result import Result as Result
