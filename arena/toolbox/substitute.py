"""A network of the attack's own that stands in for the defense, as transfer attacks have one."""

from __future__ import annotations

from torch import Tensor, nn

from arena.geometry.norms import Norm
from arena.interface.contracts import Defense
from arena.target.query_log import QueryLog
from arena.target.target import Target


class Substitute(Defense):
    """The network that stands in for the defense."""

    name = "substitute"
    gradient = "autograd"

    def __init__(self, network: nn.Module, device: str) -> None:
        super().__init__(device=device)
        self.network = network.to(self.device)

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)


def substitute_target(network: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Target:
    """A Target of gradients over `network`, which the attack brought itself: asking it costs no query of the budget.

    network: in evaluation mode, float32 [B, C, H, W] in [0, 1] -> logits; x, y: the images and labels of `run`.
    """
    return Target(Substitute(network, str(x.device)), QueryLog(x, y, norm), "gradient")
