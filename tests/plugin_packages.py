"""Plugin packages for tests: installed offline into a folder of their own, found through PYTHONPATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOSTILE = Path(__file__).with_name("hostile")
BROKEN = ["fails_to_import", "exits_at_import", "misspelt_hook", "no_hook", "not_an_attack", "duplicate_name"]

PYPROJECT = """
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "1.0"
[project.entry-points.arena]
{name} = "{module}"
[tool.setuptools]
py-modules = ["{module}"]
"""


def install(target: Path, *packages: Path) -> Path:
    """pip-install package folders into `target`, without network and without touching the folders; returns `target`."""
    copies = [shutil.copytree(package, target.with_name(f"{target.name}-build") / package.name) for package in packages]
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, "--target", target, *copies], check=True)
    return target


def package_of(module: str, folder: Path) -> Path:
    """A package folder around one module of tests/hostile."""
    package = folder / module
    package.mkdir()
    shutil.copy(HOSTILE / f"{module}.py", package)
    name = module.replace("_", "-")
    (package / "pyproject.toml").write_text(PYPROJECT.format(name=name, module=module), encoding="utf-8")
    return package


def arena(*arguments: object, plugins: Path | str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own that sees the packages installed in `plugins`."""
    command = [sys.executable, "-c", "from arena.cli import main; main()", *map(str, arguments)]
    path = os.pathsep.join(filter(None, [str(plugins), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="session")
def hostile_plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for PYTHONPATH with the attacks and defenses of tests/hostile installed."""
    folder = tmp_path_factory.mktemp("hostile")
    modules = "hostile_attacks", "hostile_defenses"
    return install(folder / "site", *(package_of(module, folder) for module in modules))


@pytest.fixture(scope="session")
def broken_plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for PYTHONPATH with packages installed that cannot be loaded, each for another reason."""
    folder = tmp_path_factory.mktemp("broken")
    return install(folder / "site", *(package_of(module, folder) for module in BROKEN))
