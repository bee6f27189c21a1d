"""Shared by all tests: reproducible hypothesis, one torch thread, and the real MNIST."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from plugin_packages import broken_plugins, hostile_plugins  # noqa: F401 (fixtures)
from typed import Batch

from arena.data import load_data

settings.register_profile("arena", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("arena")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mnist() -> Batch:
    """The MNIST test images and labels."""
    return load_data("mnist", "test")
