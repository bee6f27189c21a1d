"""`arena plugins new`: a package of a plugin that is small, installable and passes the conformance kit."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from string import Template

from arena.data import DEFAULT
from arena.errors import UserError
from arena.interface.registry import Kind, registry
from arena.testing.templates import ATTACK, BOUND, DATASET, DATASET_TEST, DEFENSE, PYPROJECT, TEST

MODULES: dict[Kind, Template] = {"attack": ATTACK, "defense": DEFENSE, "bound": BOUND, "dataset": DATASET}
FACTOR = "  # state how good it is with factor=: 1.25 is 25 % above the minimal distance"
NEXT: dict[Kind, str] = dict.fromkeys(("attack", "defense", "bound"), "arena plugins check")
NEXT["dataset"] = "arena run --dataset"


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
    files = {
        "pyproject.toml": PYPROJECT,
        f"{module}.py": MODULES[kind],
        f"test_{module}.py": DATASET_TEST if kind == "dataset" else TEST,
    }
    hint = FACTOR if kind == "attack" else ""
    words = {"name": name, "kind": kind, "module": module, "cls": cls, "hint": hint, "shape": DEFAULT.shape}
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
