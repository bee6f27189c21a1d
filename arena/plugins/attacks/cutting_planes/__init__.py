"""Cutting planes: the strongest attack on scores that are minima over prototypes."""

from arena.plugins.attacks.cutting_planes.attack import L0CuttingPlanes, L2CuttingPlanes, LinfCuttingPlanes

__all__ = ["L0CuttingPlanes", "L2CuttingPlanes", "LinfCuttingPlanes"]
