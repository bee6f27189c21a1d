"""Opponents whose minimal adversarial distances are known."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from arena.geometry.norms import Norm
from arena.interface.contracts import Defense


class KnownDefense(Defense):
    """A defense that knows how far its images are from the nearest adversarial: attacks and bounds are held to it."""

    @abstractmethod
    def sample_images(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W] in [0, 1], and the labels, int64 [n], that this defense gives them."""

    @abstractmethod
    def minimal_distance(self, norm: Norm, x: Tensor) -> Tensor:
        """Distance [B], float64, from images x [B, C, H, W] to the nearest image in the box [0, 1] of another class.

        It is an infimum: an image at exactly this distance lies on the boundary. Infinity where no image of the box
        is of another class.
        """
