"""VFGA (Hajri et al. 2020, "Stochastic sparse adversarial attacks"): the voting folded Gaussian attack."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import cross_entropy, reset_best, scores_and_gradient


class VFGA(arena.Attack):
    """One pixel a step, until the image fools: of the pixel that promises the most by rising and the one that does by
    falling, each tried at random lengths, the trial that leaves the label the least probability (Algorithm 2).

    Lengths are drawn from a folded Gaussian as wide as the pixel's room, and end with it. Probabilities are those of
    normalized logits, which do not saturate. A pixel rises if most of what its channels promise rises, and they move
    together. Beyond the publication, what it finds is reset pixel by pixel as long as it stays adversarial.
    """

    name = "vfga"
    norm = "l0"
    access = "gradient"

    class Settings(arena.Settings):
        steps: int = Field(
            100, gt=0, description="pixels perturbed at most, one query and gradient each, and the trials"
        )
        trials: int = Field(10, gt=0, description="lengths tried for either pixel of a step, one query each")

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        index, image = torch.arange(len(x), device=x.device), x
        for _ in range(self.settings.steps):
            _, gradient = scores_and_gradient(target, image, y[index], cross_entropy, index)
            pixels, move = self._candidates(image, gradient, (image == x[index]).all(1))
            promising = pixels.flatten(1).any(1)
            index, image, pixels, move = (part[promising] for part in (index, image, pixels, move))
            if not len(index):
                break
            image, fooled = self._vote(target, image, y[index], pixels, move, index, rng)
            index, image = index[~fooled], image[~fooled]
            if not len(index):
                break
        return reset_best(target, x, y, self.norm, rng)

    def _candidates(self, image: Tensor, gradient: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Of the pixels that are `clean` [n, H, W] the most promising that rises and that falls, as masks
        [n, 2, H, W], empty where there is none; and how far each value may move [n, C, H, W]."""
        move = torch.where(gradient > 0, 1 - image, torch.where(gradient < 0, -image, 0))
        gain = gradient * move
        rising = (gain * move.sign()).sum(1) > 0
        promise = gain.sum(1).where(clean, 0)[:, None] * torch.stack([rising, ~rising], 1)
        best = promise.flatten(2).argmax(2, keepdim=True)
        mask = torch.zeros_like(promise.flatten(2), dtype=torch.bool).scatter(2, best, True).view_as(promise)
        return mask & (promise > 0), move

    def _vote(
        self,
        target: arena.Target,
        image: Tensor,
        y: Tensor,
        pixels: Tensor,
        move: Tensor,
        index: Tensor,
        rng: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """The trials [n, C, H, W] that leave the label the least probability, and whether [n] one of them fooled."""
        rows, trials = torch.arange(len(index), device=index.device), 2 * self.settings.trials
        share = torch.randn(len(index), 2, self.settings.trials, generator=rng).abs().clamp_max(1).to(image.device)
        ways = pixels[:, :, None] * move[:, None]  # [n, 2, C, H, W]
        moved = image[:, None, None] + share[..., None, None, None] * ways[:, :, None]
        scores = target.scores(moved.flatten(0, 2).clamp(0, 1), index.repeat_interleave(trials))
        label = y.repeat_interleave(trials)
        fooled = (scores.argmax(1) != label).view(-1, trials).any(1)
        chosen = cross_entropy(scores, label).view(-1, trials).argmax(1)
        return moved.flatten(1, 2)[rows, chosen], fooled
