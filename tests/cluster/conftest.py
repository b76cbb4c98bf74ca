"""One Ray for all tests of this folder: two cores, a small store."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray() -> Iterator[object]:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'patchcore[cluster]'")
    from patchcore.cluster.session import engine

    module = engine()
    module.init("local", num_cpus=2, object_store_memory=300_000_000, include_dashboard=False, log_to_driver=False)
    yield module
    module.shutdown()
