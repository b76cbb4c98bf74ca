import pytest
from export_helpers import fitted

from patchcore import Detector


@pytest.fixture(scope="session")
def small() -> Detector:
    return fitted()
