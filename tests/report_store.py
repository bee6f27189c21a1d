"""A small tournament with everything that a report must show: hostile names, failures, what is unfinished."""

from typing import Any

import numpy as np
from stores import attack, defense, open_match, record
from typed import Batch

from arena.data import data_hash
from arena.store.store import Store

HOSTILE = "</script><script>document.title='owned'</script>"
PLAYED: dict[str, Any] = {"data_hash": data_hash("mnist", "test")}
TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: <b>no room</b>'


def perturbed(clean: np.ndarray, size: float, pixels: int = 5) -> np.ndarray:
    """The image with its first dark pixels lightened by `size`."""
    image = clean.copy()
    dark = np.flatnonzero(image.ravel() == 0)[:pixels]
    image.ravel()[dark] = size
    return image


def play(store: Store, mnist: Batch) -> list[np.ndarray]:
    """L2 distances of 1, 2 and 3 against cnn, and an attack that fails against another defense.

    Gives the adversarials of the first attack.
    """
    clean = mnist[0].numpy()
    images = [perturbed(clean[sample], 0.1 * (sample + 1)) for sample in range(3)]
    found = [
        record(sample, distance=float(sample + 1), adversarial=images[sample], fragile=sample == 1)
        for sample in range(3)
    ]
    cnn = open_match(store, **PLAYED)
    store.append(cnn, [*found, record(3, "misclassified"), record(4, "rejected", reason="it leaves the box")])
    store.finish(cnn)
    weaker = open_match(store, attack=attack("fgm"), **PLAYED)
    store.append(weaker, [record(0, distance=5.0, adversarial=perturbed(clean[0], 1.0))])
    open_match(store, attack=attack("unplayed"), **PLAYED)
    other = open_match(store, defense=defense(HOSTILE), attack=attack(HOSTILE, "linf"), **PLAYED)
    store.append(other, [record(0, "error", reason="ValueError"), record(1, "not_found")], TRACEBACK)
    return images
