"""Attacks of torchattacks (https://github.com/Harry24k/adversarial-attacks-pytorch)."""

import torchattacks

import arena
from arena.toolbox import Clipped


class PGD(arena.FixedEpsilonAttack):
    name, norm, access = "torchattacks-pgd", "linf", "gradient"

    def strike(self, model, x, y, epsilon):
        return torchattacks.PGD(model, eps=epsilon, alpha=epsilon / 5, steps=20)(x, y)


class PGDL2(arena.FixedEpsilonAttack):
    name, norm, access = "torchattacks-pgd-l2", "l2", "gradient"

    def strike(self, model, x, y, epsilon):
        return torchattacks.PGDL2(model, eps=epsilon, alpha=epsilon / 5, steps=20)(x, y)


class MIFGSM(arena.FixedEpsilonAttack):
    name, norm, access = "torchattacks-mifgsm", "linf", "gradient"

    def strike(self, model, x, y, epsilon):
        return torchattacks.MIFGSM(model, eps=epsilon, alpha=epsilon / 10, steps=10)(x, y)


class CW(arena.PerSampleAttack):
    name, norm, access = "torchattacks-cw", "l2", "gradient"

    def strike(self, model, x, y):
        return torchattacks.CW(model, c=10, steps=100)(x, y)


class DeepFool(arena.PerSampleAttack):
    name, norm, access = "torchattacks-deepfool", "l2", "gradient"

    def strike(self, model, x, y):
        return torchattacks.DeepFool(model)(x, y)


class SparseFool(arena.PerSampleAttack):
    name, norm, access = "torchattacks-sparsefool", "l0", "gradient"

    def strike(self, model, x, y):
        return torchattacks.SparseFool(Clipped(model))(x, y)  # it asks about images outside the box


@arena.hookimpl
def register_attacks(register):
    for attack in (PGD, PGDL2, MIFGSM, CW, DeepFool, SparseFool):
        register(attack)
