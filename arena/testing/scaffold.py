"""`arena plugins new`: a package of an attack or a bound that is small, installable and passes the conformance kit."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from string import Template
from typing import Literal

from arena.errors import UserError
from arena.interface.registry import registry

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

Kind = Literal["attack", "bound"]
MODULES: dict[Kind, Template] = {"attack": ATTACK, "bound": BOUND}
HINTS: dict[Kind, str] = {
    "attack": "  # state how good it is with factor=: 1.25 is 25 % above the minimal distance",
    "bound": "",
}


def new_plugin(name: str, folder: Path, kind: Kind = "attack") -> Path:
    """Write the package arena-KIND-NAME into `folder` and return its path; all of it or nothing.

    name: letters, digits and hyphens. Raises UserError for another name, one that is taken, a package that
    exists already, or a folder that cannot be written to.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UserError(
            f"{name!r} is no name for a plugin: use lower-case letters, digits and hyphens, as in my-{kind}"
        )
    if taken := registry().plugins.get((kind, name)):
        raise UserError(f"{kind} {name!r} is installed already, with {taken.package}; choose another name")
    package = folder / f"arena-{kind}-{name}"
    if package.exists():
        raise UserError(f"{package} exists already; remove it or choose another name")
    module = package.name.replace("-", "_")
    cls = "".join(part.capitalize() for part in name.split("-")) + kind.capitalize()
    files = {"pyproject.toml": PYPROJECT, f"{module}.py": MODULES[kind], f"test_{module}.py": TEST}
    words = {"name": name, "kind": kind, "module": module, "cls": cls, "hint": HINTS[kind]}
    try:
        _write(package, {file: text.substitute(words) for file, text in files.items()})
    except OSError as failure:
        raise UserError(f"cannot write {package}: {failure.strerror}; choose a folder that you may write to") from None
    return package


def _write(package: Path, files: dict[str, str]) -> None:
    """Write a folder of text files beside its final place, then rename it."""
    draft = Path(tempfile.mkdtemp(prefix=f".{package.name}-", dir=package.parent))
    try:
        for file, text in files.items():
            (draft / file).write_text(text, encoding="utf-8")
        draft.chmod(0o755)
        os.rename(draft, package)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
