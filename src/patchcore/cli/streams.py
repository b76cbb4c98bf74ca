"""Standard streams that are there and take what is said, even where nobody has given any or listens.

`pythonw`, a Windows service, `2>&-` and the like start a program without them. Python then has None for the stream,
which few packages expect; and the next file that is opened gets the stream's number, so that whatever a library
written in C has to say would end up in it.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


def complete() -> None:
    """Give the process every standard stream that it lacks: what is written there vanishes."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed; opening takes the lowest number that is free
            if (taken := os.open(os.devnull, os.O_RDWR)) == number:
                os.set_inheritable(number, True)
            else:
                os.close(taken)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if type(sys.stderr) is io.TextIOWrapper and sys.stderr is sys.__stderr__:
        sys.stderr = _Remarks.of(sys.stderr)


class _Remarks(io.TextIOWrapper):
    """Standard error, of which nothing depends on whether it can be written: its reader may be gone, its disk full."""

    @classmethod
    def of(cls, stream: io.TextIOWrapper) -> _Remarks:
        raw = open(stream.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
        return cls(raw, stream.encoding, "backslashreplace", line_buffering=True, write_through=True)

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()
