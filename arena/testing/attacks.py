"""Does an attack keep its contract? Checked against small defenses, under the referee of the tournament."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from arena.errors import AccessDenied
from arena.interface.contracts import Attack
from arena.interface.registry import declaration_faults
from arena.testing.bench import Bench, TimeIsUp, Trial, guarded, misshapen
from arena.testing.known import KnownDefense
from arena.testing.linear import LinearDefense
from arena.testing.prototypes import ExactLinearDefense, LinearPrototypes
from arena.testing.relu import ReluDefense
from arena.testing.report import Report, describe

BUDGET = 20_000  # queries for each sample
TIMEOUT = 120.0  # seconds a run
SAMPLES = 6  # images in the batch; each is also attacked alone
SAME = 0.01  # distances under equal draws agree to 1 %: another batch size rounds differently
SIMILAR = 2.0  # factor (median) within which they agree otherwise
SMALL_BUDGET = 5  # queries
WEAK = 2.0  # times the minimal distance (median), beyond which an attack is called so if it states no factor
MISPLACED = 1.5  # times: so much closer is an image to what was found for other samples if the rows are permuted


def check_attack(
    attack: Attack | type[Attack],
    *,
    factor: float | None = None,
    budget: int | None = BUDGET,
    timeout: float = TIMEOUT,
    defense: KnownDefense | None = None,
) -> Report:
    """Play the attack a few times and report on its contract, `report.ok` being the verdict.

    factor: the quality that the author states. The median over the samples of (distance found / minimal distance)
    must not be above it (1 is perfect, 1.25 usual for a good minimal attack); None: the ratio is reported, one above 2
    is called weak, but any attack that finds something passes. One that is played at one `epsilon` is judged by how
    many of the samples within it it finds. budget: queries per sample; timeout: seconds, for each run of the attack
    (not enforced outside the main thread); defense: the opponent, by default a linear one of ten classes that offers
    what the attack asks for, and for the ratio also a small ReLU network, where the nearest boundary is not the one
    that the gradient shows.
    """
    report = Report(f"attack {getattr(attack, 'name', attack)!s}")
    given, defense = defense, defense or opponent(attack, classes=10)
    ready = _declared(report, attack, defense)
    if ready is None:
        return report
    x, others = defense.sample_images(2 * SAMPLES)[0].chunk(2)
    bench = Bench(ready, defense, budget, timeout)
    first = bench.run(x)
    if not _ran(report, first, ready) or not _proposed(report, first, x):
        return report
    if _reproducible(report, first, bench, x):
        # A defense that is made of prototypes cannot be guarded and stay one.
        guard = defense if isinstance(defense, LinearPrototypes) else guarded(defense, torch.cat([x, others]))
        _rows(report, first, replace(bench, defense=guard), x, others)
    _ends_on_budget(report, replace(bench, budget=SMALL_BUDGET).run(x))
    _near_optimum(report, ready, first.distance, defense, x, factor, least=1)
    if given is None and ready.applies_to(ReluDefense):
        _against_network(report, replace(bench, defense=ReluDefense()), factor)
    return report


def opponent(attack: Attack | type[Attack], **settings: Any) -> LinearDefense:
    """The plainest linear defense that the attack applies to; the plainest of all if it applies to none."""
    applies = getattr(attack, "applies_to", lambda defense: False)
    kinds = (LinearDefense, ExactLinearDefense, LinearPrototypes)
    return next((kind for kind in kinds if applies(kind)), LinearDefense)(**settings)


def _declared(report: Report, attack: Attack | type[Attack], defense: KnownDefense) -> Attack | None:
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


def _ran(report: Report, trial: Trial, attack: Attack) -> bool:
    if trial.failure is None:
        return report.add("access", True, f"access = {attack.access!r} is enough")
    if isinstance(trial.failure, AccessDenied):
        return report.add("access", False, str(trial.failure))
    return report.add("runs", False, _complaint(trial.failure))


def _complaint(failure: BaseException) -> str:
    """What ended a run, as one line with the remedy if it was the time."""
    if not isinstance(failure, TimeIsUp):
        return describe(failure)
    remedy = "let BudgetExhausted through, ask less, or give it more: timeout=, or arena plugins check --timeout"
    return f"time-out: {failure}; {remedy}"


def _proposed(report: Report, trial: Trial, x: Tensor) -> bool:
    """Shape and dtype, box, inputs."""
    report.add("inputs", trial.intact, "x and y unmodified" if trial.intact else "run modified x or y: clone first")
    images = trial.returned
    if images is None and trial.distance.isfinite().any():
        return report.add("candidates", True, "none: ended by the budget, what the target saw counts")
    fault = misshapen(images, x)
    if not report.add("candidates", fault is None, fault or f"float32 {list(images.shape)}, as the input"):
        return False
    inside = bool(((images >= 0) & (images <= 1)).all())
    return report.add("box", inside, "all pixels in [0, 1]" if inside else "NaN or pixels outside [0, 1]: clamp them")


def _reproducible(report: Report, first: Trial, bench: Bench, x: Tensor) -> bool:
    """Equal seeds, equal bits. The referee seeds the global generators too, so an attack may draw from them."""
    message = "equal bits under equal rng"
    again = bench.run(x, scramble=1)
    if again.failure is None and not first.equals(again):
        again = bench.run(x)
        message = "equal bits as the referee seeds the global generators: elsewhere call torch.manual_seed before"
    if again.failure is not None:
        return report.add("runs", False, f"the second time, {_complaint(again.failure)}")
    same = first.equals(again)
    remedy = "two equal runs differ: draw from rng or from generators that torch.manual_seed sets, keep no state"
    return report.add("reproducible", same, message if same else remedy)


def _rows(report: Report, first: Trial, bench: Bench, x: Tensor, others: Tensor) -> None:
    """Each sample's result, queries and place are its own, where some samples fall and others do not."""
    batch = bench.run(x)
    trials = {"a batch": batch}
    if batch.failure is None:
        seeded = bench.run(x, seed=1)
        deterministic = seeded.failure is None and batch.equals(seeded)
        if not deterministic and _unmoved(batch, bench, x, others) and bool((batch.asked > 0).all()):
            report.add("billing", True, "every sample pays")
            report.add("rows", True, "random: a row's result does not change with the other rows")
            return
        trials |= {f"sample {row} alone": bench.run(image, seed=row) for row, image in enumerate(x.split(1))}
    for name, trial in trials.items():
        fault = None if trial.failure is None else _complaint(trial.failure)
        if fault is None and trial.returned is not None:
            fault = misshapen(trial.returned, x[: len(trial.distance)])
        if fault is not None:
            report.add("rows", False, f"where some samples are hard to break, {name}: {fault}")
            return
    alone = list(trials.values())[1:]
    _billed(report, first, batch, alone, bench.attack, deterministic)
    if _in_order(report, batch, alone):
        _alike(report, batch.distance, torch.cat([trial.distance for trial in alone]), deterministic)


