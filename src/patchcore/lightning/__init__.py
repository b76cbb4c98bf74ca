"""Lightning: the interface of anomalib v1's PatchCore, on this package's engine.

    from lightning import Trainer
    from patchcore.lightning import Patchcore, ImageDataModule
    model = Patchcore()
    Trainer(**model.trainer_arguments).fit(model, ImageDataModule("parts"))

Needs `pip install 'patchcore[lightning]'`. docs/compatibility.md lists every name, and every deliberate difference;
docs/migration-anomalib.md shows a script before and after. torch and Lightning are loaded when a name is first used.
"""

from importlib.util import find_spec

import lazy_loader

from patchcore.errors import MissingExtraError

if find_spec("lightning") is None:
    raise MissingExtraError("lightning", "lightning", "patchcore.lightning")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names are in __init__.pyi
