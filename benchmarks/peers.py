"""Attacks of Foolbox, torchattacks, adv-lib and AutoAttack called directly, beside the same attacks played by arena.

    python benchmarks/peers.py [--samples 16] [--rounds 2] [--network cnn]... [--only "adv-lib DDN"]

One thread, the same correctly classified images, the peer and arena in turns, the least processor time of the rounds.
Arena plays its own implementation at the same number of steps, or the peer's code over the target ("peer's code"): what
counting, measuring and the referee cost. Distances are medians in the attack's norm (the lower of the middle two); at
an epsilon, the share of images that stand. Aim: time at most 1.05, distance at most 1.01; what misses is bold.

Foolbox comes with arena. The others are fetched from the package index as those of the tests are
(`tests/libraries.py`), into a cached folder; of one that cannot be had, the table says so.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import foolbox
import torch
from torch import Tensor, nn

import arena
from arena.geometry.distances import distance
from arena.geometry.norms import Norm
from arena.interface.contracts import HasNetwork
from arena.models.adopted import adopt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import libraries

AIM_TIME, AIM_DISTANCE = 1.05, 1.01
LONG = 10.0  # seconds: what takes longer is timed once
STEPS = 100
FEW = 2  # images for AutoAttack, which asks thousands of queries about one
EPSILON = {"cnn": 0.05, "madry": 0.3, "colour": 0.02}  # in Linf: some images stand, some fall
LEARNED = 3000  # images that the small colour network learns, twice

Strike = Callable[[Any, Tensor, Tensor], Tensor]  # model, images and labels -> the library's answer


@dataclass(frozen=True)
class Peer:
    """An attack of a library, and what arena plays beside it (None: the same code); with an epsilon both are asked
    whether the images stand there."""

    library: str
    title: str
    norm: Norm
    strike: Strike
    own: arena.Attack | None = None
    epsilon: float | None = None
    samples: int | None = None  # the first of the images only


@dataclass(frozen=True)
class Network:
    """A network as libraries take it and as arena does, with images that it classifies correctly."""

    name: str
    module: nn.Module
    defense: arena.Defense
    x: Tensor
    y: Tensor


class PeersCode(arena.Attack):
    """The library's code over the target, the rows of its batch as the samples."""

    name, access = "peers-code", "gradient"

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self.peer = peer
        self.norm = peer.norm  # type: ignore[misc]  # of the class, in a plugin

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        model = target.foolbox() if self.peer.library == "foolbox" else target.module()
        return self.peer.strike(model, x.clone(), y.clone()).detach().clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Attack libraries called directly, beside arena.")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--network", action="append", choices=EPSILON)
    parser.add_argument("--only", default="", help="of attacks whose line begins with this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| attack | norm | network | arena plays | peer s | arena s | ratio | peer | arena | ratio |\n"
        + "| --- " * 10
        + "|"
    )
    for name in options.network or EPSILON:
        network = load(name, options.samples)
        for library, peers in LIBRARIES.items():
            try:
                found = list(peers(EPSILON[name]))
            except (ImportError, libraries.Absent) as failure:
                print(f"| {library} | | {name} | absent: {failure} |" + " |" * 6)
                continue
            for peer in found:
                if f"{library} {peer.title}".startswith(options.only):
                    print(compare(peer, network, options.rounds), flush=True)


def compare(peer: Peer, network: Network, rounds: int) -> str:
    """A row of the table: processor seconds and distances of both, and their ratios."""
    model = foolbox.PyTorchModel(network.module, (0, 1)) if peer.library == "foolbox" else network.module
    attack = peer.own or PeersCode(peer)
    network = replace(network, x=network.x[: peer.samples], y=network.y[: peer.samples])
    seconds = [math.inf, math.inf]
    for round_ in range(rounds):
        for which in (0, 1) if round_ % 2 else (1, 0):
            torch.manual_seed(0)
            started = time.process_time()
            if which:
                records = arena.play(network.defense, attack, network.x, network.y)
            else:
                images = peer.strike(model, network.x.clone(), network.y.clone())
            seconds[which] = min(seconds[which], time.process_time() - started)
        if max(seconds) > LONG:
            break
    found = torch.tensor([record.distance for record in records], dtype=torch.float64)
    theirs, ours = (summary(far, peer.epsilon) for far in (measured(peer.norm, images, network), found))
    title, label = f"{peer.library} {peer.title}", attack.name if peer.own else "peer's code"
    times = f"{seconds[0]:.2f} | {seconds[1]:.2f} | {mark(seconds[1] / seconds[0], AIM_TIME)}"
    ratio = mark(quotient(ours, theirs), AIM_DISTANCE)
    return f"| {title} | {peer.norm} | {network.name} | {label} | {times} | {theirs:.4g} | {ours:.4g} | {ratio} |"


