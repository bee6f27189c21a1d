"""The files that `arena plugins new` writes."""

from __future__ import annotations

from string import Template

PYPROJECT = Template("""\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "arena-$kind-$name"
version = "0.1.0"
dependencies = ["arena-robustness"]

# This is how arena finds the package: the module named here implements its hooks.
[project.entry-points.arena]
$name = "$module"

[tool.setuptools]
py-modules = ["$module"]
""")

ATTACK = Template('''\
"""The attack $name for arena: a start that works, to be replaced by a better idea."""

import arena
import torch


class $cls(arena.Attack):
    """More and more of one random noise image, until the defense errs."""

    name = "$name"
    norm = "l2"  # the distance that it minimises: l0, l1, l2 or linf
    access = "decision"  # what it asks of the defense: decision < score < gradient < reconstruction < white-box

    class Settings(arena.Settings):
        """[attack.$name] in arena.toml. steps: noise levels to try; epsilon: standard deviation of the last."""

        steps: int = 100
        epsilon: float = 3.0

    def run(self, target, x, y, rng):
        """x: images, float32 [B, C, H, W] in [0, 1]; y: their labels, int64 [B]. Neither may be modified.

        rng is the only source of randomness. Returns one candidate for each image; the referee measures it.
        """
        noise = torch.randn(x.shape, generator=rng).to(x)
        for step in range(1, self.settings.steps + 1):
            epsilon = self.settings.epsilon * step / self.settings.steps
            target.labels((x + epsilon * noise).clamp(0, 1))  # one query for each image; `y` is what must not come back
        return target.best  # the closest adversarials that the target has seen; the clean image where there is none


@arena.hookimpl
def register_attacks(register):
    register($cls)
''')

DEFENSE = Template('''\
"""The defense $name for arena: a start that works, to be replaced by a classifier that is worth it."""

import math

import arena
import torch


class $cls(arena.Defense):
    """Linear scores with random weights, unless a file of others is given."""

    name = "$name"
    gradient = "autograd"  # how scores can be differentiated: none, autograd, straight-through or exact
    shape = $shape  # channels, height and width of the images that it takes
    classes = 10

    def __init__(self, weights=None, device="cpu", **settings):
        """weights: what torch.save wrote, named under [defense.$name] in arena.toml."""
        super().__init__(weights, device, **settings)
        self.matrix = torch.randn(self.classes, math.prod(self.shape), generator=torch.Generator().manual_seed(0))
        if weights is not None:
            self.matrix = torch.load(weights, weights_only=True)
        self.matrix = self.matrix.to(self.device)

    def scores(self, x):
        """x: images, float32 [B, C, H, W] in [0, 1] on self.device. Returns logits [B, classes], not probabilities.

        Equal images get equal scores, and no row depends on another: call eval() on a network.
        """
        return x.flatten(1) @ self.matrix.T


@arena.hookimpl
def register_defenses(register):
    register($cls)
''')

DATASET = Template('''\
"""The data set $name for arena: a start that works, to be replaced by images that mean something."""

import arena
import torch


class $cls(arena.Dataset):
    """Noise, brighter in the images of class 1."""

    name = "$name"
    shape = $shape  # channels, height and width
    classes = 2
    class_names = ("dark", "bright")
    splits = ("test",)
    thresholds = {"linf": 0.1, "l2": 1.0}  # perturbation sizes at which accuracies are read

    def load(self, split, samples=None):
        """The first images of a split, uint8 or float32 in [0, 1], [N, C, H, W], and their labels, int64 [N].

        Called in each worker: read a file, and leave the network to a method fetch(self).
        """
        y = torch.arange(100) % 2
        x = torch.rand(100, *self.shape, generator=torch.Generator().manual_seed(0)) / 2 + y.view(-1, 1, 1, 1) / 2
        return x[:samples], y[:samples]


@arena.hookimpl
def register_datasets(register):
    register($cls())  # an instance: nothing is read before it is asked
''')

BOUND = Template('''\
"""The lower bound $name for arena: one that is true of every defense and says nothing, to be replaced by a better."""

import arena
import torch


class $cls(arena.Bound):
    """No adversarial is closer than the image itself."""

    name = "$name"
    norms = ("l0", "l1", "l2", "linf")  # the distances that it speaks of
    kind = "certificate"  # what its values are worth: a certificate, an estimate, or statistical
    cheap = True  # seconds a sample at most: `arena run` computes it unasked

    def refusal(self, defense, shape):
        """Why it says nothing of this defense on images of shape [C, H, W], in one line; None: it does."""
        return None

    def run(self, defense, x, y, norm, rng):
        """x: images, float32 [B, C, H, W] in [0, 1], classified correctly; y: their labels, int64 [B].

        Returns for each image how far an adversarial must at least be in that norm; rng is the only source of
        randomness.
        """
        return torch.zeros(len(x), dtype=torch.float64, device=x.device)


@arena.hookimpl
def register_bounds(register):
    register($cls)
''')

TEST = Template("""\
from arena.testing import check_$kind
from $module import $cls


def test_keeps_the_contract():
    report = check_$kind($cls())$hint
    assert report.ok, str(report)
""")

DATASET_TEST = Template("""\
from $module import $cls


def test_images_are_what_the_data_set_says():
    data = $cls()
    for split in data.splits:
        x, y = data.load(split, 3)
        assert x.shape == (3, *data.shape) and y.shape == (3,)
        assert 0 <= y.min() and y.max() < data.classes
""")
