"""Worker processes: each job runs in one of them, under a time-out, and its failure is its own."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from concurrent.futures import Future, TimeoutError
from typing import Any, Self

from pebble import ProcessExpired, ProcessPool

from arena.errors import UserError
from arena.interface.devices import resolve_device
from arena.tournament import worker
from arena.tournament.config import Config
from arena.tournament.executors import Answer, Failure
from arena.tournament.jobs import Job


class LocalExecutor:
    """Worker processes that are replaced when they die. Leaving the context ends them, whatever they do.

    Jobs share processes, so that torch, data and defenses are loaded once; a foreign job gets a process that has run
    nothing and that nothing follows.
    """

    def __init__(self, config: Config, workers: int) -> None:
        self.workers = workers
        # The address of the store can hold a password, and is not the workers' business.
        self._config = config.model_copy(update={"run": config.run.model_copy(update={"db": ""})})
        self._pools: dict[bool, ProcessPool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools.values():
            pool.stop()
            pool.join()

    def submit(self, job: Job) -> Future[Answer | Failure]:
        """Run the job in a worker; its failure is a value."""
        if job.foreign not in self._pools:
            self._pools[job.foreign] = ProcessPool(
                self.workers,
                max_tasks=1 if job.foreign else 0,
                initializer=worker.initialize,
                initargs=[self._config],
                context=multiprocessing.get_context("spawn"),
            )
        outcome: Future[Answer | Failure] = Future()
        outcome.set_running_or_notify_cancel()
        call = self._pools[job.foreign].schedule(_perform, args=[job], timeout=job.timeout)
        call.add_done_callback(lambda ended: outcome.set_result(_outcome(ended, job.timeout)))
        return outcome


def _perform(job: Job) -> tuple[str, Any]:
    try:
        return "answer", worker.perform(job)
    except BaseException as failure:  # a plugin may raise anything, SystemExit and KeyboardInterrupt too
        reason = f"{type(failure).__name__}: {' '.join(str(failure).split()) or 'no message'}"
        usage = isinstance(failure, UserError)
        return "failure", (str(failure) if usage else reason, traceback.format_exc(), usage)


def _outcome(ended: Future, timeout: float) -> Answer | Failure:
    try:
        kind, value = ended.result()
        return Answer(value) if kind == "answer" else Failure(*value)
    except TimeoutError:
        return Failure(f"timed out after {timeout:g} s")
    except ProcessExpired as failure:
        how = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        return Failure(f"the worker process died ({how})")
    except BaseException:  # the answer itself could not travel between the processes
        return Failure("the answer could not be sent", traceback.format_exc())


def worker_count(config: Config) -> int:
    """The configured number of workers; else one if they would share a GPU, or one a core."""
    if config.run.workers is not None:
        return config.run.workers
    if resolve_device(config.run.device).type == "cuda":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
