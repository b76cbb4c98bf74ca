"""Reading: how images are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from patchcore.errors import ImageError, UsageError

MAX_PIXELS = 100_000_000
MOST_THREADS = 4096  # no machine has as many cores, and a process that is given too many dies of it
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
OnBad = Callable[[ImageError], object]
Colour: TypeAlias = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Reading:
    """How images are read, for every method that reads some.

    Attributes:
        max_pixels: Largest image to decode, height times width. A larger one raises ImageError.
        on_bad: Called with the error of an image that cannot be used; the others go on. None raises it.
        threads: Threads that read and compute. None: as many as the detector was given.
        batch: Images in one pass through the network. None: 1 on a CPU, where every thread takes an image of its
            own, and 8 on other devices.
        colour: Order of the channels of arrays and tensors: `rgb`, or `bgr`, which is what OpenCV reads and writes.
            Files and PIL images say their own.
    """

    max_pixels: int = MAX_PIXELS
    on_bad: OnBad | None = None
    threads: int | None = None
    batch: int | None = None
    colour: Colour = "rgb"

    @classmethod
    def of(cls, given: Reading | None) -> Reading:
        """What a caller has given, or the defaults. Errors: UsageError for anything else."""
        if not isinstance(given, cls | None):
            raise UsageError(f"reading is {given!r}; expected a Reading, for example Reading(colour='bgr').")
        return given or cls()

    def __post_init__(self) -> None:
        for name, most in (("max_pixels", 2**63), ("threads", MOST_THREADS), ("batch", 2**16)):
            if (value := getattr(self, name)) is None:
                continue
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise UsageError(f"{name} is {value!r}; expected a whole number.")
            if not 1 <= value <= most:
                bound = "at least 1" if value < 1 else f"at most {most}"
                raise UsageError(f"{name} is {value}; it must be {bound}.")
        if self.colour not in get_args(Colour):
            raise UsageError(f"colour is {self.colour!r}; expected 'rgb', or 'bgr' for arrays that OpenCV has read.")
