"""Worker processes: each call runs in one of them, under a time-out, and its failure is its own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from types import TracebackType
from typing import Any, Self

from pebble import ProcessExpired, ProcessPool

from arena.interface.devices import resolve_device
from arena.tournament import worker
from arena.tournament.config import Config


class WorkerFailure(Exception):
    """A call did not come back: it ran out of time, or its process died."""


class Workers:
    """Worker processes that are replaced when they die. Leaving the context ends them, whatever they do.

    Calls share processes, so that torch, data and defenses are loaded once; a call that must not share, because it runs
    code of a third party that could change its process, gets a process that has run nothing and that nothing follows.
    """

    def __init__(self, config: Config, count: int) -> None:
        self.count = count
        self._config = config
        self._pools: dict[bool, ProcessPool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for pool in self._pools.values():
            pool.stop()
            pool.join()

    def submit(self, function: Callable[..., Any], *args: Any, timeout: float, alone: bool = False) -> Future:
        """Run `function(*args)` in a worker, at most `timeout` seconds of it; `alone`: in a process of its own."""
        if alone not in self._pools:
            self._pools[alone] = ProcessPool(
                self.count,
                max_tasks=1 if alone else 0,
                initializer=worker.initialize,
                initargs=[self._config],
                context=multiprocessing.get_context("spawn"),
            )
        return self._pools[alone].schedule(function, args=args, timeout=timeout)


def outcome(future: Future, timeout: float) -> Any:
    """The result of a call; raises what it raised, and WorkerFailure if it never came back."""
    try:
        return future.result()
    except TimeoutError:
        raise WorkerFailure(f"timed out after {timeout:g} s") from None
    except ProcessExpired as failure:
        how = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        raise WorkerFailure(f"the worker process died ({how})") from None


def worker_count(config: Config) -> int:
    """The configured number of workers; else one if they would share a GPU, or one a core."""
    if config.run.workers is not None:
        return config.run.workers
    if resolve_device(config.run.device).type == "cuda":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
