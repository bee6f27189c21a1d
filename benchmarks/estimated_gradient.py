"""One estimated gradient of ABS: its 1568 images explained together, beside each for itself, in the same run.

CPU seconds on one thread. The plain way sweeps all points and descends for every image. Together, equal images are
explained once (pixels at the edge of the box, or on the same side of the threshold), and the sweep looks only at points
that can be the best for one of them. The descents that are left are the same, so their share bounds the gain. Scores
are compared to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from arena.data import load_data
from arena.kernels.ops import bank_sweep, latent_bank, latent_descent
from arena.models.analysis_by_synthesis import draw_latents
from arena.models.cnn import Binarize
from arena.plugins.defenses.abs import ABS
from arena.plugins.defenses.binary_abs import BinaryABS

SAMPLE = 0
STEPS = (0.01, 0.6)  # of the differences, as the attacks `-ge` take them
BATCH = 128


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'defense':<11} {'step':>5} {'distinct':>9} {'sweep s':>8} {'descent s':>10} {'now s':>7} {'ratio':>6}")
    for kind in (ABS, BinaryABS):
        defense = kind()
        for step in STEPS:
            print(f"{defense.name:<11} {step:>5} {compare(defense, Plain(defense), step)}", flush=True)


def compare(defense: ABS, plain: Plain, step: float) -> str:
    """Distinct images, the plain way's seconds for its two parts, those of `defense.scores`, and the ratio."""
    x = load_data("mnist", "test")[0][SAMPLE]
    images = neighbors(x, step)
    distinct = len(plain.seen(images).unique(dim=0))
    defense.scores(x[None])  # decodes the points, once for all queries
    swept, start = seconds(lambda: plain.sweep(images))
    descended, expected = seconds(lambda: plain.descend(images, start))
    now, scores = seconds(lambda: defense.scores(images))
    assert torch.equal(scores, expected), "not the same scores"
    return f"{distinct:>9} {swept:>8.2f} {descended:>10.2f} {now:>7.2f} {(swept + descended) / now:>6.1f}"


class Plain:
    """The scores of an ABS defense, image by image."""

    def __init__(self, defense: ABS) -> None:
        self.network, self.how, self.threshold = defense.network, defense.settings, defense.binary_threshold
        self.latents = draw_latents(self.how)
        self.bank = latent_bank(self.network.decoder, self.latents)

    def seen(self, images: Tensor) -> Tensor:
        return (images if self.threshold is None else Binarize(self.threshold)(images)).flatten(1)

    def sweep(self, images: Tensor) -> Tensor:
        parts = self.seen(images).split(BATCH)
        return self.latents[torch.cat([bank_sweep(self.bank, self.latents, part)[1] for part in parts])]

    def descend(self, images: Tensor, start: Tensor) -> Tensor:
        how, parts = self.how, zip(start.split(BATCH), self.seen(images).split(BATCH), strict=True)
        scores = [latent_descent(self.network.decoder, z, part, how.steps, how.lr, how.radius)[0] for z, part in parts]
        return self.network.logits(torch.cat(scores))


def neighbors(x: Tensor, step: float) -> Tensor:
    """The images [1568, 1, 28, 28] of the central differences at x [1, 28, 28]."""
    offsets = step * torch.eye(x.numel()).view(-1, *x.shape)
    return torch.cat([(x + offsets).clamp(0, 1), (x - offsets).clamp(0, 1)])


def seconds(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


if __name__ == "__main__":
    main()
