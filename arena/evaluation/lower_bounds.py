"""Runs a lower bound on a few samples, as the referee runs an attack: what it returns is checked before it counts."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.errors import PluginError
from arena.evaluation.referee import isolated_random_state
from arena.geometry.norms import Norm
from arena.interface.contracts import Bound, Defense
from arena.target.logits import evaluate


def lower_bounds(bound: Bound, defense: Defense, x: Tensor, y: Tensor, norm: Norm, seed: int = 0) -> Tensor:
    """What `bound` says of each image, float64 [B] on the CPU: 0 where it is misclassified, which is decided here.

    x: images, float32 [B, C, H, W] in [0, 1] on the defense's device; y: labels, int64 [B]; norm: one of the bound's.
    The bound runs under `seed`, global random state is restored after. Raises PluginError if it breaks its contract,
    and whatever the bound or the defense raises.
    """
    values = torch.zeros(len(x), dtype=torch.float64)
    correct = evaluate(defense, x).argmax(1) == y
    if bool(correct.any()):
        given = x[correct], y[correct]
        images, labels = (tensor.clone() for tensor in given)
        with isolated_random_state(seed) as rng, torch.enable_grad():
            found = bound.run(defense, images, labels, norm, rng)
        if not (torch.equal(images, given[0]) and torch.equal(labels, given[1])):
            raise PluginError(f"bound {bound.name} modified its input")
        values[correct.cpu()] = _checked(bound, found, len(images))
    return values


def _checked(bound: Bound, values: Tensor, images: int) -> Tensor:
    if not isinstance(values, Tensor) or values.dtype != torch.float64 or values.shape != (images,):
        got = f"{values.dtype} {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise PluginError(f"bound {bound.name} returned {got} for {images} images, not float64 [{images}]")
    if not bool((values >= 0).all()):
        raise PluginError(f"bound {bound.name} returned a value that is negative or NaN: a distance is at least 0")
    return values.detach().cpu()