def _unmoved(batch: Trial, bench: Bench, x: Tensor, others: Tensor) -> bool:
    """Whether half of the rows end as they did, image and distance, when the others are replaced."""
    half = len(x) // 2
    mixed = bench.run(torch.cat([x[:half], others[half:]]))
    if mixed.failure is not None or batch.returned is None or mixed.returned is None:
        return False
    moved = _length(batch.returned[:half] - mixed.returned[:half])
    near = bool((moved <= SAME * _length(batch.returned[:half] - x[:half])).all())
    return near and _same(batch.distance[:half], mixed.distance[:half])


def _billed(
    report: Report, first: Trial, batch: Trial, alone: list[Trial], attack: Attack, deterministic: bool
) -> None:
    """In a batch a sample pays what it pays alone, or more; and what is found without a query is no answer of the
    defense's: it is the same for another defense."""
    costs = torch.cat([trial.asked for trial in alone])
    cheaper = batch.asked < (costs / 2 - 1 if deterministic else costs.clamp_max(1))
    free = (first.asked == 0) & (batch.asked == 0) & (costs == 0)
    if bool(cheaper.any()):
        pairs = ", ".join(f"{a} / {b}" for a, b in zip(costs.tolist(), batch.asked.tolist(), strict=True))
        message = f"queries alone / in a batch: {pairs}; bill each row to its own sample with index="
    elif attack.access == "white-box" or not bool(free.any()):
        message = "every sample pays" if bool((batch.asked > 0).all()) else "white-box: the defense answers uncounted"
    elif torch.equal(first.returned[free], batch.returned[free]):
        message = "nothing is asked, and the same is returned whatever the defense"
    else:
        message = "found with 0 queries, otherwise for another defense: ask through the target alone"
        cheaper = free
    report.add("billing", not bool(cheaper.any()), message)


