"""A package that takes itself for a script."""

import sys

sys.exit("usage: run me as a script")
