"""Many small images and words in one panel: a panel for each image would take a hundred times as long."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

SIDE = 28
INCHES = 0.02  # of an image's pixel on paper: four dots


class Mosaic:
    """A figure whose places are counted in pixels of its images, whole ones from the upper left.

    Words may reach out of it: it is cropped around what it shows.
    """

    def __init__(self, width: int, height: int) -> None:
        self.figure = Figure(figsize=(INCHES * width, INCHES * height))
        self._ax = self.figure.add_axes((0, 0, 1, 1), aspect="equal", xlim=(0, width), ylim=(height, 0))
        self._ax.axis("off")
        self._canvas = np.ma.array(np.zeros((height, width)), mask=True)
        self._shown = self._ax.imshow(
            self._canvas,
            cmap=colormaps["gray"].with_extremes(bad="white"),
            vmin=0,
            vmax=1,
            interpolation="none",
            extent=(0, width, height, 0),
        )

    def image(self, x: int, y: int, image: np.ndarray, heading: str = "", **style: Any) -> None:
        """An image, float [1, 28, 28] in [0, 1], whose upper left corner is at x, y, with words above it."""
        self._canvas[y : y + SIDE, x : x + SIDE] = image[0]
        self._shown.set_data(self._canvas)
        if heading:
            self.words(x + SIDE / 2, y - 1, heading, va="bottom", **style)

    def gap(self, x: int, y: int, why: str) -> None:
        """The place of an image that is not there, and why."""
        self.words(x + SIDE / 2, y + SIDE / 2, why, color="0.35", fontsize=6)

    def words(self, x: float, y: float, text: str, **style: Any) -> None:
        """Words around a place, centered unless the style says otherwise."""
        kwargs: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6.5} | style
        self._ax.text(x, y, text, **kwargs)
