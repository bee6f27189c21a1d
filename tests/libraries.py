"""Attack libraries for tests and benchmarks, from the package index into a cached folder: without what they require,
which the environment of the tests has, or which they need for plots only."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
from paths import ROOT

LIBRARIES = {
    "torchattacks": ["torchattacks==3.5.1"],
    "adv_lib": ["adv-lib==0.2.8", "tqdm"],
    "art": ["adversarial-robustness-toolbox==1.20.1", "six", "joblib", "tqdm", "scikit-learn", "threadpoolctl"],
    "cleverhans": ["cleverhans==4.0.0"],
    "autoattack": ["pyautoattack==0.2.0"],
}
STUBS = {"adv_lib": {"visdom.py": "", "torchvision.py": "models = None\n"}}  # for plots and for perceptual distances


class Absent(Exception):
    """A library that the package index does not give; the message says why."""


def example(library: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the example package that wraps a library; skips the test where the library cannot be had."""
    try:
        monkeypatch.syspath_prepend(site(library))
    except Absent as failure:
        pytest.skip(f"{library} cannot be installed: {failure}")
    monkeypatch.syspath_prepend(ROOT / "examples" / f"arena-{library.replace('_', '-')}")
    try:
        return importlib.import_module(f"arena_{library}")
    except ImportError as failure:
        pytest.skip(f"{library} cannot be imported: {failure}")


def site(library: str) -> Path:
    """The folder with a library and its stubs, installed once for all runs of this version of the list; raises
    Absent."""
    place = Path(tempfile.gettempdir()) / f"arena-test-libraries-{os.getuid()}"
    folder = place / LIBRARIES[library][0]
    if not folder.exists():
        place.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place) as draft:
            flags = ["--quiet", "--no-deps", "--disable-pip-version-check", "--target", draft]
            command = [sys.executable, "-m", "pip", "install", *flags, *LIBRARIES[library]]
            installed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            if installed.returncode:
                raise Absent(installed.stderr.strip().splitlines()[-1])
            for file, text in STUBS.get(library, {}).items():
                Path(draft, file).write_text(text)
            Path(draft).rename(folder)
            Path(draft).mkdir()  # for the context to remove
    return folder
