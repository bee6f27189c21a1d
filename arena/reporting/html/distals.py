"""Distal adversarials in the report: what came of the ascents from noise, with their images (paper, Figure 4)."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from itertools import groupby
from statistics import median

import numpy as np
from sqlalchemy import Connection

from arena.interface.results import Distal, Status
from arena.store import distals as distal_rows


@dataclass(frozen=True, slots=True)
class Ascents:
    """Those on one defense with one kind of gradient; `images` are PNG data URLs, rounded to 8 bits."""

    defense: str
    gradient: str
    rows: list[Distal]
    images: list[str]

    @property
    def reached(self) -> int:
        return sum(row.status == Status.FOUND for row in self.rows)

    @property
    def steps(self) -> float | None:
        """Median of those that reached the confidence."""
        return median(row.steps for row in self.rows if row.status == Status.FOUND) if self.reached else None


def read_ascents(connection: Connection) -> list[Ascents]:
    """By defense and kind of gradient. Raises UserError for a stored image that cannot be read."""
    ascents = []
    for defense, ended in distal_rows.read(connection).items():
        for gradient, group in groupby(ended, key=lambda row: row.gradient):
            rows = list(group)
            ascents.append(Ascents(defense, gradient, rows, [_png(row.image) for row in rows]))
    return ascents


def _png(image: np.ndarray) -> str:
    """A data URL of an image, float [C, H, W] in [0, 1], as PNG: in color where it has three channels, else gray."""
    shown = image if len(image) == 3 else image[:1]
    channels, height, width = shown.shape
    pixels = np.round(shown * 255).astype(np.uint8).transpose(1, 2, 0).reshape(height, width * channels)
    lines = np.pad(pixels, ((0, 0), (1, 0)))  # each begins with the number of its filter: none
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    chunks = (struct.pack(">I", len(of)) + kind + of + struct.pack(">I", zlib.crc32(kind + of)) for kind, of in parts)
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()
