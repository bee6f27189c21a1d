"""AutoAttack (Croce & Hein 2020, https://github.com/fra31/auto-attack) at one epsilon, as RobustBench reports it."""

import torch
from pyautoattack import AutoAttack

import arena


class LinfAutoAttack(arena.FixedEpsilonAttack):
    name, norm, access = "autoattack-linf", "linf", "gradient"

    class Settings(arena.FixedEpsilonAttack.Settings):
        epsilon: float | None = 0.3

    def strike(self, model, x, y, epsilon):
        norm, seed = self.norm.capitalize(), int(torch.randint(2**31, ()))
        attack = AutoAttack(model, eps=epsilon, norm=norm, seed=seed, device=x.device)
        return attack.run_standard_evaluation(x, y)[0]


class L2AutoAttack(LinfAutoAttack):
    name, norm = "autoattack-l2", "l2"

    class Settings(arena.FixedEpsilonAttack.Settings):
        epsilon: float | None = 1.5


@arena.hookimpl
def register_attacks(register):
    for attack in (LinfAutoAttack, L2AutoAttack):
        register(attack)
