"""Attacks that break the contract, each in its own way. Nothing here may cost more than its own unit."""

import ctypes
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import numpy
import torch
from torch import Tensor

import arena
from arena.geometry.norms import Norm
from arena.interface.contracts import AccessLevel

Run = Callable[[arena.Target, Tensor, Tensor, torch.Generator], Tensor | None]

HOSTILE: list[type[arena.Attack]] = []


def hostile(norm: Norm = "l2", access: AccessLevel = "decision") -> Callable[[Run], type[arena.Attack]]:
    """Make an attack of a function `run(target, x, y, rng)`: returns_nan becomes the attack returns-nan."""

    def decorate(run: Run) -> type[arena.Attack]:
        name = run.__name__.replace("_", "-")
        body = {
            "name": name,
            "norm": norm,
            "access": access,
            "run": lambda self, *args: run(*args),
            "__doc__": run.__doc__,
        }
        HOSTILE.append(type(run.__name__, (arena.Attack,), body | {"__module__": __name__}))
        return HOSTILE[-1]

    return decorate


@hostile()
def returns_nan(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    return x / 0 * 0


@hostile()
def out_of_box(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    return 2 - 4 * x


@hostile()
def wrong_shape(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    return (1 - x)[:, :, 1:]


@hostile()
def wrong_dtype(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    return (1 - x).to(torch.int64)


@hostile()
def no_tensor(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
    return None


@hostile()
def clean_image(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    return x


@hostile()
def claims_success(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    return (x - 1e-6).clamp(0, 1)


@hostile()
def mutates_images(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    return x.mul_(-1).add_(1)


@hostile()
def mutates_labels(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    y += 1
    return x


@hostile()
def raises(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> NoReturn:
    raise RuntimeError("this attack\nalways fails")


@hostile()
def raises_exit(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
    sys.exit(0)


@hostile()
def raises_interrupt(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> NoReturn:
    raise KeyboardInterrupt


@hostile()
def hangs(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
    time.sleep(10**6)


@hostile()
def hangs_deaf(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
    """Asleep, and deaf to polite requests to stop."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(10**6)


@hostile()
def hangs_in_c(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
    """Busy inside one C call that holds the interpreter's lock."""
    re.match("(a+)+$", 64 * "a" + "b")


@hostile()
def exits(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
    os._exit(3)


@hostile()
def segfaults(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
    ctypes.string_at(0)


@hostile()
def exhausts_budget(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
    while True:
        target.labels(x)


@hostile()
def ignores_budget(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
    while True:
        try:
            target.labels(x)
        except Exception:
            time.sleep(0.01)


@hostile()
def asks_gradient(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    return target.gradient(x, lambda scores, labels: scores.sum(1))


@hostile()
def hogs_memory(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
    hoard = []
    while True:
        hoard.append(torch.empty(2**26))  # 256 MiB; touching them would race with the time-out on a busy machine


@hostile()
def prints_garbage(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    print('{"not": "json', 10 * "garbage ")
    os.write(1, b"\x00\xff garbage\n")
    return 1 - x


@hostile()
def seeds_global(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)
    return 1 - x


@hostile()
def draws_globally(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    return torch.rand(x.shape)


@hostile()
def remembers(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator, seen: list[Tensor] = []) -> Tensor:  # noqa: B006
    """Answers with images of earlier units."""
    seen.append(1 - x)
    return seen[-2] if len(seen) > 1 and seen[-2].shape == x.shape else x


@hostile()
def couples_rows(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """The step depends on the whole batch, and so does its end."""
    for step in range(1, 100):
        candidates = (x + step / 100 * (x.mean(0) - x)).clamp(0, 1)
        if bool((target.labels(candidates) != y).all()):
            break
    return candidates


@hostile()
def patches_torch(target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """Every later decision in this process is class 0."""
    honest = torch.Tensor.argmax
    torch.Tensor.argmax = lambda self, *arguments: honest(0 * self, *arguments)  # type: ignore[method-assign]
    return (x + 0.001).clamp(0, 1)


@arena.hookimpl
def register_attacks(register: Callable[[type[arena.Attack]], None]) -> None:
    for cls in HOSTILE:
        register(cls)
