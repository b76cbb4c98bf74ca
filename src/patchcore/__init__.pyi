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
from .recipe import Recipe as Recipe
from .result import Result as Result
from .version import __version__ as __version__
