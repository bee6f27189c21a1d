"""Workers of a Ray cluster: each job runs on some node, by the rules of one machine, and survives the loss of nodes.

Ray places agents, carries jobs and answers, and tells when an agent is gone. Agents run arena's own worker processes.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Self

import ray

from arena.tournament.config import Config
from arena.tournament.executors import Answer, Failure, cluster
from arena.tournament.executors.agent import Agent
from arena.tournament.executors.local import START_TIMEOUT, LocalExecutor
from arena.tournament.executors.parcels import packed
from arena.tournament.executors.process import to_stderr
from arena.tournament.executors.wire import decode, failure
from arena.tournament.jobs import Job, NodeJob

REPLAYS = 3  # of a job that is lost with its agent
STILLBORN = 3  # agents in a row that end before they have introduced themselves
PATIENCE = 30.0  # seconds until the user is told that the cluster has no room


@dataclass(eq=False)
class _Task:
    job: Job
    future: Future[Answer | Failure] = field(default_factory=Future)
    losses: int = 0


@dataclass(eq=False)
class _Member:
    """An agent as the coordinator knows it; `where` is empty until it has introduced itself."""

    slots: int
    actor: Any
    where: str = ""
    description: Answer | Failure | None = None
    ready: bool = False
    busy: int = 0


@dataclass(eq=False)
class _Call:
    """What an agent was asked and has not answered; task: None for its introduction, which waits for room too."""

    member: _Member
    task: _Task | None
    deadline: float


class RayExecutor:
    """Runs jobs in the worker processes of agents on the nodes of a Ray cluster.

    At most so many jobs as it has slots are with an agent, the others wait here. A job that is lost with its agent is
    played again, `REPLAYS` times at most. An answer of a job that was given out again counts for nothing. One thread
    owns all state; the others put events into its inbox.
    """

    def __init__(self, config: Config, role: str = "arena.tournament.worker") -> None:
        """Joins the cluster; raises UserError. role: as for `LocalExecutor`."""
        self._settings, self._role = config.run.ray, role
        # The address of the store can hold a password, and is not the nodes' business.
        self._config = config.model_copy(update={"run": config.run.model_copy(update={"db": ""})})
        parcels = packed(config)
        cluster.join(self._settings.address)
        try:
            self._slices = cluster.slices(config.run)
            self._parcels = ray.put(parcels)  # sent to each node once
        except BaseException:
            cluster.leave()
            raise
        self.workers = sum(self._slices)
        self._inbox: SimpleQueue[tuple[str, Any, Any]] = SimpleQueue()
        self._waiting: deque[_Task] = deque()
        self._members: list[_Member] = []
        self._calls: dict[int, _Call] = {}
        self._numbers = count()
        self._reference: Answer | Failure | None = None
        self._broken: Failure | None = None
        self._stillborn = 0
        self._impatient = time.monotonic() + PATIENCE
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._inbox.put(("close", None, None))
        self._thread.join()
        cluster.leave()

    def submit(self, job: Job) -> Future[Answer | Failure]:
        """Run the job on the first agent that has room."""
        if self._closed:
            raise RuntimeError("the executor is closed")
        task = _Task(job)
        self._inbox.put(("job", task, None))
        return task.future

    def _run(self) -> None:
        """The thread that owns all state."""
        # What must be equal on every node is what is installed here.
        here = LocalExecutor(self._config, 1, self._role)
        described = here.submit(NodeJob(START_TIMEOUT, foreign=False))
        described.add_done_callback(lambda future: self._inbox.put(("reference", None, future)))
        for slots in self._slices:
            self._hire(slots)
        while (event := self._next())[0] != "close":
            match event:
                case ("job", task, _):
                    self._waiting.append(task)
                case ("reference", _, future):
                    self._reference = future.result()
                    here.__exit__()
                    for member in list(self._members):
                        self._admit(member)
                case ("answer", number, future):
                    self._take(number, future)
            self._expire()
            self._hand_out()
        here.__exit__()
        self._end()

    def _next(self) -> tuple[str, Any, Any]:
        """The next event, or none at the next deadline."""
        wakes = [call.deadline for call in self._calls.values()]
        if not any(member.ready for member in self._members):
            wakes.append(self._impatient)
        nearest = min(wakes, default=float("inf")) - time.monotonic()
        try:
            return self._inbox.get(timeout=max(0.0, nearest) if nearest < threading.TIMEOUT_MAX else None)
        except Empty:
            return ("deadline", None, None)

    def _hire(self, slots: int) -> None:
        """Ask Ray for an agent. Without room for it anywhere it stays pending, which is what an autoscaler sees."""
        options = {"num_cpus": slots, "num_gpus": self._settings.gpus, "max_concurrency": slots + 1}
        actor = ray.remote(Agent).options(**options, scheduling_strategy="SPREAD")
        member = _Member(slots, actor.remote(self._config, slots, self._role, self._parcels))
        self._members.append(member)
        self._ask(member, None, member.actor.introduce.remote(), float("inf"))

    def _ask(self, member: _Member, task: _Task | None, answer: Any, seconds: float) -> None:
        number = next(self._numbers)
        self._calls[number] = _Call(member, task, time.monotonic() + seconds)
        answer.future().add_done_callback(lambda future: self._inbox.put(("answer", number, future)))

    def _take(self, number: int, future: Future[Any]) -> None:
        call = self._calls.pop(number, None)
        if call is None:  # its agent was given up, and the job out again
            return
        try:
            value = future.result()
            if call.task is None:
                call.member.where, description = value
                call.member.description = decode(0, description)
            else:
                outcome = decode(0, value)
        except Exception as error:  # of Ray: the agent is gone
            self._calls[number] = call
            self._lose(call.member, cluster.said(error))
            return
        if call.task is None:
            self._admit(call.member)
        else:
            call.member.busy -= 1
            call.task.future.set_result(outcome)

    def _admit(self, member: _Member) -> None:
        """Let an agent play if its node is like this machine. Else it keeps its room, or Ray would offer that again."""
        if self._reference is None or member.description is None:
            return
        self._stillborn = 0
        wrong = _mismatch(self._reference, member.description)
        member.ready = wrong is None
        if wrong is not None:
            to_stderr(f"arena: node {member.where} is refused: {wrong}\n")
            if all(one.description is not None and not one.ready for one in self._members):
                self._break(f"no node of the Ray cluster is like this machine: {member.where}: {wrong}")

    def _lose(self, member: _Member, why: str) -> None:
        """Give an agent up and have another in its place; what it was playing is played again, first of all."""
        self._members.remove(member)
        if member.where:
            to_stderr(f"arena: an agent on node {member.where} is lost, its jobs are played again: {why}\n")
        with suppress(Exception):
            ray.kill(member.actor)
        for number, call in list(self._calls.items()):
            if call.member is member:
                del self._calls[number]
                if call.task is not None:
                    self._replay(call.task, why)
        if member.description is None:
            self._stillborn += 1
        if self._stillborn < STILLBORN:
            self._hire(member.slots)
        elif not self._members:
            self._break(f"no agent can be started on the Ray cluster; is the same arena on every node? {why}")

    def _replay(self, task: _Task, why: str) -> None:
        task.losses += 1
        if task.losses > REPLAYS:
            task.future.set_result(failure(f"lost {task.losses} times with the node that played it: {why}"))
        else:
            self._waiting.appendleft(task)

    def _expire(self) -> None:
        now = time.monotonic()
        late = {call.member for call in self._calls.values() if call.deadline <= now}
        for member in late:
            self._lose(member, f"no answer from {member.where}")
        if now >= self._impatient and not any(member.ready for member in self._members):
            self._impatient = float("inf")
            if self._broken is None:
                to_stderr("arena: waiting for the Ray cluster: no agent has found room and started yet\n")

    def _hand_out(self) -> None:
        while self._waiting:
            free = max(self._members, key=lambda one: (one.slots - one.busy) * one.ready, default=None)
            room = free is not None and free.ready and free.busy < free.slots
            if self._broken is None and not room:
                return
            task = self._waiting.popleft()
            if not task.future.running() and not task.future.set_running_or_notify_cancel():
                continue
            if self._broken is not None or free is None:
                task.future.set_result(self._broken or Failure("no agent"))
                continue
            free.busy += 1
            answer = free.actor.play.remote(pickle.dumps(task.job))
            self._ask(free, task, answer, task.job.timeout + self._settings.grace)

    def _break(self, why: str) -> None:
        self._broken = failure(why, usage=True)

    def _end(self) -> None:
        for member in self._members:
            with suppress(Exception):
                ray.kill(member.actor)
        for call in self._calls.values():
            if call.task is not None:
                call.task.future.set_result(Failure("stopped"))
        for task in self._waiting:
            task.future.cancel()


def _mismatch(reference: Answer | Failure, other: Answer | Failure) -> str | None:
    """Why a node cannot take part, in one line ("torch 2.9.0 instead of 2.13.0"); None if it can."""
    if isinstance(reference, Failure):
        return reference.reason
    if isinstance(other, Failure):
        return other.reason
    here, there = reference.value, other.value
    differing = [
        f"{name} {there.get(name, 'missing')} instead of {here.get(name, 'none')}"
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]
    return ", ".join(differing) or None
