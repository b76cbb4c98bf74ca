"""Cluster: fit and predict on many processes and machines, by Ray.

    from patchcore import cluster
    detector = cluster.fit("default", "s3://parts/good", address="auto")
    cluster.predict(detector, "s3://parts/new", out="results.jsonl", address="auto")

Needs the extra `cluster`. Nothing of the library imports it; importing it loads neither Ray nor torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names are in __init__.pyi
