from .running import (
    load as load,
    verify as verify,
)
from .saving import (
    Saved as Saved,
    save as save,
)
