"""Brendel & Bethge 2019: follows the decision boundary towards the clean image, by gradients, inside a trust region."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import (
    Norm,
    balanced,
    bisect,
    bisect_between,
    by_pixel,
    by_value,
    distance,
    margin,
    per_row,
    project,
    reset_best,
    scores_and_gradient,
    spec_of,
    steepest,
    times_power,
    uniform_noise,
    walk_back,
)

MOMENTUM = 0.8  # share of the last estimate of the boundary's normal kept
OVERSHOOT = 0.1  # share of the margin by which a step lands on the adversarial side
LAST_RADIUS = 1e-2  # of the first; the trust region shrinks geometrically
BISECTIONS = 10  # of how far towards the clean image a step goes
SHARES = (0.0625, 0.125, 0.25, 0.5)  # of the box that steps along the clean image's gradient go, as starting points
GROWTH = 2  # factor by which a step may enlarge a distance in Linf, L1 or L0: where linearity misled, it has to
HUGE = 1e12

Homewards = tuple[Tensor, Tensor, Tensor]  # images and the lowest and highest images that a step may reach, each [n, P]


class BrendelBethge(arena.Attack):
    """Each step goes as far towards the clean image as the trust region (L2) lets it, and along the boundary's normal
    so that it stays adversarial if scores are linear. That problem is solved by one bisection over closed forms.

    Foolbox 3.3.4 solves it by quasi-Newton and simplex searches, sample by sample, compiled by numba; its trust region
    grows with the batch. The publication starts from noise or other samples alone; those lead to the boundary of a
    class that is often not the nearest. So there are two starts, noise and a step along the gradient, and a walk from
    each.
    """

    access = "gradient"
    second: ClassVar[float] = 1 / 3  # of the steps: a walk from the farther start, if there are two
    across: ClassVar[Norm] = (
        "l2"  # of the steps that look for a starting point: in L0 and L1 a pixel alone seldom is one
    )

    class Settings(arena.Settings):
        steps: int = Field(100, gt=0, description="along the boundary, one query and gradient each")
        radius: float = Field(
            2.0, gt=0, description="of the first step's trust region, in L2; the last one's is a hundredth of it"
        )
        draws: int = Field(
            100, gt=0, description="noises tried as starting points, one query each, beside steps along the gradient"
        )

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        uphill = steepest(self.across, target.gradient(x, margin))
        longest = spec_of(self.across).length(torch.ones_like(x[0]).flatten())  # the diagonal of the box
        for share in SHARES:
            target.labels((x + share * longest * uphill).clamp(0, 1))
        walk_back(target, x, y)
        climbed = target.best
        noise = uniform_noise(target, x, y, self.settings.draws, rng)
        blurred = bisect_between(target, x, noise, y, target.labels(noise) != y, BISECTIONS)
        nearest = target.best
        farther = torch.where(per_row((nearest == climbed).flatten(1).all(1), x), blurred, climbed)
        alone = (farther == x).flatten(1).all(1)
        second = round(self.second * self.settings.steps)
        self._follow(target, x, y, nearest, self.settings.steps - second)
        self._follow(target, x, y, torch.where(per_row(alone, x), target.best, farther), second)
        return self.finish(target, x, y, rng)

    def _follow(self, target: arena.Target, x: Tensor, y: Tensor, start: Tensor, steps: int) -> None:
        """Walk along the boundary from the images `start` [B, ...], of the samples that have an adversarial."""
        index = target.best_distance.isfinite().nonzero().flatten()
        clean, image, y = x[index].flatten(1), start[index].flatten(1), y[index]
        normal = torch.zeros_like(image)
        for step in range(steps if len(index) else 0):
            scores, gradient = scores_and_gradient(target, image.view(-1, *x.shape[1:]), y, margin, index)
            normal = torch.lerp(gradient.flatten(1), normal, MOMENTUM if step else 0)
            gap = margin(scores, y)
            reach = -gap * torch.where(gap > 0, 1 - OVERSHOOT, 1 + OVERSHOOT)  # by which the margin is to change
            radius = torch.full_like(gap, self.settings.radius * LAST_RADIUS ** (step / steps))
            image = self._step(clean, image, normal, reach, radius, x.shape[1]).clamp(0, 1)

    def finish(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        return walk_back(target, x, y)

    def _step(
        self, clean: Tensor, image: Tensor, normal: Tensor, reach: Tensor, radius: Tensor, channels: int
    ) -> Tensor:
        """The images [n, P] closest to `clean` (in the attack's norm) that are in the trust region around `image` and
        where the linearised margin has changed by `reach` [n]; the largest step that way where there are none."""
        normal, exponent = balanced(normal)  # squares are taken
        reach = times_power(reach, -exponent[:, 0])

        def moved(share: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            start, low, high = self.homewards(clean[rows], image[rows], normal[rows], share[:, None], channels)
            slope = normal[rows]
            steep = slope.abs().clamp_min(1 / HUGE)
            room = torch.where(slope > 0, high - start, start - low)
            missing = reach[rows] - (slope * (start - image[rows])).sum(1)
            length, move = spec_of("l2").cross(steep, room, missing.clamp_min(0))
            return start + slope.sign() * move, length.isfinite()

        def attempt(share: Tensor, rows: Tensor) -> Tensor:
            proposed, reached = moved(share, rows)
            return reached & (distance("l2", proposed, image[rows]) <= radius[rows])

        whole = torch.ones_like(reach)
        share = bisect(attempt, torch.zeros_like(whole), whole, BISECTIONS)
        proposed, _ = moved(share, torch.arange(len(image), device=image.device))
        return project("l2", proposed, image, radius)

    @abstractmethod
    def homewards(self, clean: Tensor, image: Tensor, normal: Tensor, share: Tensor, channels: int) -> Homewards:
        """The images [n, P] at a share [n, 1] of their distance, and how far a step from there may go."""


class L2BrendelBethge(BrendelBethge):
    """The L2 form: straight towards the clean image."""

    name = "brendel-bethge-l2"
    norm = "l2"

    def homewards(self, clean: Tensor, image: Tensor, normal: Tensor, share: Tensor, channels: int) -> Homewards:
        return torch.lerp(clean, image, share), torch.zeros_like(clean), torch.ones_like(clean)


class LinfBrendelBethge(BrendelBethge):
    """The Linf form: into a smaller cube around the clean image."""

    name = "brendel-bethge-linf"
    norm = across = "linf"

    def homewards(self, clean: Tensor, image: Tensor, normal: Tensor, share: Tensor, channels: int) -> Homewards:
        radius = share * GROWTH * distance("linf", image, clean)[:, None]
        low, high = (clean - radius).clamp_min(0), (clean + radius).clamp_max(1)
        return torch.minimum(torch.maximum(image, low), high), low, high


class L1BrendelBethge(BrendelBethge):
    """The L1 form: the steepest pixels may move, all their way, as many as the distance allows."""

    name = "brendel-bethge-l1"
    norm = "l1"
    second = 0  # measured on madry: a shorter first walk loses more than another one gains

    def homewards(self, clean: Tensor, image: Tensor, normal: Tensor, share: Tensor, channels: int) -> Homewards:
        room = torch.where(normal > 0, 1 - clean, clean)
        radius = share * GROWTH * distance("l1", image, clean)[:, None]
        order = normal.abs().argsort(1, descending=True)
        ranked = room.gather(1, order)
        allowed = torch.minimum((radius - ranked.cumsum(1) + ranked).clamp_min(0), ranked)
        end = clean + normal.sign() * torch.zeros_like(room).scatter(1, order, allowed)
        low, high = torch.minimum(clean, end), torch.maximum(clean, end)
        return torch.minimum(torch.maximum(image, low), high), low, high


class L0BrendelBethge(BrendelBethge):
    """The L0 form: as few pixels as possible stay perturbed, those that carry the most of the margin or could; at the
    end, beyond the publication, whatever can be reset one by one."""

    name = "brendel-bethge-l0"
    norm = "l0"
    second = 0  # measured on madry: a shorter first walk loses more than another one gains

    def homewards(self, clean: Tensor, image: Tensor, normal: Tensor, share: Tensor, channels: int) -> Homewards:
        perturbed = image != clean
        room = torch.where(normal > 0, 1 - clean, clean)
        worth = torch.where(perturbed, normal * (image - clean), 0).clamp_min(0) + normal.abs() * room
        rank = by_pixel(worth, channels).argsort(1, descending=True).argsort(1)
        pixels = by_pixel(perturbed, channels) > 0
        kept = by_value(rank < share * GROWTH * pixels.sum(1, keepdim=True), channels)
        return torch.where(kept, image, clean), torch.where(kept, 0, clean), torch.where(kept, 1, clean)

    def finish(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        return reset_best(target, x, y, self.norm, rng)
