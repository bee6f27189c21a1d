"""Analysis by synthesis: robust because each class must explain the image."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

import arena
from arena.models.analysis_by_synthesis import AnalysisBySynthesis, Explanation, Inference, InferenceSettings
from arena.models.cnn import Binarize
from arena.models.latent_prototypes import LatentPrototypes
from arena.models.released import read_released_abs
from arena.models.weights import fill, load_calibration, read_tensors
from arena.plugins.defenses.trained import TrainedSettings, trained_for, weights_of


class Settings(InferenceSettings, TrainedSettings):
    pass


class ABS(arena.Defense):
    """ABS of the paper (section 3). Its gradient is exact: f_c is a minimum over z, so its gradient is that at the best
    z, with z held fixed (envelope theorem); the paper did without.

    `weights` may also be the folder of the authors' released checkpoints.

    Raises:
        UserError: `weights` cannot be read, or are those of another architecture.
    """

    name = "abs"
    gradient = "exact"
    shape, classes = (1, 28, 28), 10
    batch_size = 2048  # the images of an estimated gradient together: equal and close ones are explained faster
    Settings = Settings

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        super().__init__(weights, device, **settings)
        self.network = AnalysisBySynthesis()
        path = weights_of(self)
        released = path.is_dir()
        tensors = read_released_abs(path, self.binary_threshold is not None) if released else read_tensors(path)
        fill(self.network, tensors, path)
        self.calibration = load_calibration(path)
        self.network.eval().requires_grad_(False).to(self.device)
        self._infer = Inference(self.network.decoder, self.settings)

    @classmethod
    def settings_for(cls, data: arena.Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
        return trained_for(cls.name, data, super().settings_for(data, given))

    def fingerprint_state(self) -> Any:
        """The network; what the inference draws and decodes follows from it and the settings, to the last bit only on
        one machine."""
        return self.network, self.calibration

    def scores(self, x: Tensor) -> Tensor:
        return self.network.logits(self._explain(x).score)

    def score_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        explanation = self._explain(x)
        toward = explanation.image.view(len(x), -1, *x.shape[1:]) - self._input(x)[:, None]
        return self.network.logits(explanation.score), 2 / x[0].numel() * self.network.scales.view(-1, 1, 1, 1) * toward

    def converged_scores(self, x: Tensor) -> Tensor:
        return self.network.logits(self._infer.converged(self._input(x)))

    def reconstructions(self, x: Tensor) -> Tensor:
        """The image by which each class explains each of the images x, [B, classes, 1, 28, 28] in [0, 1]."""
        return self._explain(x).image.view(len(x), -1, *x.shape[1:])

    @cached_property
    def prototypes(self) -> LatentPrototypes:
        """What the scores are minima over; see `arena.interface.prototypes`."""
        return LatentPrototypes(self._infer, self.network.scales)

    def _explain(self, x: Tensor) -> Explanation:
        return self._infer(self._input(x))

    def _input(self, x: Tensor) -> Tensor:
        """What the model sees of the images."""
        return x if self.binary_threshold is None else Binarize(self.binary_threshold)(x)
