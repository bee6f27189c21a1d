"""Attacks of cleverhans (https://github.com/cleverhans-lab/cleverhans)."""

import numpy
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from cleverhans.torch.attacks.spsa import spsa

import arena
from arena.toolbox import Clipped


class PGD(arena.FixedEpsilonAttack):
    name, norm, access = "cleverhans-pgd", "linf", "gradient"

    def strike(self, model, x, y, epsilon):
        return projected_gradient_descent(model, x, epsilon, epsilon / 5, 20, numpy.inf, 0, 1, y, sanity_checks=False)


class SPSA(arena.FixedEpsilonAttack):
    name, norm, access = "cleverhans-spsa", "linf", "score"

    def strike(self, model, x, y, epsilon):
        inside = Clipped(model)  # it asks about images far outside the box
        return spsa(inside, x, epsilon, 10, numpy.inf, 0, 1, y, learning_rate=epsilon / 5, spsa_samples=32)


@arena.hookimpl
def register_attacks(register):
    for attack in (PGD, SPSA):
        register(attack)
