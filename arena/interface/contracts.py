"""What a plugin implements: a `Defense` answers, an `Attack` proposes. The referee measures."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import pluggy
import torch
from torch import Tensor

from arena.errors import UserError
from arena.geometry.norms import Norm
from arena.interface.calibration import Calibration, confidence
from arena.interface.devices import resolve_device
from arena.interface.fingerprint import distribution_of, fingerprint
from arena.interface.results import Identity
from arena.interface.settings import Settings, parse_settings

if TYPE_CHECKING:
    from arena.target.target import Target

hookimpl = pluggy.HookimplMarker("arena")

AccessLevel = Literal["decision", "score", "gradient", "reconstruction", "white-box"]
Gradient = Literal["none", "autograd", "straight-through", "exact"]

ACCESS_LEVELS: tuple[AccessLevel, ...] = get_args(AccessLevel)  # each level includes the ones before it


class _Plugin(ABC):
    """What a defense and an attack share: a name, validated settings and a fingerprint."""

    name: ClassVar[str]
    Settings: ClassVar = Settings
    settings: Any

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.fingerprint[:12]}>"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of package version, code, settings and tensors: two equal ones give equal results."""
        return fingerprint(self, stop=_Plugin)

    @property
    def identity(self) -> Identity:
        """Name, fingerprint, package and settings, as the store keeps them."""
        package, version = distribution_of(type(self))
        settings = self.settings.model_dump(mode="json")
        if getattr(self, "weights", None) is not None:
            settings["weights"] = str(self.weights)  # type: ignore[attr-defined]
        norm, access = getattr(self, "norm", None), getattr(self, "access", None)
        return Identity(self.name, self.fingerprint, package, version, settings, norm, access)


class Defense(_Plugin):
    """A classifier under evaluation.

    `gradient` says how `scores` can be differentiated with respect to the images: not at all, by autograd, by autograd
    through a straight-through estimator, or exactly, by `score_gradient`. `binary_threshold` is set by a defense whose
    decision depends on `x >= binary_threshold` alone. `batch_size` is the most images that a query asks about at
    once: it bounds memory, and small networks are fastest on small batches. `calibration` turns scores into
    confidences; None if the weights have none.
    """

    gradient: ClassVar[Gradient] = "none"
    binary_threshold: ClassVar[float | None] = None
    batch_size: ClassVar[int] = 128
    calibration: Calibration | None = None

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        self.weights = weights
        self.device = resolve_device(device)
        self.settings = parse_settings(self.Settings, settings, f"defense {self.name}")

    @abstractmethod
    def scores(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of the images x, float32 [B, 1, 28, 28] in [0, 1] on `self.device`.

        Deterministic, and no row depends on another. The highest logit is the decision. Two classes at least, of any
        floating point type (attacks see float32); the logit of a masked class may be -inf, others are finite.
        """

    def confidence(self, x: Tensor) -> Tensor:
        """p(c | x) = (exp(alpha l_c) + eta) / sum_k (exp(alpha l_k) + eta) for the scores l (paper, equation 4).

        x: images, float32 [B, 1, 28, 28] in [0, 1] on `self.device`. Returns [B, classes] in [0, 1]; rows sum to one.
        Differentiable with respect to x where `scores` is.

        Raises:
            UserError: the defense has no `calibration`.
        """
        if self.calibration is None:
            raise UserError(
                f"defense {self.name} has no calibration of its confidence: use weights with the model card that "
                "`arena train` wrote beside them, or set calibration = arena.interface.calibration.calibrate(scores, y)"
            )
        return torch.cat([confidence(self.scores(part), self.calibration) for part in x.split(self.batch_size)])

    def score_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, classes] and their gradients [B, classes, 1, 28, 28] with respect to the images x.

        For a defense that declares `gradient = "exact"`: one whose score is a minimum knows the gradient of that score
        (envelope theorem) where autograd cannot go.
        """
        raise NotImplementedError(f"defense {self.name} has no exact gradient")

    def converged_scores(self, x: Tensor) -> Tensor | None:
        """Logits [B, classes] of the images x as an inference carried to convergence would have them.

        For a defense whose `scores` come of a search that ends after so many steps. The referee asks about every
        adversarial that it found: one that is classified correctly here is fragile. None: there is no such search.
        """
        return None


class Attack(_Plugin):
    """Proposes adversarial images; it sees the defense only through its `Target`.

    `norm` is what it minimises; `access` is the access that the target grants, each level including those before it.
    """

    norm: ClassVar[Norm]
    access: ClassVar[AccessLevel]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "needs" in vars(cls) and "access" not in vars(cls):  # the old word, for one release
            warnings.warn(f"{cls.__qualname__}.needs is now called access: rename it", DeprecationWarning, stacklevel=2)
            cls.access = vars(cls)["needs"]

    def __init__(self, **settings: Any) -> None:
        self.settings = parse_settings(self.Settings, settings, f"attack {self.name}")

    @abstractmethod
    def run(self, target: Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """Candidate images [B, 1, 28, 28] in [0, 1], one a row; a row equal to its clean image claims nothing.

        x: images, float32 [B, 1, 28, 28] in [0, 1], all classified correctly; y: labels, int64 [B]. Neither may
        be modified. rng: the only source of randomness, a CPU generator, so that a device does not change the draw.
        """

    @classmethod
    def applies_to(cls, defense: type[Defense]) -> bool:
        """Whether the defense offers what the attack needs (blank cells of Table 1 are the pairs that do not)."""
        if cls.access == "gradient":
            return defense.gradient in ("autograd", "straight-through")
        if cls.access == "reconstruction":
            return hasattr(defense, "reconstructions")
        return True
