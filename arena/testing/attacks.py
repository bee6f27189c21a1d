"""Does an attack keep its contract? Checked against a linear defense, under the referee of the tournament."""

from __future__ import annotations

import copy
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy
import torch
from torch import Tensor

from arena.errors import AccessDenied, BudgetExhausted
from arena.evaluation.referee import play
from arena.interface.contracts import Attack
from arena.interface.registry import declaration_faults
from arena.target.target import Target
from arena.testing.linear import LinearDefense
from arena.testing.prototypes import ExactLinearDefense, LinearPrototypes
from arena.testing.report import Report, describe

SAMPLES = 6  # images in the batch; each is also attacked alone
SAME = 0.01  # distances under equal draws agree to 1 %: another batch size rounds differently
SIMILAR = 2.0  # factor (median) within which they agree otherwise
SMALL_BUDGET = 5  # queries


def check_attack(
    attack: Attack | type[Attack],
    *,
    factor: float | None = None,
    budget: int | None = 20_000,
    timeout: float = 120,
    defense: LinearDefense | None = None,
) -> Report:
    """Play the attack a few times and report on its contract, `report.ok` being the verdict.

    factor: the quality that the author states. The median over the samples of (distance found / minimal distance)
    must not be above it (1 is perfect, 1.25 usual for a good minimal attack); None: the ratio is reported, but any
    attack that finds something passes. budget: queries per sample; timeout: seconds, for each run of the attack (not
    enforced outside the main thread); defense: the opponent, by default a linear one of ten classes that offers what
    the attack asks for.
    """
    report = Report(f"attack {getattr(attack, 'name', attack)!s}")
    defense = defense or _opponent(attack)
    ready = _declared(report, attack, defense)
    if ready is None:
        return report
    x, others = defense.sample_images(2 * SAMPLES)[0].chunk(2)
    bench = _Bench(ready, defense, budget, timeout)
    first = bench.run(x)
    if not _ran(report, first, ready) or not _proposed(report, first, x):
        return report
    if _reproducible(report, first, bench.run(x, scramble=1)):
        _rows_independent(report, first, bench, x, others)
    _ends_on_budget(report, _Bench(ready, defense, SMALL_BUDGET, timeout).run(x))
    _near_optimum(report, first.distance, defense.minimal_distance(ready.norm, x), factor)
    return report


class TimeIsUp(BaseException):
    """A run took too long. No Exception, so that an attack that swallows those still ends."""


@dataclass
class _Trial:
    """One run: what the attack returned (None: nothing), raised, and whether it left x and y alone; and the
    referee's distances [B], float64, infinity where nothing held."""

    returned: Any = None
    failure: BaseException | None = None
    intact: bool = True
    distance: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass
