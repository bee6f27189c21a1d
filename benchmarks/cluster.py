"""What a Ray cluster costs beside this machine's own workers: start-up, memory, overhead of a job, in one run.

python benchmarks/cluster.py [NODES] starts a cluster of so many nodes, of one processor each, on this machine.
"""

import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from arena.tournament.config import Config
from arena.tournament.executors import Executor
from arena.tournament.executors.opening import open_executor
from arena.tournament.jobs import IdentifyJob

ROUNDS, JOBS = 6, 60
JOB = IdentifyJob(60, False, "attack", "gaussian-noise", "match")  # answered from a cache: all overhead


def memory() -> float:
    """MiB of all processes below this one, shared pages counted once."""
    waiting, total = [str(os.getpid())], 0
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            for pid in task.read_text().split():
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                waiting.append(pid)
    return total / 1024


def opened(name: str, run: dict[str, Any]) -> Executor:
    """An executor that has answered."""
    started = time.perf_counter()
    executor = open_executor(Config.model_validate({"run": run | {"device": "cpu"}}))
    executor.submit(JOB).result()
    print(f"{name:5} {executor.workers} workers, first answer after {time.perf_counter() - started:.1f} s")
    [future.result() for future in [executor.submit(JOB) for _ in range(10 * executor.workers)]]
    return executor


def measured(executor: Executor) -> tuple[list[float], float]:
    """Seconds of each job, one after the other, and jobs a second with all workers busy."""
    single = []
    for _ in range(JOBS):
        before = time.perf_counter()
        executor.submit(JOB).result()
        single.append(time.perf_counter() - before)
    before = time.perf_counter()
    [future.result() for future in [executor.submit(JOB) for _ in range(JOBS)]]
    return single, JOBS / (time.perf_counter() - before)


def main() -> None:
    try:
        from ray.cluster_utils import Cluster
    except ModuleNotFoundError:
        print("ray is not installed: pip install 'arena-robustness[ray]'")
        return
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    started = time.perf_counter()
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        print(f"a cluster of {nodes} nodes starts in {time.perf_counter() - started:.1f} s", end=", ")
        time.sleep(5)
        print(f"and takes {memory():.0f} MiB idle")
        here = opened("local", {"workers": nodes})
        there = opened("ray", {"executor": "ray", "ray": {"address": cluster.address}})
        with here, there:
            rounds = [(measured(here), measured(there)) for _ in range(ROUNDS)]
        for name, results in zip(("local", "ray"), zip(*rounds, strict=True), strict=True):
            single = median(seconds for of_round, _ in results for seconds in of_round)
            print(f"{name:5} a job {1000 * single:.2f} ms, {median(rate for _, rate in results):.0f} jobs/s")
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
