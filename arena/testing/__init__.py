"""Public conformance kit for plugins: a linear defense with known optima."""

from arena.testing.linear import BinaryLinearDefense, LinearDefense

__all__ = ["BinaryLinearDefense", "LinearDefense"]
