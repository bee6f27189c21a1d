"""Goes on in halves where memory does not suffice for a whole batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def split_on_out_of_memory(ask: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`ask(x)` for rows x [N, ...] that do not depend on each other, in halves, and halves of those, if need be.

    Raises what `ask` raises for one row that does not fit, or for any other reason.
    """
    try:
        return ask(x)
    except (MemoryError, RuntimeError) as failure:
        if len(x) < 2 or not _is_about_memory(failure):
            raise
    # Here the traceback is gone, and with it the tensors of the attempt.
    if x.is_cuda:
        torch.cuda.empty_cache()
    return torch.cat([split_on_out_of_memory(ask, half) for half in x.tensor_split(2)])


def _is_about_memory(failure: Exception) -> bool:
    # On a CPU torch raises a plain RuntimeError.
    return isinstance(failure, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(failure)
