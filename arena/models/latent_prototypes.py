"""The prototypes of an analysis-by-synthesis defense: all that its decoders can draw."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.interface.prototypes import Objective, Points, Pool
from arena.kernels.ops import decode
from arena.models.analysis_by_synthesis import Inference


class LatentPrototypes:
    """Images G_c(z) with penalties ||z||^2 / 2, for z within the radius of the inference; places are the z, [.., 8].

    The pools are the inference's fixed points, decoded.
    """

    finite = False

    def __init__(self, infer: Inference, scales: Tensor) -> None:
        self._infer, self.scales = infer, scales

    def nearest(self, input: Tensor) -> Points:
        found = self._infer(input)
        return Points(found.z, found.image, _offset(found.z))

    def pool(self, label: int, seed: int = 0) -> Pool:
        latents, images = self._infer.points(label, seed)
        return Pool(latents, images, _offset(latents))

    @torch.enable_grad()
    def refine(self, start: Points, objective: Objective, steps: int) -> Points:
        """By Adam, as the inference refines."""
        how = self._infer.how
        z = start.code.detach().clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=how.lr)
        best = [tensor.detach().clone() for tensor in start]
        least = torch.full_like(start.penalty, torch.inf)
        for step in range(steps):
            met = Points(z, decode(self._infer.decoder, z), _offset(z))
            value = objective(met.image, met.penalty)
            better = value < least
            least = torch.where(better, value, least).detach()
            for kept, new in zip(best, met, strict=True):
                kept[better] = new.detach()[better]
            if step < steps - 1:
                z.grad = torch.autograd.grad(value.sum(), z)[0]
                adam.step()
                with torch.no_grad():
                    z *= how.radius / z.norm(dim=-1, keepdim=True).clamp_min(how.radius)
        return Points(*best)


def _offset(z: Tensor) -> Tensor:
    return z.square().sum(-1) / 2
