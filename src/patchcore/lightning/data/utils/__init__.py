"""Utils: the words and the file functions of `anomalib.data.utils`."""

from patchcore.lightning.data.utils.image import (
    generate_output_image_filename,
    get_image_filenames,
    read_image,
    save_image,
    show_image,
)
from patchcore.lightning.data.utils.words import LabelName, TaskType, TestSplitMode, ValSplitMode

__all__ = [
    "LabelName",
    "TaskType",
    "TestSplitMode",
    "ValSplitMode",
    "generate_output_image_filename",
    "get_image_filenames",
    "read_image",
    "save_image",
    "show_image",
]
