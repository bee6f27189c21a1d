"""The network that is robust in Linf by adversarial training."""

from __future__ import annotations

from arena.models import madry
from arena.plugins.defenses.network import Network


class Madry(Network):
    """Madry et al. 2018, trained by our own recipe (paper, appendix A.5)."""

    name = "madry"

    def build(self) -> madry.MadryNetwork:
        return madry.MadryNetwork()
