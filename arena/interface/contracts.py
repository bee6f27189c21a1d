"""What a plugin implements: a `Defense` answers, an `Attack` proposes, the referee measures, a `Bound` proves."""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

import pluggy
import torch
from torch import Tensor

from arena.errors import NotApplicable, UserError
from arena.geometry.norms import Norm
from arena.interface.calibration import Calibration, confidence
from arena.interface.dataset import Dataset
from arena.interface.devices import resolve_device
from arena.interface.fingerprint import fingerprint
from arena.interface.results import BoundKind, Identity
from arena.interface.settings import Settings, parse_settings
from arena.interface.source import distribution_of
from arena.interface.state import attributes

if TYPE_CHECKING:
    from arena.target.target import Target

hookimpl = pluggy.HookimplMarker("arena")

AccessLevel = Literal["decision", "score", "gradient", "reconstruction", "white-box"]
Gradient = Literal["none", "autograd", "straight-through", "exact"]

ACCESS_LEVELS: tuple[AccessLevel, ...] = get_args(AccessLevel)  # each level includes the ones before it


@runtime_checkable
class ExactGradient(Protocol):
    """A defense that knows the gradient of its scores where autograd cannot go: it declares `gradient = "exact"`.

    One whose score is a minimum knows the gradient of that score (envelope theorem).
    """

    def score_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, classes] and their gradients [B, classes, C, H, W] with respect to the images x."""
        ...


@runtime_checkable
class Reconstructs(Protocol):
    """A defense that can draw what each class takes an image for."""

    def reconstructions(self, x: Tensor) -> Tensor:
        """The image by which each class explains each of the images x, [B, classes, C, H, W] in [0, 1]."""
        ...


@runtime_checkable
class Converges(Protocol):
    """A defense whose `scores` come of a search that ends after so many steps.

    The referee asks about every adversarial that it found: one that is classified correctly here is fragile.
    """

    def converged_scores(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of the images x as an inference carried to convergence would have them."""
        ...


@runtime_checkable
class HasNetwork(Protocol):
    """A defense whose scores are what a module says of the image."""

    network: torch.nn.Module


@runtime_checkable
class Votes(Protocol):
    """A defense that takes a vote of a base classifier on copies of the image with Gaussian noise."""

    @property
    def sigma(self) -> float:
        """The standard deviation of the noise."""
        ...

    def base_scores(self, x: Tensor) -> Tensor:
        """Logits [N, classes] of the base classifier for x [N, C, H, W], images and noise: its values are any."""
        ...


