"""Adversarials are stored as what differs from the clean image where that is smaller, to the bit, and read back so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sqlalchemy import delete, select
from stores import MNIST, attack, dataset, defense, record
from typed import present

from arena.errors import UserError
from arena.interface.results import Identity
from arena.store import evidence, schema
from arena.store.blobs import is_difference, pack, unpack
from arena.store.store import MatchKey, Store, Unit

CLEAN = np.random.default_rng(0).random((3, 64, 64), dtype=np.float32)


def few_pixels(seed: int) -> np.ndarray:
    """The clean image with five pixels changed."""
    rng, image = np.random.default_rng(seed), CLEAN.copy()
    image[:, rng.integers(0, 64, 5), rng.integers(0, 64, 5)] = rng.random((3, 5), dtype=np.float32)
    return image


@given(arrays(np.uint32, (3, 4, 5)), st.booleans())
def test_a_difference_keeps_every_bit(bits: np.ndarray, near: bool) -> None:
    """Not-a-numbers and denormals included; near: only one value differs."""
    image, clean = bits.view(np.float32), CLEAN[:, :4, :5].copy()
    if near:
        image = np.where(np.arange(60).reshape(3, 4, 5) == 7, image, clean)
    blob = pack(image, clean)
    assert unpack(blob, clean).tobytes() == image.tobytes()
    assert is_difference(blob) or not near


def test_what_differs_is_all_that_is_stored() -> None:
    assert len(pack(few_pixels(1), CLEAN)) < len(pack(few_pixels(1))) / 50
    other = np.random.default_rng(1).random((3, 64, 64), dtype=np.float32)
    assert len(pack(other, CLEAN)) <= len(pack(other))
    assert not is_difference(pack(CLEAN, CLEAN[:, :10]))  # of another shape


def commit(store: Store, of_attack: Identity, images: dict[int, np.ndarray], clean: dict[int, np.ndarray]) -> None:
    key = MatchKey(MNIST, defense(), of_attack, None, dataset())
    records = [record(sample, adversarial=image) for sample, image in images.items()]
    store.commit([Unit(key, records, clean=clean)], current=True)


def blobs(store: Store) -> list[bytes]:
    with store.reading() as connection:
        return list(connection.scalars(select(schema.result.c.adversarial)))


def test_clean_images_are_kept_once_and_rows_are_read_from_the_database_alone(store: Store) -> None:
    near, far = attack("boundary"), attack("ddn")
    commit(store, near, {0: few_pixels(1), 1: few_pixels(2)}, {0: CLEAN, 1: CLEAN})
    commit(store, far, {0: few_pixels(3)}, {0: CLEAN})
    assert all(is_difference(blob) for blob in blobs(store))
    with store.reading() as connection:
        assert len(connection.execute(select(schema.clean)).all()) == 2
        (first, _) = evidence.rows(connection, 1, [0, 1])
    assert np.array_equal(present(present(first.record).adversarial), few_pixels(1))
    rows = {(row["attack"], row["sample"]): row["adversarial"] for row in store.results(adversarials=True)}
    for place, seed in ((("boundary", 0), 1), (("boundary", 1), 2), (("ddn", 0), 3)):
        assert np.array_equal(rows[place], few_pixels(seed))


def test_a_clean_image_that_is_none_costs_space_only(store: Store) -> None:
    commit(store, attack("boundary"), {0: few_pixels(1)}, {0: np.zeros_like(CLEAN)})
    commit(store, attack("ddn"), {0: few_pixels(2)}, {0: CLEAN})
    commit(store, attack("fgm"), {0: few_pixels(3)[:, :9]}, {0: CLEAN})
    found = {row["attack"]: row["adversarial"] for row in store.results(adversarials=True)}
    assert np.array_equal(found["boundary"], few_pixels(1)) and np.array_equal(found["ddn"], few_pixels(2))
    assert np.array_equal(found["fgm"], few_pixels(3)[:, :9])


def test_a_difference_without_its_clean_image_is_damage_that_is_named(store: Store) -> None:
    commit(store, attack(), {0: few_pixels(1)}, {0: CLEAN})
    with store.writing() as connection:
        connection.execute(delete(schema.clean))
    with pytest.raises(UserError, match="sample 0: the stored adversarial is damaged .*table clean"):
        store.results(adversarials=True)
    with store.reading() as connection:
        (row,) = evidence.rows(connection, 1, [0])
    assert row.record is None and "its adversarial is damaged" in row.damage[0]
