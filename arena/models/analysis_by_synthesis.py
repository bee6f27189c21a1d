"""Analysis by synthesis: the class whose autoencoder explains an image best (paper, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from arena.interface import settings
from arena.kernels.decoder import Decoder
from arena.kernels.layers import LATENT, PIXELS
from arena.kernels.ops import Screen, bank_sweep, latent_bank, latent_descent, latent_sweep, screen_bank
from arena.kernels.policy import choose, free_memory
from arena.models.reach import in_reach
from arena.models.vae import VAE

STEPS, STARTS = 300, 5  # of an inference that counts as converged
BATCHES = 1000  # that the same points will be scored against: a defense is asked again and again


class AnalysisBySynthesis(nn.Module):
    """The weights: a VAE for each class, and the factor gamma of each class's score (ones but for Binary ABS)."""

    vaes: Sequence[VAE]
    scales: Tensor

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.vaes = nn.ModuleList(VAE() for _ in range(classes))  # type: ignore[assignment]
        self.register_buffer("scales", torch.ones(classes))

    @property
    def decoder(self) -> Decoder:
        """The decoders, batch norm folded in."""
        return Decoder.from_modules([vae.Decoder for vae in self.vaes])

    def logits(self, score: Tensor) -> Tensor:
        """-gamma_c f_c / 784, as in the released implementation, from the scores f_c [B, C] of `Inference`."""
        return -self.scales * score / PIXELS


class InferenceSettings(settings.Settings):
    """How the least F_c(x, z) is searched for: the best of many points, then Adam from there."""

    points: int = Field(8000, ge=1, description="latent points scored for each class; 8000 in the released code")
    dismissed: float = Field(
        0.1, ge=0, lt=1, description="share of the drawn points that is left out, the least likely ones"
    )
    seed: int = Field(0, ge=0, description="of the draw of the latent points")
    steps: int = Field(
        50, ge=1, description="of Adam from the best point, the last one evaluates only; 50 in section 3"
    )
    lr: float = Field(0.05, gt=0, description="Adam's learning rate; 0.05 in the released code")
    radius: float = Field(5.0, gt=0, description="largest L2 norm of a latent point")


class Explanation(NamedTuple):
    """How each class explains each image: F_c(x, z) at the best z found, z itself, and G_c(z)."""

    score: Tensor  # [B, C], lower is better
    z: Tensor  # [B, C, 8]
    image: Tensor  # [B, C, 784]


class Inference:
    """The minimum over z of F_c(x, z) = ||x - G_c(z)||^2 + ||z||^2 / 2 for every class (paper, equation 3).

    The best of the fixed points is refined by gradient descent. Deterministic, and no image depends on another.
    """

    def __init__(self, decoder: Decoder, how: InferenceSettings) -> None:
        self.decoder, self.how = decoder, how
        self._latents = draw_latents(how).to(decoder.folded.device)

    def __call__(self, x: Tensor) -> Explanation:
        """Explanations of the images x, float32 [B, 1, 28, 28]; equal images are explained once."""
        distinct, row = x.flatten(1).unique(dim=0, return_inverse=True)
        start = self._latents[self._best_points(distinct)]
        how = self.how
        score, z, image = latent_descent(self.decoder, start, distinct, how.steps, how.lr, how.radius, reconstruct=True)
        assert image is not None
        return Explanation(score[row], z[row], image[row])

    def converged(self, x: Tensor) -> Tensor:
        """The least scores [B, C] found for the images x, float32 [B, 1, 28, 28]: those of `__call__`, or by `STEPS`
        steps from each of the `STARTS` best points."""
        images = x.flatten(1).contiguous()
        starts = self._latents[self._best_points(images, min(STARTS, len(self._latents)))].transpose(1, 2)
        score, _, _ = latent_descent(
            self.decoder,
            starts.flatten(0, 1).contiguous(),
            images.repeat_interleave(starts.shape[1], 0),
            max(STEPS, self.how.steps),
            self.how.lr,
            self.how.radius,
        )
        return torch.minimum(score.view(starts.shape[:3]).amin(1), self(x).score)

    def _best_points(self, x: Tensor, k: int | None = None) -> Tensor:
        """Indices of the fixed points that are best for each class and image x [B, 784]: [B, C], or the k best,
        [B, C, k]."""
        if self._bank is None:
            return latent_sweep(self.decoder, self._latents, x, k)[1]
        reach = in_reach(self._bank, self._latents, x) if k is None else None
        if reach is None:
            return bank_sweep(self._bank, self._latents, x, k, self._screen)[1]
        return reach[bank_sweep(self._bank[:, reach], self._latents[reach], x)[1]]

    def points(self, label: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The fixed points [points, 8] and their images by one class [points, 784]; with a seed other points of that
        number, drawn alike."""
        if seed == 0 and self._bank is not None:
            return self._latents, self._bank[label]
        how = self.how.model_copy(update={"seed": self.how.seed + seed})
        latents = draw_latents(how).to(self._latents.device)
        return latents, latent_bank(Decoder(self.decoder.folded[label : label + 1]), latents)[0]

    @cached_property
    def _bank(self) -> Tensor | None:
        """The points decoded, where memory allows to keep them."""
        decoder = self.decoder
        way = choose(decoder.classes, len(self._latents), BATCHES, free_memory(decoder.folded.device))
        return latent_bank(decoder, self._latents) if way == "bank" else None

    @cached_property
    def _screen(self) -> Screen | None:
        return None if self._bank is None else screen_bank(self._bank)


def draw_latents(how: InferenceSettings) -> Tensor:
    """The points [points, 8] of highest density among more draws from the prior, shared by all classes and images."""
    drawn = torch.randn(
        math.ceil(how.points / (1 - how.dismissed)), LATENT, generator=torch.Generator().manual_seed(how.seed)
    )
    kept = drawn.square().sum(1).argsort(stable=True)[: how.points]
    return drawn[kept.sort().values].contiguous()
