"""The attacks of the paper's Table 1, modern ones, both over exact gradients too (`-exact`), and cutting planes."""

from __future__ import annotations

from collections.abc import Callable

import arena
from arena.plugins.attacks.apgd import (
    L1DLRAPGD,
    L2DLRAPGD,
    L1CrossEntropyAPGD,
    L2CrossEntropyAPGD,
    L2TargetedAPGD,
    LinfCrossEntropyAPGD,
    LinfDLRAPGD,
    LinfTargetedAPGD,
)
from arena.plugins.attacks.augmented_lagrangian import ALMA
from arena.plugins.attacks.boundary import Boundary
from arena.plugins.attacks.brendel_bethge import (
    L0BrendelBethge,
    L1BrendelBethge,
    L2BrendelBethge,
    LinfBrendelBethge,
)
from arena.plugins.attacks.cutting_planes import L0CuttingPlanes, L2CuttingPlanes, LinfCuttingPlanes
from arena.plugins.attacks.deepfool import L2DeepFool, LinfDeepFool
from arena.plugins.attacks.estimated import estimated
from arena.plugins.attacks.exact import exact
from arena.plugins.attacks.fab import L1FAB, L2FAB, LinfFAB, TargetedL1FAB, TargetedL2FAB, TargetedLinfFAB
from arena.plugins.attacks.gradient_descent import BIM, FGM, FGSM, L2BIM, MIM
from arena.plugins.attacks.hop_skip_jump import L2HopSkipJump, LinfHopSkipJump
from arena.plugins.attacks.latent_descent import LatentDescent
from arena.plugins.attacks.minimum_norm import DDN, L0FMN, L1FMN, L2FMN, LinfFMN
from arena.plugins.attacks.noise import GaussianNoise, SaltAndPepper
from arena.plugins.attacks.parsimonious import Parsimonious
from arena.plugins.attacks.penalty import EAD, CarliniWagner
from arena.plugins.attacks.pointwise import PointwiseL0, PointwiseL2
from arena.plugins.attacks.primal_dual import PDGD, PDPGD
from arena.plugins.attacks.sigma_zero import SigmaZero
from arena.plugins.attacks.simba import SimBA
from arena.plugins.attacks.square import L2Square, LinfSquare
from arena.plugins.attacks.standard import L2Standard, LinfStandard
from arena.plugins.attacks.surfree import SurFree
from arena.plugins.attacks.transfer import L2Transfer, LinfTransfer
from arena.plugins.attacks.vfga import VFGA

DECISION: tuple[type[arena.Attack], ...] = (
    GaussianNoise,
    SaltAndPepper,
    Boundary,
    PointwiseL0,
    PointwiseL2,
    L2HopSkipJump,
    LinfHopSkipJump,
    SurFree,
)
SCORE: tuple[type[arena.Attack], ...] = (LinfSquare, L2Square, Parsimonious, SimBA)
TRANSFER: tuple[type[arena.Attack], ...] = (L2Transfer, LinfTransfer)
GRADIENT: tuple[type[arena.Attack], ...] = (FGM, FGSM, L2BIM, BIM, MIM, L2DeepFool, LinfDeepFool)
MODERN: tuple[type[arena.Attack], ...] = (
    *(DDN, L0FMN, L1FMN, L2FMN, LinfFMN, CarliniWagner, EAD),
    *(L0BrendelBethge, L1BrendelBethge, L2BrendelBethge, LinfBrendelBethge),
    *(LinfCrossEntropyAPGD, LinfDLRAPGD, L2CrossEntropyAPGD, L2DLRAPGD, L1CrossEntropyAPGD, L1DLRAPGD),
)
# Not over exact gradients: docs/attacks.md says what was measured of them there.
NETWORKS: tuple[type[arena.Attack], ...] = (
    *(L1FAB, L2FAB, LinfFAB, TargetedL1FAB, TargetedL2FAB, TargetedLinfFAB),
    *(SigmaZero, VFGA, ALMA, PDGD, PDPGD, L2TargetedAPGD, LinfTargetedAPGD, L2Standard, LinfStandard),
)
EXACT: tuple[type[arena.Attack], ...] = tuple(map(exact, (*GRADIENT, *MODERN)))
RECONSTRUCTION: tuple[type[arena.Attack], ...] = (LatentDescent,)
WHITE_BOX: tuple[type[arena.Attack], ...] = (L0CuttingPlanes, L2CuttingPlanes, LinfCuttingPlanes)


@arena.hookimpl
def register_attacks(register: Callable[[type[arena.Attack]], None]) -> None:
    ready = (*DECISION, *SCORE, *TRANSFER, *GRADIENT, *MODERN, *NETWORKS, *EXACT, *RECONSTRUCTION, *WHITE_BOX)
    for cls in (*ready, *map(estimated, GRADIENT)):
        register(cls)
