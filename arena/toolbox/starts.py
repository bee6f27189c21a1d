"""Where decision-based attacks start: an image of another class, however far."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.target.target import Target
from arena.toolbox.search import walk_back


def on_the_boundary(target: Target, x: Tensor, y: Tensor, draws: int, rng: torch.Generator) -> Tensor:
    """Walk back from misclassified noise to the images x [B, ...]; the index [n] of the samples that have an
    adversarial, `target.best`, after that."""
    target.labels(uniform_noise(target, x, y, draws, rng))
    walk_back(target, x, y)
    return target.best_distance.isfinite().nonzero().flatten()


def uniform_noise(target: Target, x: Tensor, y: Tensor, draws: int, rng: torch.Generator) -> Tensor:
    """Images [B, ...] of uniform noise that are misclassified; `nearest_other` where all `draws` failed."""
    images = nearest_other(x, y)
    index = torch.arange(len(x), device=x.device)
    for _ in range(draws):
        noise = torch.rand(x[index].shape, generator=rng).to(x.device)
        success = target.labels(noise, index) != y[index]
        images[index[success]] = noise[success]
        index = index[~success]
        if not len(index):
            break
    return images


def nearest_other(x: Tensor, y: Tensor) -> Tensor:
    """For each of the images x [B, ...] the nearest one (L2) of another label; itself where all labels are equal.

    The samples that an attack gets are classified correctly, so each is an adversarial for those of other labels.
    """
    gaps = torch.cdist(x.flatten(1), x.flatten(1)).masked_fill(y[:, None] == y, torch.inf)
    nearest = gaps.argmin(1)
    own = torch.arange(len(x), device=x.device)
    return x[torch.where(gaps.amin(1).isfinite(), nearest, own)]
