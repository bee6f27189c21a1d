"""Reads a defense into a graph: what `scores` computes is traced by torch.fx down to torch's basic operations.

So it does not matter how a network is written, as modules, functions or in place, nor what prepares the images.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from arena.errors import PluginError, UserError
from arena.evaluation.bounds.relaxation.graph import Graph
from arena.evaluation.bounds.relaxation.operations import BATCH, Reader, Unsupported
from arena.evaluation.bounds.relaxation.rows import Shape
from arena.interface.contracts import Defense
from arena.interface.prototypes import HasPrototypes
from arena.target.logits import ROUNDING, evaluate, size

_CHECKED = 8  # random images on which the graph must answer as the defense does


def refusal(defense: Defense, shape: Shape) -> str | None:
    """Why a defense cannot be read, in one line; None if it can."""
    if isinstance(defense, HasPrototypes):
        return "its score is a minimum over prototypes"
    if defense.binary_threshold is not None:
        return "it sees its input in black and white"
    try:
        read(defense, shape)
    except UserError as failure:
        return " ".join(str(failure).split())
    return None


@cache
def read(defense: Defense, shape: Shape) -> Graph:
    """The network of a defense for images [C, H, W], in float64. A softmax at its end is left out: it decides nothing.

    Raises UserError, which names the layer, for a defense that computes what has no relaxation here.
    """
    refused = f"defense {defense.name} has no linear relaxation"
    try:
        traced = _trace(defense, shape)
    except (UserError, PluginError):
        raise
    except Exception as failure:  # whatever a model does that no graph can express
        reason = str(failure).strip().partition("\n")[0][:200]
        raise UserError(f"{refused}, torch.fx cannot trace it: {type(failure).__name__}: {reason}") from None
    try:
        reader = Reader(traced, shape, defense.device)
    except Unsupported as failure:
        raise UserError(f"{refused}: {failure}") from None
    x = torch.rand(_CHECKED, *shape, generator=torch.Generator().manual_seed(0)).to(defense.device)
    if not _alike(evaluate(defense, x).double(), reader.ending(reader.graph(x.double()))):
        raise UserError(f"{refused}: it answers otherwise than what torch.fx traced, it computes where that cannot see")
    return reader.graph


def _trace(defense: Defense, shape: Shape) -> fx.GraphModule:
    """The basic operations of `scores`, nothing written in place, with tensors that have shapes but no values: a model
    whose path depends on values cannot be traced."""
    function = torch.func.functionalize(lambda x: defense.scores(x))
    trace = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)
    with torch.no_grad():
        traced = trace(torch.zeros(BATCH, *shape, device=defense.device))
    traced.graph.eliminate_dead_code()
    return traced


def _alike(own: Tensor, read: Tensor) -> bool:
    """Whether logits [N, classes] differ by no more than rounding does."""
    if own.shape != read.shape:
        return False
    return bool(((own - read).abs().amax(1) <= ROUNDING * size(own)).all())
