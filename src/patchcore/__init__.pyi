from .data.reading import Reading as Reading
from .data.resolve import (
    Images as Images,
    detect as detect,
)
from .data.sample import (
    Dataset as Dataset,
    Sample as Sample,
)
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
    SignatureError as SignatureError,
    StoreError as StoreError,
    UsageError as UsageError,
    WeightsError as WeightsError,
)
from .measure.evaluation import (
    Evaluation as Evaluation,
    evaluate as evaluate,
)
from .maths.registration import Motion as Motion
from .measure.parts import (
    Part as Part,
    parts as parts,
)
from .model.fitted import (
    Fitted as Fitted,
    Member as Member,
)
from .model.signature import check_signature as check_signature
from .model.signing import sign as sign
from .model.version import __version__ as __version__
from .oversight.audit import (
    Audit as Audit,
    Audited as Audited,
    audit as audit,
)
from .oversight.evidence import (
    Evidence as Evidence,
    evidence as evidence,
)
from .oversight.explanation import (
    Explanation as Explanation,
    explain as explain,
)
from .oversight.region_file import read_region as read_region
from .oversight.sources import Sources as Sources
from .recipe import Recipe as Recipe
from .recipe.roi import (
    Area as Area,
    Roi as Roi,
)
from .result import (
    AreaResult as AreaResult,
    Result as Result,
)
from .verdict.calibration import Calibration as Calibration
from .verdict.regions import Region as Region
from .watch.monitor import (
    Alarm as Alarm,
    Monitor as Monitor,
)
