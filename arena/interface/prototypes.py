"""A score that is a minimum over prototypes: what abs, binary-abs and the nearest neighbour have in common.

Exact gradients, lower bounds and cutting-plane attacks speak to this protocol and know nothing of autoencoders.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from arena.errors import UserError
from arena.interface.contracts import Defense

Objective = Callable[[Tensor, Tensor], Tensor]
"""Images [N, C, D] and penalties [N, C] of a prototype of each class -> what is to be minimised [N, C], each entry by
itself, differentiable where the set is not finite. D counts the values of an image."""


class Points(NamedTuple):
    """A prototype of each class for each of N images."""

    code: Tensor  # [N, C, L]: latent points, or row numbers [N, C, 1] in the pools of a finite set
    image: Tensor  # [N, C, D]
    penalty: Tensor  # [N, C]


class Pool(NamedTuple):
    """Prototypes of one class."""

    code: Tensor  # [P, L]
    image: Tensor  # [P, D]
    penalty: Tensor  # [P]


class Prototypes(Protocol):
    """f_c(x) = scales_c min_p (||input - image_p||^2 + penalty_p) over prototypes p of class c; the least f_c decides.

    `input` [N, D] is what the model sees of the images: see `input_of`. scales [C]: positive; all ones unless the
    model binarises. finite: whether the pools are all there is. Everything is float32 on the defense's device.
    """

    scales: Tensor
    finite: bool

    def nearest(self, input: Tensor) -> Points:
        """The prototypes of least ||input - image_p||^2 + penalty_p, by the defense's own search."""
        ...

    def pool(self, label: int, seed: int = 0) -> Pool:
        """A finite set of class `label` among which every search begins: all of them if `finite`. Seed 0: those that
        the defense itself begins with; another: others, drawn alike (the same if `finite`)."""
        ...

    def refine(self, start: Points, objective: Objective, steps: int) -> Points:
        """The best points met while descending from `start` on the objective; `start` itself if `finite`.

        The last of the steps evaluates only, as in the defense's own search.
        """
        ...


class FiniteSet:
    """Prototypes that can be listed: images [P, D] of each class, all penalties zero."""

    finite = True

    def __init__(self, images: Sequence[Tensor]) -> None:
        self._images = images
        self.scales = images[0].new_ones(len(images))

    def nearest(self, input: Tensor) -> Points:
        rows = torch.stack([torch.cdist(input, images).argmin(1) for images in self._images], 1)
        image = torch.stack([images[row] for images, row in zip(self._images, rows.T, strict=True)], 1)
        return Points(rows[..., None], image, torch.zeros_like(image[..., 0]))

    def pool(self, label: int, seed: int = 0) -> Pool:
        images = self._images[label]
        rows = torch.arange(len(images), device=images.device)
        return Pool(rows[:, None], images, torch.zeros_like(images[:, 0]))

    def refine(self, start: Points, objective: Objective, steps: int) -> Points:
        return start


class HasPrototypes(ABC):
    """A defense whose score is a minimum over prototypes: any class with an attribute `prototypes` is one.

    The protocols of typing that have attributes cannot be asked about a class; this can.
    """

    @property
    @abstractmethod
    def prototypes(self) -> Prototypes: ...

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return any("prototypes" in vars(base) for base in other.__mro__)


def prototypes_of(defense: Defense) -> Prototypes:
    """`defense.prototypes`; raises UserError if its class is no `HasPrototypes`."""
    if not isinstance(defense, HasPrototypes):
        raise UserError(
            f"defense {defense.name} has no prototypes, its score is no minimum over any: choose abs, binary-abs or"
            " nearest-neighbor"
        )
    return defense.prototypes


def input_of(defense: Defense, x: Tensor) -> Tensor:
    """What a model with prototypes sees [N, D] of the images x [N, C, H, W]: black and white if it binarises."""
    x = x.flatten(1)
    return x if defense.binary_threshold is None else (x >= defense.binary_threshold).to(x.dtype)
