"""Attacks of adversarial-library (https://github.com/jeromerony/adversarial-library), adv-lib on the package index."""

from adv_lib import attacks

import arena


class DDN(arena.PerSampleAttack):
    name, norm, access = "adv-lib-ddn", "l2", "gradient"

    def strike(self, model, x, y):
        return attacks.ddn(model, x, y, steps=200, levels=None)


class FMN0(arena.PerSampleAttack):
    name, norm, access = "adv-lib-fmn-l0", "l0", "gradient"

    def strike(self, model, x, y):
        return attacks.fmn(model, x, y, norm=0, steps=200)


class FMNInf(arena.PerSampleAttack):
    name, norm, access = "adv-lib-fmn-linf", "linf", "gradient"

    def strike(self, model, x, y):
        return attacks.fmn(model, x, y, norm=float("inf"), steps=200)


class ALMA(arena.PerSampleAttack):
    name, norm, access = "adv-lib-alma", "l2", "gradient"

    def strike(self, model, x, y):
        return attacks.alma(model, x, y, num_steps=200, distance="l2", init_lr_distance=1)


class PDGD(arena.PerSampleAttack):
    name, norm, access = "adv-lib-pdgd", "l2", "gradient"

    def strike(self, model, x, y):
        return attacks.pdgd(model, x, y, num_steps=200)


class PDPGD(arena.PerSampleAttack):
    name, norm, access = "adv-lib-pdpgd", "linf", "gradient"

    def strike(self, model, x, y):
        return attacks.pdpgd(model, x, y, norm=float("inf"), num_steps=200)


class VFGA(arena.PerSampleAttack):
    name, norm, access = "adv-lib-vfga", "l0", "gradient"

    def strike(self, model, x, y):
        return attacks.vfga(model, x, y, targeted=False)


class SigmaZero(arena.PerSampleAttack):
    name, norm, access = "adv-lib-sigma-zero", "l0", "gradient"

    def strike(self, model, x, y):
        return attacks.sigma_zero(model, x, y, num_steps=200)


class SuperDeepFool(arena.PerSampleAttack):
    name, norm, access = "adv-lib-sdf", "l2", "gradient"

    def strike(self, model, x, y):
        return attacks.sdf(model, x, y)


class FAB2(arena.PerSampleAttack):
    name, norm, access = "adv-lib-fab-l2", "l2", "gradient"

    def strike(self, model, x, y):
        return attacks.fab(model, x, y, norm=2)


class FABInf(arena.PerSampleAttack):
    name, norm, access = "adv-lib-fab-linf", "linf", "gradient"

    def strike(self, model, x, y):
        return attacks.fab(model, x, y, norm=float("inf"))


@arena.hookimpl
def register_attacks(register):
    for attack in (DDN, FMN0, FMNInf, ALMA, PDGD, PDPGD, VFGA, SigmaZero, SuperDeepFool, FAB2, FABInf):
        register(attack)
