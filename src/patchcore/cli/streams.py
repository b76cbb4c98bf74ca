"""Standard streams that are there, even where nobody has given any or listens.

Remarks vanish where nobody can read them. Results do not: without standard output they are an error.

`pythonw`, a Windows service, `2>&-` and the like start a program without them. Python then has None for the stream,
which few packages expect; and the next file that is opened gets the stream's number, so that whatever a library
written in C has to say would end up in it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress


def complete() -> None:
    """Give the process every standard stream that it lacks."""
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
            if name == "stdout":
                sys.stdout = NoOutput(_Lost(), "utf-8")
    if type(sys.stderr) is io.TextIOWrapper and sys.stderr is sys.__stderr__:
        sys.stderr = _Remarks.of(sys.stderr)


def lost() -> OSError:
    return OSError(errno.EBADF, "it is closed, so the results would be lost. Redirect it: > FILE", "standard output")


class _Lost(io.BytesIO):
    def write(self, _: object) -> int:
        raise lost()


class NoOutput(io.TextIOWrapper):
    """Standard output where there is none: results that are printed are lost, which is an error."""

    def write(self, _: str) -> int:
        raise lost()


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
