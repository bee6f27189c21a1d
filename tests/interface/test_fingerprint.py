"""Equal fingerprints promise equal results: whatever can change a result changes the fingerprint."""

import importlib
import sys

import pytest
import torch

import arena
from arena.interface import fingerprint
from arena.testing import LinearDefense

SOURCES = {
    "shared.py": "STRENGTH = 1.0\n",
    "attack.py": """
import arena
from fingerprinted import shared

class Mine(arena.Attack):
    name, norm, access = "mine", "l2", "decision"

    class Settings(arena.Settings):
        steps: int = 10

    def run(self, target, x, y, rng):
        return x * shared.STRENGTH
""",
    "__init__.py": "",
    "unrelated.py": "VALUE = 1\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes the package `fingerprinted` with some files replaced and gives its attack class, freshly imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(**changed):
        folder = tmp_path / "fingerprinted"
        folder.mkdir(exist_ok=True)
        for file, text in SOURCES.items():
            (folder / file).write_text(text + changed.get(file.removesuffix(".py"), ""))
        fingerprint._source.cache_clear()
        for name in [name for name in sys.modules if name.startswith("fingerprinted")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return importlib.import_module("fingerprinted.attack").Mine

    yield load
    for name in [name for name in sys.modules if name.startswith("fingerprinted")]:
        del sys.modules[name]


def test_an_attack_is_its_settings_and_its_code(package):
    base = package()
    expected = base().fingerprint
    assert expected == base().fingerprint == base(steps=10).fingerprint
    assert base(steps=11).fingerprint != expected
    assert package(attack="# changed\n")().fingerprint != expected
    assert package(shared="# changed\n")().fingerprint != expected  # imported from the same package
    assert package(unrelated="# changed\n")().fingerprint == expected
    assert package()().fingerprint == expected


def test_a_defense_is_its_tensors_too():
    base = LinearDefense(classes=3, seed=1)
    assert base.fingerprint == LinearDefense(classes=3, seed=1).fingerprint
    assert base.fingerprint != LinearDefense(classes=3, seed=2).fingerprint
    changed = LinearDefense(classes=3, seed=1)
    tensor = next(value for value in vars(changed).values() if isinstance(value, torch.Tensor))
    tensor.view(-1)[0] += 1e-6
    assert changed.fingerprint != base.fingerprint


def test_classes_without_a_file_have_one_too():
    namespace = {"name": "local", "norm": "l2", "access": "decision", "run": lambda self, target, x, y, rng: x}
    cls = type("Local", (arena.Attack,), namespace | {"__module__": "__main__"})
    assert len(cls().fingerprint) == 64 and cls().identity.package == "local"
