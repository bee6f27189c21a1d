"""What crosses between coordinator and worker: frames of bytes, and answers as plain data, never as pickles."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import msgpack

from arena.errors import printable
from arena.tournament.executors import Answer, Failure

MAX_ANSWER = 256 * 2**20  # bytes; 20 images of 3 x 224 x 224 take 12 MB
REASON, TRACEBACK = 1000, 4000  # characters kept of what a plugin says

_LENGTH = struct.Struct("!Q")
_PLAIN = (type(None), bool, int, float, str, bytes, list, dict)


def write_frame(file: BinaryIO, content: bytes) -> None:
    """Write one frame and flush."""
    file.write(_LENGTH.pack(len(content)) + content)
    file.flush()


def read_frame(file: BinaryIO) -> bytes | None:
    """The next frame; None at the end of the file, within a frame too.

    Raises:
        ValueError: the frame claims to be longer than MAX_ANSWER.
    """
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MAX_ANSWER:
        raise ValueError(f"a message of {length} bytes; the most is {MAX_ANSWER}")
    content = file.read(length)
    return content if len(content) == length else None


def encode(number: int, outcome: Answer | Failure) -> bytes:
    """The bytes of the outcome of a worker's job `number`; tuples become lists.

    Raises:
        TypeError, ValueError, OverflowError: the answer's value is not plain data, or too long.
    """
    match outcome:
        case Answer(value):
            content = msgpack.packb([number, "answer", value])
        case Failure(reason, traceback, usage):
            content = msgpack.packb([number, "failure", reason, traceback, usage])
    if len(content) > MAX_ANSWER:
        raise ValueError(f"{len(content)} bytes; the most is {MAX_ANSWER}")
    return content


def decode(number: int, content: bytes) -> Answer | Failure:
    """The outcome that a worker sent of its job `number`. The bytes are not trusted.

    Raises:
        ValueError: they are malformed, or of another job.
    """
    try:
        message = msgpack.unpackb(content)
        _check_plain(message)
    except Exception as error:  # msgpack raises many kinds
        raise ValueError(f"{type(error).__name__}: {error}") from None
    match message:
        case [of, "answer", value] if of == number:
            return Answer(value)
        case [of, "failure", str(reason), str() | None as traceback, bool(usage)] if of == number:
            return failure(reason, traceback, usage)
    raise ValueError("no outcome of this job")


def failure(reason: str, traceback: str | None = None, usage: bool = False) -> Failure:
    """A failure whose texts can be printed and stored: one line, and a traceback of a few kB."""
    return Failure(
        printable(" ".join(printable(reason, 4 * REASON).split()), REASON),
        None if traceback is None else printable(traceback, TRACEBACK),
        usage,
    )


def _check_plain(value: Any) -> None:
    """Raise ValueError for the types that MessagePack has beyond plain data: extensions and times."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if type(one) not in _PLAIN:
            raise ValueError(f"{type(one).__name__} is not plain data")
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