class _Plugin(ABC):
    """What a defense, an attack and a bound share: a name, validated settings and an identity.

    `weights`: a file or folder that decides the results, if there is one; its bytes are part of the fingerprint.
    """

    name: ClassVar[str]
    Settings: ClassVar = Settings
    settings: Any
    weights: str | Path | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__ == "abc":  # made by calling `type`, which takes its metaclass for the author
            frame = sys._getframe(1)
            while frame.f_back is not None and frame.f_globals.get("__name__") in (__name__, "abc", "types"):
                frame = frame.f_back
            cls.__module__ = frame.f_globals.get("__name__", "__main__")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.fingerprint[:12]}>"

    @classmethod
    def settings_for(cls, data: Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings, `weights` among them, with which it is played on a data set where the user gives these.

        Override it where more follows from the data. Raises `NotApplicable`, with the remedy, if it is not for it.
        """
        return dict(given)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that decides the results, settled when first asked for: two equal ones give equal
        results. Raises UserError if an attribute cannot be told from another."""
        return fingerprint(self)

    def fingerprint_state(self) -> Any:
        """What decides the results beside code, settings and weights: every attribute.

        Override it where attributes hold what has no comparable state, such as a session of an inference library.
        """
        return attributes(self)

    @property
    def identity(self) -> Identity:
        """Name, fingerprint, package and settings, as the store keeps them."""
        package, version = distribution_of(type(self).__module__)
        return Identity(self.name, self.fingerprint, package, version, self.settings.model_dump(mode="json"))


class Defense(_Plugin):
    """A classifier under evaluation.

    `gradient` says how `scores` can be differentiated with respect to the images: not at all, by autograd, by autograd
    through a straight-through estimator, or exactly, by `score_gradient`. `binary_threshold` is set by a defense whose
    decision depends on `x >= binary_threshold` alone. `batch_size` is the most images that a query asks about at
    once: it bounds memory, and small networks are fastest on small batches. `calibration` turns scores into
    confidences; None if the weights have none.

    `shape` [C, H, W] and `classes` are those of the images that it is made for, None if it takes any: it is played on
    data that fits. `access = "decision"` says that it tells labels only: `scores` are one-hot, and only those
    attacks apply that make do with decisions.
    """

    gradient: ClassVar[Gradient] = "none"
    access: ClassVar[Literal["decision", "score"]] = "score"
    shape: ClassVar[tuple[int, int, int] | None] = None
    classes: ClassVar[int | None] = None
    binary_threshold: ClassVar[float | None] = None
    batch_size: ClassVar[int] = 128
    calibration: Calibration | None = None

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        self.weights = weights
        self.device = resolve_device(device)
        self.settings = parse_settings(self.Settings, settings, f"defense {self.name}")

    @classmethod
    def fits(cls, shape: tuple[int, int, int], classes: int) -> bool:
        """Whether it is made for images of this shape [C, H, W] and so many classes."""
        return cls.shape in (None, shape) and cls.classes in (None, classes)

    @classmethod
    def settings_for(cls, data: Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
        """As any plugin's; it must fit."""
        if not cls.fits(data.shape, data.classes):
            made_for = f"defense {cls.name} is made for images {list(cls.shape or ('any',))} of {cls.classes} classes"
            raise NotApplicable(f"{made_for}: {data.name} has {list(data.shape)}, {data.classes} classes")
        return super().settings_for(data, given)

    @abstractmethod
    def scores(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of the images x, float32 [B, C, H, W] in [0, 1] on `self.device`.

        Deterministic, and no row depends on another. The highest logit is the decision. Two classes at least, of any
        floating point type (attacks see float32); the logit of a masked class may be -inf, others are finite.
        """

    def confidence(self, x: Tensor) -> Tensor:
        """p(c | x) = (exp(alpha l_c) + eta) / sum_k (exp(alpha l_k) + eta) for the scores l (paper, equation 4).

        x: images, float32 [B, C, H, W] in [0, 1] on `self.device`. Returns [B, classes] in [0, 1]; rows sum to one.
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

    @property
    def identity(self) -> Identity:
        """As any plugin's; the settings name the weights, so that `arena verify` can load them again."""
        common = super().identity
        weights = {} if self.weights is None else {"weights": str(self.weights)}
        return replace(common, settings=common.settings | weights)


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

    @property
    def identity(self) -> Identity:
        """As any plugin's, with norm and access."""
        return replace(super().identity, norm=self.norm, access=self.access)

    @abstractmethod
    def run(self, target: Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """Candidate images [B, C, H, W] in [0, 1], one a row; a row equal to its clean image claims nothing.

        x: images, float32 [B, C, H, W] in [0, 1], all classified correctly; y: labels, int64 [B]. Neither may
        be modified. rng: the only source of randomness, a CPU generator, so that a device does not change the draw.
        """

    @property
    def fixed_epsilon(self) -> float | None:
        """The radius, in `norm`, of the only ball that it searches, if it claims nothing about the smallest: it is
        judged by how many samples it finds within."""
        return None

    @classmethod
    def applies_to(cls, defense: type[Defense]) -> bool:
        """Whether the defense offers what the attack needs (blank cells of Table 1 are the pairs that do not)."""
        if defense.access == "decision":
            return cls.access == "decision"
        if cls.access == "gradient":
            return defense.gradient in ("autograd", "straight-through")
        if cls.access == "reconstruction":
            return issubclass(defense, Reconstructs)
        return True


class Bound(_Plugin):
    """A lower bound: how far an adversarial must at least be, whatever the attack.

    `norms` are those it speaks of. `kind` says what its values are worth: a *certificate* is proven of `scores`; an
    *estimate* is as good as a search that may have missed something; a *statistical* bound fails with a probability
    that its settings name, and is never counted beside the other two. `cheap`: `arena run` computes it unasked, for it
    takes seconds a sample at most; any other is computed when it is asked for.
    """

    norms: ClassVar[tuple[Norm, ...]]
    kind: ClassVar[BoundKind]
    cheap: ClassVar[bool] = False

    def __init__(self, **settings: Any) -> None:
        self.settings = parse_settings(self.Settings, settings, f"bound {self.name}")

    def refusal(self, defense: Defense, shape: tuple[int, int, int]) -> str | None:
        """Why it says nothing of this defense on images [C, H, W], in one line such as "its score is no minimum over
        prototypes"; None where it applies. It asks for protocols, `isinstance(defense, HasPrototypes)`, or reads the
        network, within a second: all bounds are asked about all defenses."""
        return None

    def kind_for(self, defense: Defense) -> BoundKind:
        """What its values are worth for a defense that it applies to, if that depends on the defense."""
        return self.kind

    @abstractmethod
    def run(self, defense: Defense, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
        """Lower bounds [B], float64, of the distances from the images x to the nearest image in the box [0, 1] that
        `defense` takes for another class than y: at least 0, infinity where no image of the box is. L0 counts whole
        pixels. The defense is one that `refusal` does not refuse.

        x: float32 [B, C, H, W] in [0, 1] on `defense.device`, all classified correctly; y: their labels, int64 [B];
        neither may be modified. norm: one of `norms`. No row depends on another. rng: the only source of randomness, a
        CPU generator, seeded anew with 0, 1, ... (`arena bounds --seeds`) for every chunk of samples.
        """
