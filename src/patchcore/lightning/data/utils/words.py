"""The words by which anomalib's scripts choose a task and the splits of a dataset."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from patchcore.errors import UsageError

E = TypeVar("E", bound="_Word")


class _Word(str, Enum):
    @classmethod
    def of(cls: type[E], argument: str, value: str) -> E:
        """The member that a text in any case names. Errors: UsageError."""
        try:
            return cls(str(getattr(value, "value", value)).lower())
        except ValueError:
            known = ", ".join(one.value for one in cls)
            raise UsageError(f"{argument} is {value!r}; it must be one of {known}.") from None


class TaskType(_Word):
    """What is asked of a model: verdicts for images, or masks too."""

    CLASSIFICATION = "classification"
    DETECTION = "detection"
    SEGMENTATION = "segmentation"


class TestSplitMode(_Word):
    """Where test images come from."""

    __test__ = False  # no test, whatever pytest takes the name for

    NONE = "none"
    FROM_DIR = "from_dir"
    SYNTHETIC = "synthetic"  # not supported


class ValSplitMode(_Word):
    """Where the images that set the thresholds come from. Here always from the good training images, unless NONE."""

    NONE = "none"
    SAME_AS_TEST = "same_as_test"
    FROM_TRAIN = "from_train"
    FROM_TEST = "from_test"
    SYNTHETIC = "synthetic"  # not supported
    FROM_DIR = "from_dir"


class LabelName(int, Enum):
    """The verdict for an image."""

    NORMAL = 0
    ABNORMAL = 1