def measured(norm: Norm, images: Tensor, network: Network) -> Tensor:
    """The distances [B] of a library's answers; infinity where one does not fool or is no image."""
    images = images.detach().float()
    with torch.no_grad():
        fooled = network.module(images.clamp(0, 1)).argmax(1) != network.y
    far = distance(norm, images.clamp(0, 1).double(), network.x.double())
    return far.where(fooled, torch.inf)


def summary(distances: Tensor, epsilon: float | None) -> float:
    """Their median, the lower of the middle two, or the share beyond epsilon."""
    if epsilon is None:
        return float(distances.median())
    return float((distances > epsilon * (1 + 1e-6)).double().mean())


def quotient(ours: float, theirs: float) -> float:
    """Of distances that may be infinite, or of shares that may be zero."""
    if ours == theirs:
        return 1.0
    return ours / theirs if theirs else math.inf


def mark(ratio: float, aim: float) -> str:
    return f"**{ratio:.2f}**" if ratio > aim + 0.005 else f"{ratio:.2f}"


def load(name: str, samples: int) -> Network:
    x, y = arena.load_data("mnist", "test")
    if name == "colour":
        module = small_colour_network()
        x, defense = coloured(x[: 2 * samples]), adopt("colour", module)
    else:
        defense = arena.load_defense(name)
        assert isinstance(defense, HasNetwork)
        module = defense.network
    x, y = x[: 2 * samples], y[: 2 * samples]
    with torch.no_grad():
        right = (module(x).argmax(1) == y).nonzero().flatten()[:samples]
    return Network(name, module, defense, x[right], y[right])


