"""What runs in a worker process: it takes jobs from a pipe, answers each, and ends without waiting for anything."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, NoReturn

from arena.errors import UserError
from arena.tournament.executors import Answer, Failure
from arena.tournament.executors.wire import encode, failure, read_frame, write_frame

_OUT_OF_MEMORY = ("allocate memory", "out of memory", "bad_alloc")  # of torch, CUDA, the system and C++


@dataclass(frozen=True)
class Birth:
    """What a worker is for: the module `role` with `initialize(settings, places)` and `perform(job)`.

    places: where this machine has files that the settings name, if elsewhere.
    """

    role: str
    settings: Any
    places: dict[str, str]


def main() -> NoReturn:
    """A worker that is a fresh interpreter: jobs come through stdin, answers leave through stdout."""
    jobs, answers = os.dup(0), os.dup(1)
    redirect(output=2)
    serve(os.fdopen(jobs, "rb"), os.fdopen(answers, "wb"))


def redirect(output: int) -> None:
    """Make stdin empty; what is printed goes to the file descriptor `output`, never between answers."""
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(empty)
    sys.stdout, sys.stderr = (
        os.fdopen(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False) for fd in (1, 2)
    )


def serve(jobs: BinaryIO, answers: BinaryIO) -> NoReturn:
    """Answer every job. Ends by `os._exit`: threads and exit handlers that plugins leave behind do not keep it."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's
        inbox: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=_receive, args=(jobs, inbox), daemon=True).start()
        birth: Birth = pickle.loads(inbox.get())
        write_frame(answers, _attempt(0, _initialize, birth))
        for number in count(1):
            job = pickle.loads(inbox.get())
            write_frame(answers, _attempt(number, import_module(birth.role).perform, job))
            if job.foreign:
                break
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def limit_memory(gib: float) -> list[str]:
    """Limit what this process may allocate to `gib` GiB; returns what the user should know, a line each.

    RLIMIT_DATA counts private memory. RLIMIT_AS, on Linux, counts shared memory and mapped files too, on top of what is
    mapped already. Where the system's own limit is lower, that one stays.
    """
    try:
        import resource
    except ImportError:
        return ["[run] memory has no effect: this system has no such limit"]
    limits = {resource.RLIMIT_DATA: int(gib * 2**30)}
    statm = Path("/proc/self/statm")
    if statm.exists():
        mapped = int(statm.read_text().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = mapped + limits[resource.RLIMIT_DATA]
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY and hard < limit:
            limits[kind] = hard
        try:
            resource.setrlimit(kind, (limits[kind], limits[kind]))
        except (OSError, ValueError) as error:
            return [f"[run] memory has no effect: the system refuses the limit ({error})"]
        if limits[kind] < limit:
            return [f"[run] memory: the system's own limit is lower, {limits[kind] / 2**30:.3g} GiB"]
    return []


def _receive(jobs: BinaryIO, inbox: SimpleQueue[bytes]) -> None:
    while (frame := read_frame(jobs)) is not None:
        inbox.put(frame)
    # The coordinator is gone: end, with what plugins have started.
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _initialize(birth: Birth) -> list[str]:
    return import_module(birth.role).initialize(birth.settings, birth.places)


def _attempt(number: int, call: Callable[..., Any], *args: Any) -> bytes:
    """The encoded outcome of `call(*args)`, whatever it does. Plugins raise anything: SystemExit, their own classes."""
    outcome: Answer | Failure
    try:
        outcome = Answer(call(*args))
    except BaseException as error:
        outcome = _failure_of(error)
    # Here the traceback is gone, and with it the memory that its frames held.
    _flush()  # before the answer, so that it counts for this job
    try:
        return encode(number, outcome)
    except Exception as error:
        return encode(number, failure(f"the answer is not plain data: {type(error).__name__}: {error}"))


def _failure_of(error: BaseException) -> Failure:
    if isinstance(error, UserError):
        return failure(str(error), usage=True)
    try:
        reason = "".join(traceback.format_exception_only(error))
        said = isinstance(error, OSError | RuntimeError) and any(sign in reason for sign in _OUT_OF_MEMORY)
        if said or isinstance(error, MemoryError):
            reason = "ran out of memory"
        return failure(reason, "".join(traceback.format_exception(error)))
    except MemoryError:
        return Failure("ran out of memory")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a plugin may have closed or replaced them
            stream.flush()
