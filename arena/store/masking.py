"""Signs that a defense masks its gradients, so that it looks more robust than it is, from what is stored alone.

The signs are those of Athalye, Carlini and Wagner 2018 (arXiv:1802.00420, section 3.1) and of the checklist of Carlini
et al. 2019 (arXiv:1902.06705): zero gradients; attacks without gradients closer than those with them; one step closer
than many; estimated gradients closer than the defense's own; attacks without a bound on their size that find nothing.
Any of them may also mean that the gradient attacks had too few steps: either way, the distances are to be doubted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sqlalchemy import Connection, exists, select

from arena.store import intervals, schema
from arena.store.closest import Closest, as_failed, merge, table
from arena.store.views import current_match

CLOSER = 0.99  # times the other distance, or less
SHARE = 0.1  # of the samples, which the interval of the share must be beyond
_ESTIMATED = "-ge"  # ends the name of an attack over estimated gradients; without it, it has the defense's own

Sign = Literal["zero gradients", "no gradients", "one step", "estimated gradients", "nothing found"]

_TEXTS: dict[Sign, str] = {
    "zero gradients": "gradients were zero or not finite",
    "no gradients": "attacks without gradients are closer than those with them",
    "one step": "attacks of one step are closer than those of many",
    "estimated gradients": "attacks are closer over estimated gradients than over the defense's own",
    "nothing found": "gradient attacks of any size find nothing",
}


@dataclass(frozen=True, slots=True)
class Doubt:
    """A sign on `count` of the `samples` that it can be read from.

    `closer`: the attack that was closest most often there, `than`: the one most often closest of those it is compared
    with; None where nothing is compared.
    """

    sign: Sign
    count: int
    samples: int
    closer: str | None = None
    than: str | None = None

    def __str__(self) -> str:
        pair = f" (most often {self.closer}, than {self.than})" if self.closer else ""
        return f"{_TEXTS[self.sign]} on {self.count} of {self.samples} samples{pair}"


class Accesses:
    """What is stored of the attacks: their access, and which took no more than one gradient of any sample."""

    def __init__(self, connection: Connection) -> None:
        result, attack = schema.result.c, schema.attack.c
        rows = connection.execute(select(attack.name, attack.access))
        self._of: dict[str, str] = {row.name: row.access for row in rows}
        # The first row of most attacks tells: the largest number would read every row between the adversarials.
        more = exists().where(result.match_id == current_match.c.id, result.gradient_queries > 1)
        self._many = set(connection.scalars(select(current_match.c.attack).where(more).distinct()))

    def without_gradients(self, attack: str) -> bool:
        return self._of[attack] in ("decision", "score")

    def with_gradients(self, attack: str) -> bool:
        return self._of[attack] == "gradient"

    def one_step(self, attack: str) -> bool:
        return self.with_gradients(attack) and attack not in self._many


def warnings(found: Mapping[str, Closest], accesses: Accesses, masked: int, samples: int) -> tuple[Doubt, ...]:
    """The signs in one norm; found: by attack; masked: of how many of the samples some gradient said nothing."""
    own = {name: of for name, of in found.items() if accesses.with_gradients(name)}
    without = {name: of for name, of in found.items() if accesses.without_gradients(name)}
    single = {name: of for name, of in own.items() if accesses.one_step(name)}
    many = {name: of for name, of in own.items() if name not in single}
    estimated = {name: of for name, of in without.items() if name.endswith(_ESTIMATED) and _twins(name, own)}
    twins = {twin: own[twin] for name in estimated for twin in _twins(name, own)}
    signs = [
        Doubt("zero gradients", masked, samples) if masked else None,
        _compare("no gradients", without, own),
        _compare("one step", single, many),
        _compare("estimated gradients", estimated, twins),
        _nothing(many),
    ]
    return tuple(sign for sign in signs if sign is not None)


def _twins(name: str, own: Collection[str]) -> set[str]:
    stem = name.removesuffix(_ESTIMATED)
    return {stem, f"{stem}-exact"} & set(own)


def _compare(sign: Sign, these: Mapping[str, Closest], those: Mapping[str, Closest]) -> Doubt | None:
    """Whether the best of these is closer than the best of those, sample by sample, on enough of them."""
    if not these or not those:
        return None
    best, other = merge(list(these.values())), merge(list(those.values()))
    shared = np.intersect1d(best.samples, other.samples)
    mine, yours = as_failed(best.of(shared)), as_failed(other.of(shared))
    attacked = yours > 0
    where = attacked & (mine < CLOSER * yours)
    if not _is_frequent(int(where.sum()), int(attacked.sum())):
        return None
    pair = (_most_often(of, shared[where]) for of in (these, those))
    return Doubt(sign, int(where.sum()), int(attacked.sum()), *pair)


def _nothing(own: Mapping[str, Closest]) -> Doubt | None:
    if not own:
        return None
    best = as_failed(merge(list(own.values())).distances)
    count, attacked = int(np.isinf(best).sum()), int((best > 0).sum())
    return Doubt("nothing found", count, attacked) if _is_frequent(count, attacked) else None


def _is_frequent(count: int, samples: int) -> bool:
    return samples >= intervals.LEAST and intervals.of_share(count, samples).low > SHARE


def _most_often(found: Mapping[str, Closest], samples: np.ndarray) -> str:
    """The attack that was the closest on most of the samples; of equals the first by name."""
    names = sorted(found)
    distances = table([found[name] for name in names], samples)
    return names[int(np.sum(distances == distances.min(axis=0), axis=1).argmax())]
