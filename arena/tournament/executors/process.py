"""Worker processes as the coordinator sees them: started, asked, and ended with all that they started."""

from __future__ import annotations

import codecs
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO, Protocol

import arena
from arena import environment
from arena.errors import printable
from arena.tournament.executors import Answer, Failure, server
from arena.tournament.executors.wire import decode, failure, read_frame, write_frame

FORKS = sys.platform == "linux"  # elsewhere each worker is a fresh interpreter
OUTPUT = 4000  # bytes of a job's output that are shown
_GRACE = 5.0  # seconds that a killed process may take to be gone


class Process(Protocol):
    """A process, forked or spawned."""

    def wait(self, seconds: float) -> int | None:
        """Its exit code, negative for a signal; None if it still runs after so many seconds."""
        ...

    def kill(self) -> None:
        """Kill it and its process group."""
        ...


class Worker:
    """One worker process. Its output goes to stderr, the first `OUTPUT` bytes of each job.

    Two threads serve its pipes, so that whoever asks can stop to wait at any time.
    """

    def __init__(self, launch: Callable[[int, int, int], Process]) -> None:
        """Raises OSError if no process can be had. launch: makes one of file descriptors: jobs, answers, output."""
        jobs, to_jobs = os.pipe()
        from_answers, answers = os.pipe()
        from_output, output = os.pipe()
        try:
            self._process = launch(jobs, answers, output)
        except BaseException:
            for fd in (to_jobs, from_answers, from_output):
                os.close(fd)
            raise
        finally:
            for fd in (jobs, answers, output):
                os.close(fd)
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._inbox: SimpleQueue[Answer | Failure | None] = SimpleQueue()
        self._shown = 0
        self._deaf = False
        self._ending = threading.Lock()
        self._ended = False
        self._code: int | None = None
        pipes = os.fdopen(to_jobs, "wb"), os.fdopen(from_answers, "rb")
        threading.Thread(target=self._converse, args=pipes, daemon=True).start()
        self._output = threading.Thread(target=self._show, args=(os.fdopen(from_output, "rb", 0),), daemon=True)
        self._output.start()

    def ask(self, content: bytes, timeout: float) -> Answer | Failure:
        """Send one frame and wait at most so many seconds for its answer; else the process is ended.

        The seconds are those of a monotonic clock, which stops while the machine is suspended.
        """
        self._shown = 0
        self._outbox.put(content)
        try:
            outcome = self._inbox.get(timeout=min(timeout, threading.TIMEOUT_MAX))
        except Empty:
            self.end()
            return Failure(f"timed out after {timeout:g} s")
        return outcome or Failure(f"the worker process died{_how(self.end())}")

    def is_alive(self) -> bool:
        """Whether it can be asked."""
        with self._ending:
            return not self._deaf and not self._ended and self._process.wait(0) is None

    def end(self) -> int | None:
        """End it, whatever it does; gives its exit code, which is its own if it died before."""
        with self._ending:
            if not self._ended:
                self._ended = True
                self._process.kill()
                self._code = self._process.wait(_GRACE)
        self._outbox.put(None)
        self._output.join(timeout=1)  # where a process that escaped holds the pipe, its output is lost
        return self._code

    def _converse(self, jobs: BinaryIO, answers: BinaryIO) -> None:
        with suppress(OSError), answers, jobs:
            for number in count():
                content = self._outbox.get()
                if content is None:
                    return
                outcome: Answer | Failure | None = None
                try:
                    write_frame(jobs, content)
                    frame = read_frame(answers)
                    outcome = None if frame is None else decode(number, frame)
                except ValueError as error:
                    outcome = failure(f"the worker sent a malformed answer: {error}")
                    self._deaf = True  # what follows is of no known job
                except OSError:
                    pass  # it died before it took the job
                self._inbox.put(outcome)
                if outcome is None or self._deaf:
                    return

    def _show(self, output: BinaryIO) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        with output:
            while chunk := output.read(2**16):
                room = max(OUTPUT - self._shown, 0)
                self._shown += len(chunk)
                if text := decoder.decode(chunk[:room]):
                    to_stderr(text)
                if room and len(chunk) > room:
                    to_stderr("\n[the rest of what this job prints is dropped]\n")


