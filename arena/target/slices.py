"""Long lists of images are asked about in slices, so that memory does not grow with the size of the images squared."""

from __future__ import annotations

from collections.abc import Iterator

CEILING = 256 * 2**20  # bytes of images in a slice; a few times that is held while a defense answers
ROWS = 128  # slices hold a multiple of so many rows: a defense's batches are then those of the whole list


def slices(rows: int, size: int) -> Iterator[slice]:
    """The slices of `rows` rows of `size` bytes each, one after the other: 256 MiB at most, but at least one row."""
    step = max(1, CEILING // size)
    step -= step % ROWS if step > ROWS else 0
    return (slice(start, start + step) for start in range(0, rows, step))
