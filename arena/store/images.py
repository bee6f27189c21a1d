"""Adversarials as rows hold them: whole, or as what differs from the clean image, which is kept once for all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import suppress

import numpy as np
from sqlalchemy import Connection, select

from arena.errors import UserError
from arena.store.blobs import PRUNED, is_difference, pack, unpack
from arena.store.engine import insert_new
from arena.store.schema import clean, match, tournament

_KEPT = 2**26  # bytes of clean images in memory: the rows of the next match are about the same samples


class Images:
    """Reads the stored images of one connection's snapshot."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._data: dict[int, str] = {}
        self._clean: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()

    def decode(self, match_id: int, sample: int, blob: bytes) -> np.ndarray:
        """The adversarial of a row, float32 [C, H, W]; raises ValueError for bytes that are none."""
        return unpack(blob, self._clean_image(match_id, sample)) if is_difference(blob) else unpack(blob)

    def read(self, match_id: int, sample: int, blob: bytes) -> np.ndarray:
        """The same; raises UserError, which names the row, for bytes that are none and for a pruned image."""
        if blob == PRUNED:
            raise UserError(f"match {match_id}, sample {sample}: `arena store prune` removed its image")
        try:
            return self.decode(match_id, sample, blob)
        except ValueError as failure:
            raise UserError(
                f"match {match_id}, sample {sample}: the stored adversarial is damaged ({failure}): delete that row of"
                " the table result and run again"
            ) from failure

    def _clean_image(self, match_id: int, sample: int) -> np.ndarray:
        if match_id not in self._data:
            self._data[match_id] = _data_hash(self._connection, match_id)
        key = self._data[match_id], sample
        if key not in self._clean:
            kept = kept_clean(self._connection, key[0], [sample])
            if sample not in kept:
                raise ValueError("the image that it differs from is not in the table clean, or damaged")
            self._clean[key] = kept[sample]
            if len(self._clean) * kept[sample].nbytes > _KEPT:
                self._clean.popitem(last=False)
        return self._clean[key]


def kept_clean(connection: Connection, data_hash: str, samples: Collection[int]) -> dict[int, np.ndarray]:
    """The clean images that are kept of these samples, and sound."""
    query = select(clean.c.sample, clean.c.image).where(clean.c.data_hash == data_hash, clean.c.sample.in_(samples))
    found = {}
    for row in connection.execute(query):
        with suppress(ValueError):
            found[row.sample] = unpack(row.image)
    return found


def keep_clean(connection: Connection, match_id: int, given: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Keep clean images, by sample, where none is kept; gives those that are kept of these samples.

    Whoever gives them is not believed: a difference from any image is exact, only longer.
    """
    if not given:
        return {}
    data_hash = _data_hash(connection, match_id)
    kept = kept_clean(connection, data_hash, given.keys())
    if missing := sorted(given.keys() - kept.keys()):
        rows = [{"data_hash": data_hash, "sample": sample, "image": pack(given[sample])} for sample in missing]
        insert_new(connection, clean, rows)
        kept |= kept_clean(connection, data_hash, missing)  # another program may have come first
    return kept


def _data_hash(connection: Connection, match_id: int) -> str:
    of_match = select(tournament.c.data_hash).join_from(match, tournament).where(match.c.id == match_id)
    return str(connection.scalar(of_match))