class _Witness:
    """Runs an attack in the referee's stead: notes what it does, and hands on what the referee can rule on."""

    attack: Attack
    timeout: float
    scramble: int
    trial: _Trial = field(default_factory=_Trial)

    def run(self, target: Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        for seed in (random.seed, numpy.random.seed, torch.manual_seed):
            seed(self.scramble)
        given_x, given_y = x.clone(), y.clone()
        try:
            with _time_limit(self.timeout):
                self.trial.returned = self.attack.run(target, given_x, given_y, rng)
        except BudgetExhausted:
            raise
        except (Exception, SystemExit, TimeIsUp) as failure:
            self.trial.failure = failure
        finally:
            self.trial.intact = torch.equal(given_x, x) and torch.equal(given_y, y)
        return self.trial.returned if _misshapen(self.trial.returned, x) is None else x


@dataclass
class _Bench:
    """An attack, its opponent and the limits of each run."""

    attack: Attack
    defense: LinearDefense
    budget: int | None
    timeout: float

    def run(self, x: Tensor, seed: int = 0, scramble: int = 0) -> _Trial:
        """Play once; `scramble` seeds the global generators, which must not matter."""
        witness = _Witness(self.attack, self.timeout, scramble)
        y = self.defense.scores(x).argmax(1)
        watched = copy.copy(self.attack)
        watched.run = witness.run  # type: ignore[method-assign]
        records = play(self.defense, watched, x, y, seed=seed, budget=self.budget)
        witness.trial.distance = torch.tensor([record.distance for record in records], dtype=torch.float64)
        return witness.trial


def _opponent(attack: Attack | type[Attack]) -> LinearDefense:
    """The plainest linear defense that the attack applies to; the plainest of all if it applies to none."""
    applies = getattr(attack, "applies_to", lambda defense: False)
    kinds = (LinearDefense, ExactLinearDefense, LinearPrototypes)
    return next((kind for kind in kinds if applies(kind)), LinearDefense)(classes=10)


def _declared(report: Report, attack: Attack | type[Attack], defense: LinearDefense) -> Attack | None:
    """The attack as an instance, if what it declares makes sense."""
    kind = attack if isinstance(attack, type) else type(attack)
    if not issubclass(kind, Attack):
        report.add("declaration", False, f"{kind.__name__} is not a subclass of arena.Attack")
        return None
    ready = None if isinstance(attack, type) else attack
    if ready is None:
        with report.guard("declaration", "cannot be made without settings: "):
            ready = kind()
    if ready is None:
        return None
    faults = declaration_faults("attack", kind)
    if not faults and not ready.applies_to(type(defense)):
        faults = [f"it does not apply to the {defense.name} defense: pass defense=, one that it applies to"]
    report.add("declaration", not faults, "; ".join(faults) or f"minimises {ready.norm}, needs {ready.access} access")
    return None if faults else ready


def _ran(report: Report, trial: _Trial, attack: Attack) -> bool:
    if trial.failure is None:
        return report.add("access", True, f"access = {attack.access!r} is enough")
    if isinstance(trial.failure, AccessDenied):
        return report.add("access", False, str(trial.failure))
    return report.add("runs", False, describe(trial.failure))


def _proposed(report: Report, trial: _Trial, x: Tensor) -> bool:
    """Shape and dtype, box, inputs."""
    report.add("inputs", trial.intact, "x and y unmodified" if trial.intact else "run modified x or y: clone first")
    images = trial.returned
    if images is None and trial.distance.isfinite().any():
        return report.add("candidates", True, "none: ended by the budget, what the target saw counts")
    fault = _misshapen(images, x)
    if not report.add("candidates", fault is None, fault or f"float32 {list(images.shape)}, as the input"):
        return False
    inside = bool(((images >= 0) & (images <= 1)).all())
    return report.add("box", inside, "all pixels in [0, 1]" if inside else "NaN or pixels outside [0, 1]: clamp them")


def _reproducible(report: Report, first: _Trial, second: _Trial) -> bool:
    same = _equal(first, second)
    remedy = "draw from rng alone (no global generator of torch, numpy or Python), keep no state between runs"
    return report.add(
        "reproducible", same, "equal bits under equal rng" if same else f"two equal runs differ: {remedy}"
    )


def _rows_independent(report: Report, batch: _Trial, bench: _Bench, x: Tensor, others: Tensor) -> None:
    """A deterministic attack finds for each sample alone what it finds in a batch. A random one finds the same when
    the other rows are replaced. Where the draws depend on those, the distances are similar."""
    deterministic = _equal(batch, bench.run(x, seed=1))
    if not deterministic:
        half = len(x) // 2
        mixed = bench.run(torch.cat([x[:half], others[half:]])).distance
        if bool((_ratio(batch.distance[:half], mixed[:half]) - 1).abs().max() <= SAME):
            report.add("rows", True, "random: a row's result does not change with the other rows")
            return
    trials = [bench.run(row, seed=seed) for seed, row in enumerate(x.split(1))]
    alone = torch.cat([trial.distance for trial in trials])
    ratio = _ratio(batch.distance, alone)
    if deterministic:
        passed, message = bool((ratio - 1).abs().max() <= SAME), "deterministic: alone as in a batch"
    else:
        middle = _median(ratio)
        passed = 1 / SIMILAR <= middle <= SIMILAR
        message = f"similar: in a batch {middle:.2f} x the distance alone (median)"
    pairs = ", ".join(f"{a:.4g} / {b:.4g}" for a, b in zip(alone.tolist(), batch.distance.tolist(), strict=True))
    report.add("rows", passed, message if passed else f"distances alone / in a batch differ: {pairs}")


def _ends_on_budget(report: Report, trial: _Trial) -> None:
    message = f"ends when {SMALL_BUDGET} queries are spent"
    if trial.failure is not None:
        message = f"with {SMALL_BUDGET} queries: {describe(trial.failure)}; let BudgetExhausted through"
    report.add("budget", trial.failure is None, message)


def _near_optimum(report: Report, found: Tensor, optimum: Tensor, factor: float | None) -> None:
    times = _median(found / optimum)
    hits = f"adversarial for {int(found.isfinite().sum())} of {len(found)} samples of a linear defense"
    if not found.isfinite().any():
        report.add("optimum", False, hits)
    elif factor is None:
        report.add("optimum", True, f"{hits}, median {times:.3g} x the minimal distance; no factor stated")
    else:
        stated = f"stated: at most {factor:g} x"
        report.add("optimum", times <= factor, f"{hits}, median {times:.3g} x the minimal distance; {stated}")


def _misshapen(images: Any, x: Tensor) -> str | None:
    if not isinstance(images, Tensor):
        return f"run returned {type(images).__name__}, not a tensor"
    if images.shape != x.shape or images.dtype != x.dtype:
        return f"run returned {images.dtype} {list(images.shape)} for {x.dtype} {list(x.shape)}"
    return None


def _ratio(distance: Tensor, other: Tensor) -> Tensor:
    """distance / other [B]; 1 where both are infinite."""
    return torch.where(distance == other, 1.0, distance / other)


def _median(values: Tensor) -> float:
    """The upper median: finite only if more than half of the values are."""
    return float(values.sort().values[len(values) // 2])


def _equal(first: _Trial, second: _Trial) -> bool:
    """Whether two runs ended with the same bits, NaN included, and the same distances."""
    bits = [
        None if trial.returned is None else trial.returned.detach().cpu().numpy().tobytes() for trial in (first, second)
    ]
    return bits[0] == bits[1] and torch.equal(first.distance, second.distance)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeIsUp in the block after so many seconds; not outside the main thread."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TimeIsUp(f"still running after {seconds:g} s; let BudgetExhausted through, and ask less")

    try:
        previous = signal.signal(signal.SIGALRM, ring)
    except ValueError:  # not the main thread
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