def _in_order(report: Report, batch: Trial, alone: list[Trial]) -> bool:
    """Row n belongs to sample n: what is returned for a sample alone lies closest to its own row of the batch."""
    if batch.returned is None or any(trial.returned is None for trial in alone):
        return True
    single = torch.cat([trial.returned for trial in alone])
    gaps = torch.cdist(single.flatten(1), batch.returned.flatten(1))
    if float(gaps.diagonal().sum()) <= MISPLACED * float(gaps.amin(1).sum()) + SAME:
        return True
    rows = ", ".join(map(str, gaps.argmin(1).tolist()))
    return report.add("rows", False, f"returned in another order: samples 0 to {len(alone) - 1} are in rows {rows}")


def _alike(report: Report, batch: Tensor, alone: Tensor, deterministic: bool) -> None:
    """A deterministic attack finds for each sample alone what it finds in a batch. Where random draws depend on the
    other rows, the distances are similar."""
    if deterministic:
        passed, message = _same(batch, alone), "deterministic: alone as in a batch"
    else:
        middle = _median(_ratio(batch, alone))
        passed = 1 / SIMILAR <= middle <= SIMILAR
        message = f"similar: in a batch {middle:.2f} x the distance alone (median)"
    pairs = ", ".join(f"{a:.4g} / {b:.4g}" for a, b in zip(alone.tolist(), batch.tolist(), strict=True))
    report.add("rows", passed, message if passed else f"distances alone / in a batch differ: {pairs}")


def _ends_on_budget(report: Report, trial: Trial) -> None:
    message = f"ends when {SMALL_BUDGET} queries are spent"
    if trial.failure is not None:
        message = f"with {SMALL_BUDGET} queries: {_complaint(trial.failure)}; let BudgetExhausted through"
    report.add("budget", trial.failure is None, message)


def _against_network(report: Report, bench: Bench, factor: float | None) -> None:
    """The ratio to the optimum once more. An attack need not take images of that shape."""
    x, _ = bench.defense.sample_images(SAMPLES)
    trial = bench.run(x)
    if trial.failure is not None:
        shape = " x ".join(map(str, x.shape[1:]))
        why = f"not played against the {bench.defense.name} defense, images of {shape}: {_complaint(trial.failure)}"
        report.add("optimum", True, why)
    else:
        _near_optimum(report, bench.attack, trial.distance, bench.defense, x, factor, least=0)


def _near_optimum(
    report: Report, attack: Attack, found: Tensor, defense: KnownDefense, x: Tensor, factor: float | None, least: int
) -> None:
    """least: how many of the samples an attack has to find that states no factor."""
    optimum = defense.minimal_distance(attack.norm, x).cpu()
    if attack.fixed_epsilon is not None:
        _inside_ball(report, attack.fixed_epsilon, found, optimum, factor or WEAK, defense.name)
        return
    times, hits = _median(found / optimum), int(found.isfinite().sum())
    message = (
        f"adversarial for {hits} of {len(found)} samples of the {defense.name} defense, "
        f"median {times:.3g} x the minimal distance"
    )
    if factor is not None:
        report.add("optimum", times <= factor, f"{message}; stated: at most {factor:g} x")
    else:
        weak = "weak: " if times > WEAK or hits < len(found) else ""
        report.add("optimum", hits >= least, f"{weak}{message}; no factor stated")


def _inside_ball(report: Report, epsilon: float, found: Tensor, optimum: Tensor, factor: float, name: str) -> None:
    """An attack at one epsilon, which claims nothing about distances: most of those well within it are found."""
    within = optimum * factor <= epsilon
    hits, samples = int(((found <= (1 + SAME) * epsilon) & within).sum()), int(within.sum())
    message = (
        f"adversarial for {hits} of the {samples} samples of the {name} defense that lie within epsilon / {factor:g}"
    )
    report.add("optimum", 2 * hits >= samples, message if samples else f"{message}: try another epsilon")


def _same(distance: Tensor, other: Tensor) -> bool:
    return bool((_ratio(distance, other) - 1).abs().max() <= SAME)


def _ratio(distance: Tensor, other: Tensor) -> Tensor:
    """distance / other [B]; 1 where both are infinite."""
    return torch.where(distance == other, 1.0, distance / other)


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def _median(values: Tensor) -> float:
    """The upper median: finite only if more than half of the values are."""
    return float(values.sort().values[len(values) // 2])
