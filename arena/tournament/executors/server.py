"""The process that workers are forked from on Linux: warm (torch is imported) and clean (it runs no plugin).

It starts no thread and does not touch CUDA, so that a fork of it is a sound process. It ends every worker together with
all that the worker started, and ends with its coordinator.
"""

from __future__ import annotations

import ctypes
import gc
import os
import selectors
import signal
import socket
import struct
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from arena.tournament.executors import child

STATUS = struct.Struct("!i")  # what the server reports of a fork: its process id, then its exit code

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def main(role: str, control: int, coordinator: int) -> None:
    """Warm up by `role.warm()`, then fork a worker for each request on the socket `control` until it is closed.

    A request is one byte with four file descriptors: the worker's jobs, answers and output, and where to report.
    """
    _die_with(coordinator, signal.SIGTERM)
    import_module(role).warm()
    gc.collect()
    gc.freeze()  # the forks share these pages
    _adopt_orphans()
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # the loop hears of it through `woken`
    with socket.socket(fileno=control) as requests, woken, wake:
        try:
            _Server(requests, woken, wake).run()
        finally:
            signal.set_wakeup_fd(-1)  # a worker may end after `wake` is closed


class _Server:
    def __init__(self, requests: socket.socket, woken: socket.socket, wake: socket.socket) -> None:
        self._requests, self._woken, self._wake = requests, woken, wake
        self._reports: dict[int, int] = {}  # process id of a worker -> where its exit code is wanted

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._requests, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            running = True
            while running:
                for key, _ in selector.select():
                    running = running and (self._request() if key.fileobj is self._requests else self._signalled())
        for pid in self._reports:
            _kill_group(pid)
        while _kill_orphans(spared=()):
            os.wait()

    def _request(self) -> bool:
        """Fork a worker; False: the coordinator is gone."""
        try:
            request, fds, *_ = socket.recv_fds(self._requests, 1, 4)
        except OSError:
            return False
        if not request:
            return False
        jobs, answers, output, report = fds
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            pid = None  # the closed report tells
        if pid == 0:
            self._become_worker(server, *fds)
        for fd in (jobs, answers, output):
            os.close(fd)
        if pid is None:
            os.close(report)
        else:
            _report(report, pid)
            self._reports[pid] = report
        return True

    def _become_worker(self, server: int, jobs: int, answers: int, output: int, report: int) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            _die_with(server, signal.SIGKILL)  # even within a C call that never returns
            _adopt_orphans()
            os.setsid()
            for end in (self._requests, self._woken, self._wake):
                end.close()
            for fd in (report, *self._reports.values()):
                os.close(fd)
            child.redirect(output)
            os.close(output)
            for fd in (jobs, answers):
                os.set_inheritable(fd, False)
            child.serve(os.fdopen(jobs, "rb"), os.fdopen(answers, "wb"))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _signalled(self) -> bool:
        """Bury the dead and report them; False: told to end."""
        if signal.SIGTERM in self._woken.recv(4096):
            return False
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                pid = ended.si_pid
                if pid in self._reports:
                    _kill_group(pid)  # before the number can belong to another process
                _, status = os.waitpid(pid, 0)
                if pid in self._reports:
                    report = self._reports.pop(pid)
                    _kill_orphans(spared=self._reports)
                    _report(report, os.waitstatus_to_exitcode(status))
                    os.close(report)
        return True


def _die_with(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent ends, more exactly the thread that started it."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def _adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs: a worker's own while it lives, then the server's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _kill_orphans(spared: object) -> bool:
    """Kill the children that are no workers: what ended workers had detached. Says if there is any child at all."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    pids = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    for pid in pids:
        if pid not in spared:  # type: ignore[operator]
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    return bool(pids)


def _report(report: int, number: int) -> None:
    with suppress(OSError):  # the coordinator may not care any more
        os.write(report, STATUS.pack(number))
