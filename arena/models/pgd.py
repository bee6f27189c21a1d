"""Projected gradient descent in Linf at a fixed size: what Madry's network is trained on and measured by."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def linf_pgd(
    model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, epsilon: float, step_size: float, steps: int,
    rng: torch.Generator,
) -> Tensor:  # fmt: skip
    """Images within `epsilon` of x and in [0, 1] with a high cross entropy (Madry et al. 2018, equation 2).

    It starts at a random point of the ball, drawn from `rng`, a CPU generator, and takes `steps` steps along the
    gradient's sign. As an attack of the arena, `bim-linf` searches the smallest epsilon instead.

    Args:
        model: images to logits [B, classes].
        x: images, float32 [B, 1, H, W] in [0, 1].
        y: labels, int64 [B].
    """
    low, high = (x - epsilon).clamp(min=0), (x + epsilon).clamp(max=1)
    noise = torch.rand(x.shape, generator=rng).to(x.device)
    adversarial = torch.clamp(x + epsilon * (2 * noise - 1), low, high)
    for _ in range(steps):
        adversarial.requires_grad_()
        with torch.enable_grad():
            loss = functional.cross_entropy(model(adversarial), y)
        (gradient,) = torch.autograd.grad(loss, adversarial)
        adversarial = torch.clamp(adversarial.detach() + step_size * gradient.sign(), low, high)
    return adversarial.detach()
