"""The executor that the settings ask for."""

from __future__ import annotations

from arena.errors import UserError
from arena.tournament.config import Config
from arena.tournament.executors import Executor
from arena.tournament.executors.local import LocalExecutor, worker_count


def open_executor(config: Config) -> Executor:
    """Workers of this machine or of a Ray cluster; raises UserError if there is no cluster, or Ray is not installed."""
    if config.run.executor == "local":
        return LocalExecutor(config, worker_count(config))
    try:
        from arena.tournament.executors.ray import RayExecutor
    except ModuleNotFoundError as missing:
        if missing.name != "ray":
            raise
        raise UserError("the executor ray needs Ray: `pip install 'arena-robustness[ray]'`") from None
    return RayExecutor(config)
