"""What plugins implement."""

import pytest

import arena


def test_needs_is_the_old_word_for_access():
    namespace = {"name": "old", "norm": "l2", "needs": "score", "run": lambda self, target, x, y, rng: x}
    with pytest.warns(DeprecationWarning, match="needs is now called access"):
        old = type("Old", (arena.Attack,), namespace)
    assert old.access == "score" and old().identity.access == "score"
