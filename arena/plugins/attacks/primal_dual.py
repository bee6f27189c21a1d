"""PDGD and PDPGD (Matyasko & Chau 2021, "PDPGD: Primal-dual proximal gradient descent adversarial attack")."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import normalized_margin, per_row, scores_and_gradient, unit, walk_back

MEAN, SQUARES = 0.9, 0.999  # shares of the last moments that Adam keeps
LAST_STEP = 0.01  # of the first, of the image; they shrink geometrically
LAST_DUAL_STEP = 0.1  # of the first, of the weights; they shrink evenly
SMOOTHING = 0.9  # share of the last weights kept
PROXIMAL_STEPS = 5
MOST = math.log(1e6)  # of the ratio of the weights, either way
TINY = 1e-8


class PrimalDual(arena.Attack):
    """Descends a weighted sum of the distance and the softplus of the label's lead, by Adam, while the weights ascend:
    the lead's grows wherever the label leads, the distance's wherever it does not.

    The lead is that of normalized logits: weighed against the distance, it would depend on their scale.
    """

    access = "gradient"

    class Settings(arena.Settings):
        steps: int = Field(500, gt=0, description="of the descent, one query and gradient each")
        step_size: float = Field(0.1, gt=0, description="Adam's learning rate at first; the last is a hundredth of it")
        dual_step: float = Field(0.1, gt=0, description="by which the logarithm of the weights' ratio moves at first")
        first_ratio: float = Field(0.01, gt=0, description="weight of the distance over that of the lead, at first")

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        s = self.settings
        change = mean = squares = torch.zeros_like(x)
        log_ratio = torch.full_like(x[:, 0, 0, 0], math.log(s.first_ratio))
        weight = log_ratio.sigmoid()  # of the distance; the lead has the rest
        for step in range(s.steps):
            scores, uphill = scores_and_gradient(target, (x + change).clamp(0, 1), y, normalized_margin)
            lead = -normalized_margin(scores, y)
            gradient = self.gradient(change, -per_row(lead.sigmoid(), x) * uphill, per_row(weight, x))
            mean, squares = torch.lerp(gradient, mean, MEAN), torch.lerp(gradient.square(), squares, SQUARES)
            pace = (squares / (1 - SQUARES ** (step + 1))).sqrt().add(TINY).reciprocal()
            pace = s.step_size * LAST_STEP ** (step / s.steps) * pace
            change = change - pace * mean / (1 - MEAN ** (step + 1))
            change = self.shrink(change, pace, per_row(weight, x))
            change = (x + change).clamp(0, 1) - x
            dual_step = s.dual_step * (1 - (1 - LAST_DUAL_STEP) * step / s.steps)
            log_ratio = (log_ratio - dual_step * lead.sign()).clamp(-MOST, MOST)
            weight = torch.lerp(log_ratio.sigmoid(), weight, SMOOTHING)
        return walk_back(target, x, y)

    @abstractmethod
    def gradient(self, change: Tensor, push: Tensor, weight: Tensor) -> Tensor:
        """What Adam descends [B, ...], from the gradient `push` [B, ...] of the lead's term; weight: see `run`."""

    @abstractmethod
    def shrink(self, change: Tensor, pace: Tensor, weight: Tensor) -> Tensor:
        """The changes [B, ...] after a proximal step of the distance, as long as Adam's [B, ...]."""


class PDGD(PrimalDual):
    """PDGD, for L2: the distance is descended with the lead."""

    name = "pdgd"
    norm = "l2"

    def gradient(self, change: Tensor, push: Tensor, weight: Tensor) -> Tensor:
        return weight * unit(change) + (1 - weight) * push

    def shrink(self, change: Tensor, pace: Tensor, weight: Tensor) -> Tensor:
        return change


class PDPGD(PrimalDual):
    """PDPGD, for L1: after each step of Adam a proximal step, in its metric, sets small changes to zero.

    It has a closed form, but ending early, as published, is what makes it strong: converged it drops every pixel that
    is not among the steepest. Measured on 8 images of madry: 8.1 in the median, not 2.9.
    """

    name = "pdpgd"
    norm = "l1"

    def gradient(self, change: Tensor, push: Tensor, weight: Tensor) -> Tensor:
        return push

    def shrink(self, change: Tensor, pace: Tensor, weight: Tensor) -> Tensor:
        least = per_row(pace.flatten(1).amin(1), change)
        threshold, nearest = least * weight / (1 - weight), change
        for _ in range(PROXIMAL_STEPS):
            nearest = torch.lerp(nearest, change, least / pace)
            nearest = nearest.sign() * (nearest.abs() - threshold).clamp_min(0)
        return nearest
