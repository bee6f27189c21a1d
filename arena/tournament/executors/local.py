"""Worker processes of this machine: each job runs in one of them, under a time-out, and its failure is its own."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Self

from arena.tournament.config import Config
from arena.tournament.executors import Answer, Failure
from arena.tournament.executors.child import Birth
from arena.tournament.executors.process import Server, Worker, to_stderr
from arena.tournament.jobs import Job

START_TIMEOUT = 300.0  # seconds for a worker to be ready: a cold disk, a busy machine


class LocalExecutor:
    """Runs jobs in at most `workers` processes at once, which are replaced when they die.

    Jobs share processes, so that data and defenses are loaded once; a foreign job gets one that has run nothing and
    that nothing follows. A job's time starts when a ready process gets it. Leaving the context ends everything at once,
    whatever it does; what has no answer then is cancelled or a failure.
    """

    def __init__(
        self,
        config: Config,
        workers: int,
        role: str = "arena.tournament.worker",
        places: Mapping[str, str] | None = None,
    ) -> None:
        """role: the module that plays, with `warm()`, `initialize(config, places)` and `perform(job)`; places: where
        this machine has files that the settings name, if elsewhere."""
        self.workers = workers
        # The address of the store can hold a password, and is not the workers' business.
        run = config.run.model_copy(update={"db": ""})
        self._birth = pickle.dumps(Birth(role, config.model_copy(update={"run": run}), dict(places or {})))
        self._server = Server(role)
        self._waiting: SimpleQueue[tuple[Job, Future[Answer | Failure]] | None] = SimpleQueue()
        self._slots: list[threading.Thread] = []
        self._alive: set[Worker] = set()
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            alive = list(self._alive)
        with suppress(Empty):
            while item := self._waiting.get_nowait():
                item[1].cancel()
        for _slot in self._slots:
            self._waiting.put(None)
        self._server.close()
        for worker in alive:
            worker.end()
        for slot in self._slots:
            slot.join(timeout=5)  # it is a daemon: a process that cannot be killed does not keep this one

    def submit(self, job: Job) -> Future[Answer | Failure]:
        """Run the job in a worker as soon as one is free."""
        future: Future[Answer | Failure] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the executor is closed")
            self._waiting.put((job, future))
            if len(self._slots) < self.workers:
                self._slots.append(threading.Thread(target=self._play, daemon=True))
                self._slots[-1].start()
        return future

    def _play(self) -> None:
        """One slot: plays one job at a time until the executor closes."""
        shared: Worker | None = None
        while (item := self._waiting.get()) is not None:
            job, future = item
            if not future.set_running_or_notify_cancel():
                continue
            if job.foreign:
                outcome, worker = self._run(job, None)
                self._end(worker)
            else:
                outcome, shared = self._run(job, shared)
            future.set_result(outcome)

    def _run(self, job: Job, worker: Worker | None) -> tuple[Answer | Failure, Worker | None]:
        """What the job came to, and the worker, a new one if there was none alive; None if it is of no more use."""
        if worker is None or not worker.is_alive():
            self._end(worker)
            worker = None
            try:
                worker = self._hire()
            except OSError as error:
                return Failure(f"no worker process can be started: {error}"), None
            ready = worker.ask(self._birth, START_TIMEOUT)
            if isinstance(ready, Failure):
                self._end(worker)
                return ready, None
            self._say(ready.value)
        return worker.ask(pickle.dumps(job), job.timeout), worker

    def _hire(self) -> Worker:
        worker = Worker(self._server.launch)
        with self._lock:
            self._alive.add(worker)
            closed = self._closed
        if closed:  # __exit__ did not see it
            worker.end()
        return worker

    def _end(self, worker: Worker | None) -> None:
        if worker is not None:
            worker.end()
            with self._lock:
                self._alive.discard(worker)

    def _say(self, notes: list[str]) -> None:
        """Tell the user, once, what workers found out about this machine."""
        with self._lock:
            new = [note for note in notes if note not in self._said]
            self._said.update(new)
        for note in new:
            to_stderr(f"arena: {note}\n")


def worker_count(config: Config) -> int:
    """The configured number of workers; else one if they would share a GPU, or one a core."""
    if config.run.workers is not None:
        return config.run.workers
    if config.run.device != "cpu":
        from arena.interface.devices import resolve_device  # imports torch

        if resolve_device(config.run.device).type == "cuda":
            return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
