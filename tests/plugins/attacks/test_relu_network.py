"""Every built-in attack against a ReLU network with known distances: it bends, as no linear opponent does."""

from __future__ import annotations

import pytest
import torch
from test_attacks import ATTACKS, load

import arena
from arena.testing import ReluDefense

# How many times the minimal distance the median of the first six images may be, with the light settings of ATTACKS.
FACTORS = {
    "gaussian-noise": 3.2,
    "salt-and-pepper": 3,
    "boundary": 1.1,
    "pointwise-l0": 1,
    "pointwise-l2": 2.2,
    "hop-skip-jump": 1.25,
    "hop-skip-jump-linf": 1.25,
    "surfree": 1.15,
    "simba": 1.8,
    "square-linf": 1.05,
    "square-l2": 1.6,
    "parsimonious-linf": 1.01,
    "fgm": 1.25,
    "fgsm": 1.4,
    "bim-l2": 1.05,
    "bim-linf": 1.05,
    "mim": 1.05,
    "deepfool-l2": 1.05,
    "deepfool-linf": 1.05,
    "ddn": 1.03,
    "fmn-l0": 1,
    "fmn-l1": 1.05,
    "fmn-l2": 1.05,
    "fmn-linf": 1.05,
    "brendel-bethge-l0": 1,
    "brendel-bethge-l1": 1.02,
    "brendel-bethge-l2": 1.02,
    "brendel-bethge-linf": 1.02,
    "carlini-wagner": 2.1,
    "ead": 1.25,
    "apgd-ce-linf": 1.1,
    "apgd-dlr-linf": 1.1,
    "apgd-ce-l1": 1.15,
    "apgd-dlr-l1": 2,
    "apgd-ce-l2": 1.1,
    "apgd-dlr-l2": 1.3,
    "fab-l1": 1.02,
    "fab-l2": 1.02,
    "fab-linf": 1.02,
    "fab-t-l1": 1.02,
    "fab-t-l2": 1.02,
    "fab-t-linf": 1.02,
    "sigma-zero": 1,
    "vfga": 1,
    "alma": 1.25,
    "pdgd": 1.05,
    "pdpgd": 1.8,
    "apgd-t-l2": 1.15,
    "apgd-t-linf": 1.15,
}


def test_the_table_names_every_attack_that_applies() -> None:
    """Transfer attacks have no substitute for it. Attacks over estimated gradients are those of the gradient itself,
    two queries a pixel. Those at one epsilon do not look for the nearest boundary (test_standard.py)."""
    applies = {name for name in ATTACKS if load(name).applies_to(ReluDefense)}
    left_out = {name for name in applies if name.startswith("transfer-") or name.endswith("-ge")}
    assert applies - left_out - {name for name in applies if load(name).fixed_epsilon} == set(FACTORS)


@pytest.mark.parametrize("name", FACTORS)
def test_lands_near_the_nearest_of_many_boundaries(name: str) -> None:
    defense, attack = ReluDefense(), load(name)
    x, y = defense.sample_images(6)
    found = torch.tensor([record.distance for record in arena.play(defense, attack, x, y)], dtype=torch.float64)
    times = found / defense.minimal_distance(attack.norm, x)
    assert times.min() > 1 - 1e-6
    assert times.sort().values[3] <= FACTORS[name]
