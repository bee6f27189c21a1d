"""The images of the report: every sample with its adversarials, packed in blocks that the page opens one at a time.

They are for the eye: a clean image has 8 bits a pixel, a difference 31 levels of its own largest value. The exact ones
stay in the store.

A block is base64 of zlib of: the length of its JSON as a little-endian uint32, the JSON, and the images one after the
other, a byte a value, channel by channel. Each sample's clean image (uint8) comes first, then the differences (int8) of
its rows that have an adversarial, in the order of the rows.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select

from arena.interface.results import Status
from arena.reporting.html.best import Best
from arena.reporting.text import NORM_NAMES
from arena.store import schema
from arena.store.blobs import PRUNED
from arena.store.bounds import LowerBounds
from arena.store.images import Images
from arena.store.views import current_match

EVERY_ATTACK = 120_000  # adversarials; a page with more than these would take too many megabytes
BYTES = 160_000_000  # of all images, before they are compressed: samples beyond are left out
BLOCK = 100  # samples, and buttons shown at once
LEVELS = 15  # of a difference, on each side of zero

_COLUMNS = (
    *("match_id", "sample", "label", "clean_label", "adversarial_label", "status", "distance"),
    *("queries", "gradient_queries", "fragile", "adversarial"),
)


@dataclass(frozen=True, slots=True)
class Gallery:
    """`blocks`: the images; `index`: what the page must know to read them. `samples`: how many are shown, the first.
    `every_attack`: else the closest only."""

    index: dict[str, Any]
    blocks: list[str]
    samples: int
    adversarials: int
    every_attack: bool


def read_gallery(
    connection: Connection, best: Best, bounds: LowerBounds, clean: np.ndarray, class_names: Sequence[str] = ()
) -> Gallery:
    """All samples with a result, or as many as BYTES hold; the adversarials of every attack, or the closest ones where
    those are too many.

    clean: images, float32 [N, C, H, W] in [0, 1]; class_names: empty where classes are called by number. Raises
    UserError for a stored image that cannot be read.
    """
    matches = connection.execute(select(current_match).order_by(current_match.c.id)).all()
    result = schema.result.c
    found = select(func.count()).where(result.status == Status.FOUND, result.match_id.in_([row.id for row in matches]))
    adversarials, most = connection.execute(found).scalar_one(), BYTES // clean[0].size
    every_attack = adversarials <= EVERY_ATTACK and adversarials + len(best.samples) <= most
    samples = best.samples if every_attack else _within(most, best)
    packer = _Packer(connection, matches, None if every_attack else best.closest, bounds, clean)
    parts = [samples[start : start + BLOCK] for start in range(0, len(samples), BLOCK)]
    blocks = [packer.block(part) for part in parts]
    index = {
        "shape": clean.shape[1:],
        "classes": list(class_names),
        "levels": LEVELS,
        "norms": NORM_NAMES,
        "blocks": [[part[0], part[-1]] for part in parts],
        "matches": [{name: getattr(row, name) for name in ("defense", "attack", "norm", "budget")} for row in matches],
    }
    return Gallery(index, blocks, len(samples), packer.adversarials, every_attack)


def _within(most: int, best: Best) -> list[int]:
    """The first samples whose images, the clean ones and the closest adversarials, are no more than so many; one at
    least."""
    closest = Counter(sample for _, sample in best.closest)
    counts = accumulate(1 + closest[sample] for sample in best.samples)
    return best.samples[: max(1, sum(count <= most for count in counts))]


class _Packer:
    """Reads and packs block after block; memory holds one at a time."""

    def __init__(
        self,
        connection: Connection,
        matches: Sequence[Any],
        wanted: set[tuple[int, int]] | None,
        bounds: LowerBounds,
        clean: np.ndarray,
    ) -> None:
        self.adversarials = 0
        self._connection, self._images = connection, Images(connection)
        self._places = {row.id: place for place, row in enumerate(matches)}
        self._wanted = wanted
        self._bounds = bounds
        self._clean = clean

    def block(self, samples: Sequence[int]) -> str:
        """These samples, ascending, as text."""
        rows = defaultdict(list)
        for row in self._rows(samples[0], samples[-1]):
            rows[row.sample].append(row)
        images: list[bytes] = []
        described = [self._sample(sample, rows[sample], images) for sample in samples]
        text = json.dumps(described, separators=(",", ":"), allow_nan=False).encode()
        packed = zlib.compress(struct.pack("<I", len(text)) + text + b"".join(images))
        return base64.b64encode(packed).decode()

    def _rows(self, first: int, last: int) -> Iterator[Any]:
        result = schema.result.c
        query = (
            select(*(result[name] for name in _COLUMNS))
            .where(result.match_id.in_(self._places), result.sample.between(first, last))
            .order_by(result.match_id)
        )
        for row in self._connection.execute(query, execution_options={"yield_per": 1000}):
            if self._wanted is None or (row.match_id, row.sample) in self._wanted:
                yield row

    def _sample(self, sample: int, rows: Sequence[Any], images: list[bytes]) -> dict[str, Any]:
        clean = self._clean[sample]
        images.append(np.round(clean * 255).astype(np.uint8).tobytes())
        return {
            "sample": sample,
            "label": rows[0].label,
            "rows": [self._row(row, clean, images) for row in rows],
            "bounds": [
                [defense, norm, of[sample].value, f"{of[sample].bound}, {of[sample].kind}"]
                for (defense, norm), of in self._bounds.items()
                if sample in of and math.isfinite(of[sample].value)
            ],
        }

    def _row(self, row: Any, clean: np.ndarray, images: list[bytes]) -> dict[str, Any]:
        finite = row.distance is not None and math.isfinite(row.distance)
        described = {
            "match": self._places[row.match_id],
            "status": row.status,
            "distance": row.distance if finite else None,
            "from": row.clean_label,
            "to": row.adversarial_label,
            "queries": row.queries + row.gradient_queries,
        }
        if row.fragile:
            described["fragile"] = True
        if row.adversarial not in (None, PRUNED):
            difference = self._images.read(row.match_id, row.sample, row.adversarial) - clean
            scale = float(np.abs(difference).max())
            described["scale"] = round(scale, 6)
            images.append(np.round(difference * (LEVELS / max(scale, 1e-12))).astype(np.int8).tobytes())
            self.adversarials += 1
        return described
