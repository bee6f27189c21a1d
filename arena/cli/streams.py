"""Standard output and error that no command fails on: of any encoding, closed, or a pipe that nobody reads."""

from __future__ import annotations

import codecs
import io
import locale
import os
import sys
from typing import Any

# What is printed where the encoding of the output lacks the character; "?" for all others.
_SUBSTITUTES = {
    "\N{INFINITY}": "inf",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{EN DASH}": "-",
    "\N{BOX DRAWINGS LIGHT HORIZONTAL}": "-",
    "\N{BOX DRAWINGS HEAVY HORIZONTAL}": "-",
    "\N{BOX DRAWINGS LIGHT VERTICAL}": "|",
}


class _Output(io.FileIO):
    """A stream that goes on into the void once it cannot be written to."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as failure:
            void = os.open(os.devnull, os.O_WRONLY)
            os.dup2(void, self.fileno())
            os.close(void)
            if not isinstance(failure, BrokenPipeError):  # `arena leaderboard | head` asked for no more
                raise
            return memoryview(data).nbytes


def prepare() -> None:
    """Make `sys.stdout` and `sys.stderr` such streams, unless somebody else replaced them."""
    for descriptor in range(3):  # one that was closed would go to the next file that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    codecs.register_error("arena", _substitute)
    sys.stdout = _stream(1, sys.stdout, sys.__stdout__)
    sys.stderr = _stream(2, sys.stderr, sys.__stderr__)


def _stream(descriptor: int, now: Any, original: Any) -> Any:
    if now is not original:
        return now
    if original is not None:
        original.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(descriptor, "w", closefd=False)),
        encoding=getattr(original, "encoding", locale.getpreferredencoding(False)),
        errors="arena",
        line_buffering=getattr(original, "line_buffering", False),
        write_through=getattr(original, "write_through", False),
    )


def _substitute(failure: UnicodeError) -> tuple[str, int]:
    if not isinstance(failure, UnicodeEncodeError):
        raise failure
    text = failure.object[failure.start : failure.end]
    return "".join(_SUBSTITUTES.get(character, "?") for character in text), failure.end