class Server:
    """Starts workers: forks of a warmed server process where the system allows it, else fresh interpreters."""

    def __init__(self, role: str) -> None:
        """role: the module that workers will need, with `warm()`."""
        self._role = role
        self._forks = FORKS
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._closed = False

    def launch(self, jobs: int, answers: int, output: int) -> Process:
        """Start a worker with these file descriptors; raises OSError."""
        if not self._forks:
            return _Spawned(_interpreter("child", stdin=jobs, stdout=answers, stderr=output))
        reported, report = os.pipe()
        try:
            with self._lock:
                if self._closed:
                    raise ProcessLookupError("stopped")
                if self._process is None or self._process.poll() is not None:
                    self._start()
                assert self._requests is not None  # _start has made it
                socket.send_fds(self._requests, [b"f"], [jobs, answers, output, report])
        except BaseException:
            os.close(reported)
            raise
        finally:
            os.close(report)
        return _Forked(reported)

    def close(self) -> None:
        """End the server, and so every worker."""
        with self._lock:
            self._closed = True
            if self._process is not None and self._requests is not None:
                self._requests.close()
                _end(self._process)

    def _start(self) -> None:
        """Start the process. The caller's thread must live as long: the kernel ends the server with it."""
        if self._requests is not None:
            self._requests.close()
        self._requests, theirs = socket.socketpair()
        with theirs:
            arguments = self._role, theirs.fileno(), os.getpid()
            self._process = _interpreter("server", *arguments, inherited=[theirs.fileno()])


class _Forked:
    """A fork of the server. Raises OSError if there is none."""

    def __init__(self, reported: int) -> None:
        self._reported = reported
        self._code: int | None = None
        report = os.read(reported, server.STATUS.size)  # comes once the server is warm
        if len(report) < server.STATUS.size:
            os.close(reported)
            raise ProcessLookupError("the server that starts workers has ended, or cannot fork")
        (self._pid,) = server.STATUS.unpack(report)

    def wait(self, seconds: float) -> int | None:
        if self._code is None:
            poll = select.poll()
            poll.register(self._reported, select.POLLIN)
            if poll.poll(1000 * seconds):
                report = os.read(self._reported, server.STATUS.size)
                os.close(self._reported)
                # Without a report the server was killed, and its workers with it.
                self._code = server.STATUS.unpack(report)[0] if report else -signal.SIGKILL
        return self._code

    def kill(self) -> None:
        if self.wait(0) is None:  # else the server has done it, and the number may be another's
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)


class _Spawned:
    """A fresh interpreter."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()


def to_stderr(text: str) -> None:
    """Show what a plugin prints, whatever has become of stderr."""
    with suppress(Exception):
        sys.stderr.write(printable(text, 10 * len(text)))
        sys.stderr.flush()


def _interpreter(
    module: str,
    *arguments: object,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int | None = None,
    inherited: Collection[int] = (),
) -> subprocess.Popen[bytes]:
    """Run `main(*arguments)` of a module of this package in a fresh interpreter, in a session of its own."""
    code = (
        f"import sys; sys.path[:] = {_search_path()!r}; "
        f"from arena.tournament.executors.{module} import main; main(*{arguments!r})"
    )
    return subprocess.Popen(
        # -P: the current folder is not searched first, where a socket.py would stand for the standard library's
        [sys.executable, "-P", "-c", code],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment.for_workers(),
        start_new_session=True,
        pass_fds=inherited,
    )


def _search_path() -> list[str]:
    """This process's sys.path with the current folder last, unless arena comes from there."""
    here, own = os.getcwd(), str(Path(arena.__file__).parents[1])
    path = [os.path.abspath(entry) for entry in sys.path]  # "" is the current folder
    first = [entry for entry in path if entry != here or here == own]
    return list(dict.fromkeys([*first, *path]))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _how(code: int | None) -> str:
    if code is None:
        return ""
    return f" (signal {-code})" if code < 0 else f" (exit code {code})"
