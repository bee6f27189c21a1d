"""Analysis by synthesis that sees black and white only."""

from __future__ import annotations

from arena.plugins.defenses.abs import ABS


class BinaryABS(ABS):
    """Binary ABS of the paper (section 3): the autoencoders of ABS on binarised images, the score of each class scaled
    by a factor that a line search on the training set found. Its gradient goes straight through the binarisation.
    """

    name = "binary-abs"
    binary_threshold = 0.5
