"""What a Ray cluster costs beside this machine's own workers: start-up, and overhead of a job, in one run.

python benchmarks/cluster.py [NODES] starts a cluster of so many nodes of one processor each on this machine.
"""

import os
import sys
import time
from pathlib import Path
from statistics import median

from ray.cluster_utils import Cluster

from arena.tournament.config import Config
from arena.tournament.executors.opening import open_executor
from arena.tournament.jobs import IdentifyJob

JOBS = 200
JOB = IdentifyJob(60, False, "attack", "gaussian-noise", "match")


def measured(config):
    """Seconds until the first answer, seconds of one job at a time (median), jobs a second with all workers busy."""
    started = time.perf_counter()
    with open_executor(config) as executor:
        executor.submit(JOB).result()
        start = time.perf_counter() - started
        [future.result() for future in [executor.submit(JOB) for _ in range(10 * executor.workers)]]  # warm
        single = []
        for _ in range(JOBS):
            before = time.perf_counter()
            executor.submit(JOB).result()
            single.append(time.perf_counter() - before)
        before = time.perf_counter()
        [future.result() for future in [executor.submit(JOB) for _ in range(JOBS)]]
        return start, median(single), JOBS / (time.perf_counter() - before)


def memory():
    """MiB of all processes below this one, shared pages counted once."""
    waiting, total = [str(os.getpid())], 0
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            for pid in task.read_text().split():
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                waiting.append(pid)
    return total / 1024


def main():
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    started = time.perf_counter()
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    for _ in range(nodes - 1):
        cluster.add_node(**node)
    print(f"cluster of {nodes} nodes: {time.perf_counter() - started:.1f} s to start", end=", ")
    time.sleep(5)
    print(f"{memory():.0f} MiB idle")
    try:
        for name, run in [
            ("local", {"workers": nodes}),
            ("ray", {"executor": "ray", "ray": {"address": cluster.address}}),
        ]:
            start, single, rate = measured(Config.model_validate({"run": run | {"device": "cpu"}}))
            print(
                f"{name:5} {nodes} workers: first answer {start:.1f} s, a job {1000 * single:.2f} ms, {rate:.0f} jobs/s"
            )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
