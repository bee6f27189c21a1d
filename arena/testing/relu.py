"""A small ReLU network whose minimal adversarial distances are known: its boundary bends."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from arena.geometry.norms import Norm
from arena.interface.contracts import Gradient
from arena.testing.known import KnownDefense

SEED, SIDE, HIDDEN, CLASSES, IMAGES = 4, 6, 8, 3, 12
DRAWN = 400  # images, of which the surest ones of each class are taken
# Of the images: the optima of mixed-integer programs (L0, L1, Linf), and of quadratic programs for every pattern of
# active neurons that is within reach (L2). tests/testing/test_relu_defense.py solves them again.
MINIMAL: dict[Norm, tuple[float, ...]] = {
    "l0": (2, 3, 2, 3, 2, 1, 2, 2, 1, 2, 3, 1),
    "l1": (
        *(1.54195205, 2.47616186, 1.44198895, 2.03373016, 1.81197479, 0.880801688),
        *(1.77755906, 1.55848624, 0.810416667, 1.80451128, 1.8731203, 0.751748252),
    ),
    "l2": (
        *(0.683950618, 0.936506284, 0.614435405, 0.753140117, 0.729723873, 0.460405262),
        *(0.679968891, 0.558803821, 0.33055803, 0.621333224, 0.673973999, 0.351602844),
    ),
    "linf": (
        *(0.18262468, 0.21763471, 0.143619934, 0.178720409, 0.166524112, 0.114950441),
        *(0.168644343, 0.12863315, 0.0773872679, 0.133518694, 0.148659674, 0.0830913666),
    ),
}


class ReluDefense(KnownDefense):
    """scores(x) = V relu(W x + b) for images [1, 6, 6], three classes and eight neurons.

    Weights and images are multiples of 1/8, so that scores of the images are exact in float32.
    """

    name = "relu"
    gradient: ClassVar[Gradient] = "autograd"
    shape, classes = (1, SIDE, SIDE), CLASSES

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        super().__init__(weights, device, **settings)
        rng = torch.Generator().manual_seed(SEED)

        def eighths(*shape: int) -> Tensor:
            return torch.randint(-8, 9, shape, generator=rng).float() / 8

        drawn = eighths(DRAWN, SIDE * SIDE).clamp_min(0)
        hidden, output = nn.Linear(SIDE * SIDE, HIDDEN), nn.Linear(HIDDEN, CLASSES, bias=False)
        self.network = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), output).requires_grad_(False).eval()
        hidden.weight.copy_(eighths(HIDDEN, SIDE * SIDE))
        hidden.bias.copy_(-(drawn @ hidden.weight.T).mean(0).mul(8).round().div(8))  # half of the neurons are active
        output.weight.copy_(eighths(CLASSES, HIDDEN))
        top = self.network(drawn).topk(2)
        lead = top.values[:, 0] - top.values[:, 1]
        surest = [lead.where(top.indices[:, 0] == c, 0).topk(IMAGES // CLASSES).indices for c in range(CLASSES)]
        self.images = drawn[torch.stack(surest, 1).flatten()].view(IMAGES, *self.shape).to(self.device)
        self.network.to(self.device)

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)

    def sample_images(self, n: int = IMAGES, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The first n of the twelve images whose distances are known, whatever the seed; raises ValueError for more."""
        if n > IMAGES:
            raise ValueError(f"the minimal distances of {IMAGES} images are known, not of {n}")
        x = self.images[:n].clone()
        return x, self.scores(x).argmax(1)

    def minimal_distance(self, norm: Norm, x: Tensor) -> Tensor:
        """As for any `KnownDefense`; raises ValueError for an image that is not one of `sample_images`."""
        same = (x[:, None] == self.images).flatten(2).all(2)
        if not bool(same.any(1).all()):
            raise ValueError("minimal distances are known for the images of sample_images alone")
        known = torch.tensor(MINIMAL[norm], dtype=torch.float64, device=x.device)
        return known[same.to(torch.uint8).argmax(1)]
