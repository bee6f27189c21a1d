"""Where things lie, for tests."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
REFERENCE = SHARED / "reference-weights"  # the checkpoints that the paper's authors released
