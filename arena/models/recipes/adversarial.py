"""madry: cross entropy on adversarial images, those of a single step at first, then those of projected descent."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from arena.errors import UserError
from arena.interface.dataset import Dataset
from arena.models.madry import MadryNetwork
from arena.models.pgd import linf_pgd


@dataclass(frozen=True)
class AdversarialTraining:
    """Madry et al. 2018 train on PGD alone (40 steps of 0.01), which takes a CPU days.

    Ours begins with single-step images from a random start (Wong et al. 2020: one step of 1.25 epsilon) and finishes
    with fewer and longer steps of PGD. `--epochs` shortens or lengthens the second part.
    """

    epochs: int = 26
    restarts: tuple[int, ...] = ()
    single_step_epochs: int = 8
    epsilon: float = 0.3
    steps: int = 10
    step_size: float = 0.06
    batch_size: int = 128
    max_learning_rate: float = 1e-3
    judged_on: tuple[str, ...] = ("train", "test")
    bfloat16: bool = True

    def on(self, data: Dataset) -> AdversarialTraining:
        """In the ball whose radius is the data set's threshold in Linf."""
        if (epsilon := data.thresholds.get("linf")) is None:
            raise UserError(
                f"madry is trained in a ball in Linf: give {data.name} a threshold, epsilon = {{ linf = ... }}"
            )
        return replace(self, epsilon=epsilon, step_size=self.step_size * epsilon / self.epsilon)

    def build(self) -> MadryNetwork:
        return MadryNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, model: MadryNetwork, x: Tensor, y: Tensor, epoch: int, rng: torch.Generator) -> Tensor:
        device = next(model.parameters()).device
        single = epoch < self.single_step_epochs
        steps, step_size = (1, 1.25 * self.epsilon) if single else (self.steps, self.step_size)
        x = linf_pgd(model, x.to(device), y.to(device), self.epsilon, step_size, steps, rng)
        return functional.cross_entropy(model(x), y.to(device))

    def classifier(self, model: MadryNetwork) -> MadryNetwork:
        return model.eval()

    def further_accuracies(self, model: MadryNetwork, x: Tensor, y: Tensor) -> dict[str, float]:
        """Under PGD of 40 steps from a random start (paper, appendix A.5, whose steps are 0.01 long for 0.3)."""
        device = next(model.parameters()).device
        rng, step_size = torch.Generator().manual_seed(0), self.epsilon / 30
        correct = 0
        for images, labels in zip(x.to(device).split(500), y.to(device).split(500), strict=True):
            adversarial = linf_pgd(model, images, labels, self.epsilon, step_size, 40, rng)
            correct += int((model(adversarial).argmax(1) == labels).sum())
        return {f"test under PGD, epsilon {self.epsilon}, 40 steps of {step_size:.2g}": correct / len(x)}