def small_colour_network() -> nn.Module:
    """A convolutional network of 57 000 weights for images [3, 32, 32], trained for some seconds."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10))
    x, y = arena.load_data("mnist", "train")
    x, y = coloured(x[:LEARNED]), y[:LEARNED]
    adam = torch.optim.Adam(module.parameters(), lr=2e-3)
    for batch in torch.stack([torch.randperm(LEARNED) for _ in range(2)]).flatten().split(50):
        adam.zero_grad()
        nn.functional.cross_entropy(module(x[batch]), y[batch]).backward()
        adam.step()
    return module.eval().requires_grad_(False)


def coloured(digits: Tensor) -> Tensor:
    """The digits [B, 1, 28, 28] as images [B, 3, 32, 32], in ink and on paper of random colours."""
    rng = torch.Generator().manual_seed(0)
    ink, paper = (low + torch.rand(len(digits), 3, 1, 1, generator=rng) / 2 for low in (0.5, 0.0))
    return paper + (ink - paper) * nn.functional.pad(digits, (2, 2, 2, 2))


def foolbox_peers(epsilon: float) -> Iterator[Peer]:
    from foolbox import attacks

    def peer(title: str, norm: Norm, attack: Any, own: arena.Attack | None, at: float | None = None) -> Peer:
        ball = {} if at is None else {"epsilon": at}
        return Peer("foolbox", title, norm, lambda model, x, y: attack.run(model, x, y, **ball), own, at)

    ddn = attacks.DDNAttack(steps=STEPS)
    yield peer("DDN", "l2", ddn, None)
    yield peer("DDN", "l2", ddn, arena.load_attack("ddn", steps=STEPS))
    yield peer("FMN", "l2", attacks.L2FMNAttack(steps=STEPS), arena.load_attack("fmn-l2", steps=STEPS))
    yield peer("DeepFool", "l2", attacks.L2DeepFoolAttack(overshoot=0.02), arena.load_attack("deepfool-l2"))
    yield peer("DeepFool", "linf", attacks.LinfDeepFoolAttack(overshoot=0.02), arena.load_attack("deepfool-linf"))
    search: dict[str, Any] = {"binary_search_steps": 3, "steps": STEPS, "abort_early": False}
    weigh = attacks.L2CarliniWagnerAttack(stepsize=0.1, initial_const=2, **search)
    yield peer("Carlini-Wagner", "l2", weigh, arena.load_attack("carlini-wagner", searches=3, steps=STEPS))
    elastic = attacks.EADAttack(initial_const=1, regularization=0.05, **search)
    yield peer("EAD", "l1", elastic, arena.load_attack("ead", searches=3, steps=STEPS))
    basic = attacks.LinfBasicIterativeAttack(rel_stepsize=0.1, steps=STEPS)
    yield peer(f"BIM at {epsilon}", "linf", basic, None, epsilon)
    own = arena.load_attack("bim-linf", steps=STEPS, step_size=0.1, **only(epsilon))
    yield peer(f"BIM at {epsilon}", "linf", basic, own, epsilon)


def torchattacks_peers(epsilon: float) -> Iterator[Peer]:
    sys.path.insert(0, str(libraries.site("torchattacks")))
    import torchattacks as library

    def peer(title: str, norm: Norm, make: Callable[[Any], Any], *more: Any) -> Peer:
        return Peer("torchattacks", title, norm, lambda model, x, y: make(model)(x, y), *more)

    yield peer("Carlini-Wagner", "l2", partial(library.CW, c=10, steps=STEPS), None)
    pgd = partial(library.PGD, eps=epsilon, alpha=epsilon / 10, steps=STEPS)
    yield peer(f"PGD at {epsilon}", "linf", pgd, None, epsilon)
    apgd = partial(library.APGD, norm="Linf", eps=epsilon, steps=STEPS)
    yield peer(
        f"APGD at {epsilon}", "linf", apgd, arena.load_attack("apgd-ce-linf", steps=STEPS, **only(epsilon)), epsilon
    )
    square = partial(library.Square, norm="Linf", eps=epsilon, n_queries=1000, p_init=0.8)
    own = arena.load_attack("square-linf", steps=1000, epsilon=epsilon)
    yield peer(f"Square, 1000 queries, at {epsilon}", "linf", square, own, epsilon)


def adv_lib_peers(epsilon: float) -> Iterator[Peer]:
    sys.path.insert(0, str(libraries.site("adv_lib")))
    from adv_lib import attacks

    def peer(title: str, norm: Norm, strike: Strike, own: arena.Attack | None) -> Peer:
        return Peer("adv-lib", title, norm, strike, own)

    yield peer("DDN", "l2", partial(attacks.ddn, steps=STEPS, levels=None), None)
    yield peer(
        "FMN", "linf", partial(attacks.fmn, norm=math.inf, steps=STEPS), arena.load_attack("fmn-linf", steps=STEPS)
    )
    yield peer("FMN", "l0", partial(attacks.fmn, norm=0, steps=STEPS), arena.load_attack("fmn-l0", steps=STEPS))
    yield peer(
        "sigma-zero", "l0", partial(attacks.sigma_zero, num_steps=STEPS), arena.load_attack("sigma-zero", steps=STEPS)
    )
    alma = partial(attacks.alma, num_steps=STEPS, distance="l2", init_lr_distance=1)
    yield peer("ALMA", "l2", alma, arena.load_attack("alma", steps=STEPS))
    yield peer("PDGD", "l2", partial(attacks.pdgd, num_steps=STEPS), arena.load_attack("pdgd", steps=STEPS))
    yield peer("PDPGD", "l1", partial(attacks.pdpgd, norm=1, num_steps=STEPS), arena.load_attack("pdpgd", steps=STEPS))
    yield peer("FAB, 10 steps", "l2", partial(attacks.fab, norm=2, n_iter=10), arena.load_attack("fab-l2", steps=10))
    yield peer(
        "FAB, 10 steps", "linf", partial(attacks.fab, norm=math.inf, n_iter=10), arena.load_attack("fab-linf", steps=10)
    )


def autoattack_peers(epsilon: float) -> Iterator[Peer]:
    sys.path.insert(0, str(libraries.site("autoattack")))
    from pyautoattack import AutoAttack

    def strike(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = AutoAttack(model, eps=epsilon, norm="Linf", seed=0, device=x.device)
        found: Tensor = attack.run_standard_evaluation(x, y)[0]
        return found

    own = arena.load_attack("standard-linf", epsilon=epsilon)
    yield Peer("AutoAttack", f"standard at {epsilon}", "linf", strike, own, epsilon, FEW)


def only(epsilon: float) -> dict[str, Any]:
    """Settings of an attack that searches epsilon, with which it tries no other."""
    return {"max_epsilon": epsilon, "epsilons": 1, "bisections": 0}


LIBRARIES: dict[str, Callable[[float], Iterator[Peer]]] = {
    "foolbox": foolbox_peers,
    "torchattacks": torchattacks_peers,
    "adv-lib": adv_lib_peers,
    "AutoAttack": autoattack_peers,
}

if __name__ == "__main__":
    main()
