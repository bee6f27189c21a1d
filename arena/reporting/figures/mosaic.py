"""Many small images and words in one panel: a panel for each image would take a hundred times as long."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

SIDE = 32  # units that an image takes, along its longer side
INCHES = 0.02  # of a unit on paper


class Mosaic:
    """A figure whose places are counted in units from the upper left.

    Words may reach out of it: it is cropped around what it shows.
    """

    def __init__(self, width: int, height: int) -> None:
        self.figure = Figure(figsize=(INCHES * width, INCHES * height))
        self._limits: dict[str, Any] = {"xlim": (0, width), "ylim": (height, 0), "aspect": "equal"}
        self._ax = self.figure.add_axes((0, 0, 1, 1), **self._limits)
        self._ax.axis("off")

    def image(self, x: int, y: int, image: np.ndarray, heading: str = "", **style: Any) -> None:
        """An image, float [C, H, W] in [0, 1], in the place whose upper left corner is at x, y, with words above it; in
        color where it has three channels, else the first of them."""
        shown = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
        height, width = (SIDE * side / max(shown.shape[:2]) for side in shown.shape[:2])
        left, top = x + (SIDE - width) / 2, y + (SIDE - height) / 2
        extent = (left, left + width, top + height, top)
        self._ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="none", extent=extent, aspect="auto")
        self._ax.set(**self._limits)  # which imshow changed
        if heading:
            self.words(x + SIDE / 2, y - 1, heading, va="bottom", **style)

    def gap(self, x: int, y: int, why: str) -> None:
        """The place of an image that is not there, and why."""
        self.words(x + SIDE / 2, y + SIDE / 2, why, color="0.35", fontsize=6)

    def words(self, x: float, y: float, text: str, **style: Any) -> None:
        """Words around a place, centered unless the style says otherwise."""
        kwargs: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6.5} | style
        self._ax.text(x, y, text, **kwargs)
