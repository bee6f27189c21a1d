"""The kernels on a GPU beside the same math in torch, eager and compiled, in one run: seconds and their ratios.

Printed first: the card, its float32 matrix-product rate without TF32, and its copy bandwidth. Rates count the plain
decoder's operations (2.29 MFLOP forward, as many back) and nothing for scoring.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from kernels import (
    CLASSES,
    FLOP,
    POINTS,
    STEPS,
    bank_batches,
    inference,
    random_decoder,
    sub_pixel_bank,
    sub_pixel_images,
    sweep_batches,
)
from torch import Tensor

from arena.kernels import cuda, ops, policy
from arena.kernels.decoder import Decoder

RUN = 500  # points that torch decodes at a time: a fixed shape for torch.compile, 16 MB of images a time
IMAGES, TORCH_IMAGES = 10_000, 500  # of full inference; torch's time is per image over fewer


def main() -> None:
    if not torch.cuda.is_available():
        print("no GPU here: nothing to measure")
        return
    if not cuda.built:
        raise SystemExit("arena._native was built without CUDA code: ARENA_CUDA=1 pip install .")
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    decoder = random_decoder().to("cuda")
    decoder.packed  # noqa: B018 (made here, not inside the first row)
    latents = torch.randn(POINTS, 8, device="cuda")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(f"matrix product 8192^3, float32: {matmul_rate() / 1e12:.1f} TFLOP/s; copy: {copy_rate() / 1e12:.2f} TB/s")
    print(f"{'':<40}{'kernels':>11}{'':>9}{'eager':>10}{'compiled':>12}{'kernels are x times as fast':>29}")
    print(f"{'operation':<40}{'s':>11}{'TFLOP/s':>9}{'s':>10}{'s':>12}{'as eager':>12}{'as compiled':>14}")
    sweep_rows(decoder, latents)
    descent_rows(decoder)
    inference_row(decoder, latents)
    policy_rows(decoder, latents)


def row(name: str, flop: float, kernels: Callable[[], object], eager: float, compiled: float, images: int = 1) -> None:
    """eager, compiled: torch's seconds. All seconds are per image where `images` is more than one."""
    seconds = best_of(kernels) / images
    rate = flop / images / seconds / 1e12
    print(
        f"{name:<40}{seconds:>11.6f}{rate:>9.1f}{eager:>10.5f}{compiled:>12.5f}{eager / seconds:>12.1f}"
        f"{compiled / seconds:>14.1f}",
        flush=True,
    )


def sweep_rows(decoder: Decoder, latents: Tensor) -> None:
    flop = FLOP * CLASSES * POINTS

    def low(z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        score, index = scores(sub_pixel_bank(decoder, z), z, x).min(-1)
        return score, index

    low_compiled = torch.compile(low)
    for count in (1, 64, 256):
        x = torch.rand(count, 784, device="cuda")
        eager, compiled = (best_of(partial(torch_sweep, f, latents, x), 3) for f in (low, low_compiled))
        call = partial(ops.latent_sweep, decoder, latents, x)
        row(f"sweep, 80 000 points, batch {count}", flop, call, eager, compiled)
    draw = lambda z: sub_pixel_bank(decoder, z)  # noqa: E731
    draw_compiled = torch.compile(draw)
    eager, compiled = (best_of(partial(torch_bank, f, latents), 3) for f in (draw, draw_compiled))
    row("bank of 80 000 images", flop, lambda: ops.latent_bank(decoder, latents), eager, compiled)


def descent_rows(decoder: Decoder) -> None:
    objective = lambda z, x: energy(decoder, z, x)  # noqa: E731
    objective_compiled = torch.compile(objective)
    for count in (1, 64, 256):
        x, z0 = torch.rand(count, 784, device="cuda"), torch.randn(count, CLASSES, 8, device="cuda")
        flop = FLOP * (2 * STEPS - 1) * count * CLASSES
        sides = (objective, objective_compiled)
        eager, compiled = (best_of(partial(torch_descent, f, z0, x), 3) for f in sides)
        call = partial(ops.latent_descent, decoder, z0, x)
        row(f"descent, 50 steps, batch {count}", flop, call, eager, compiled)


def inference_row(decoder: Decoder, latents: Tensor) -> None:
    """The bank is made once for all images, by each side in its own way, and counted."""
    x = torch.rand(IMAGES, 784, device="cuda")
    few = x[:TORCH_IMAGES]
    flop = FLOP * CLASSES * (POINTS + (2 * STEPS - 1) * IMAGES)
    draw, objective = (lambda z: sub_pixel_bank(decoder, z)), (lambda z, x: energy(decoder, z, x))

    def by_torch(draw: Callable[[Tensor], Tensor], objective: Callable[[Tensor, Tensor], Tensor]) -> None:
        bank = torch_bank(draw, latents)
        for part in few.split(250):
            index = scores(bank, latents, part).argmin(-1)
            torch_descent(objective, latents[index], part)

    eager = best_of(lambda: by_torch(draw, objective), 2) / len(few)
    compiled = best_of(lambda: by_torch(torch.compile(draw), torch.compile(objective)), 2) / len(few)
    call = lambda: inference(decoder, ops.latent_bank(decoder, latents), None, latents, x)  # noqa: E731
    row(f"full inference, {IMAGES} images, per image", flop, call, eager, compiled, IMAGES)


def policy_rows(decoder: Decoder, latents: Tensor) -> None:
    print(f"\n{'points':>7}{'images':>8}{'batches':>9}{'sweep s':>10}{'bank s':>10}   chosen")
    for points, images, batches in ((100, 1, 1), (8000, 1, 1), (8000, 1, 2), (8000, 256, 1), (8000, 256, 3)):
        z, x = latents[:points].contiguous(), torch.rand(images, 784, device="cuda")
        swept = best_of(partial(sweep_batches, decoder, z, x, batches))
        banked = best_of(partial(bank_batches, decoder, z, x, batches))
        choice = policy.choose(CLASSES, points, batches, policy.free_memory("cuda"))
        print(f"{points:>7}{images:>8}{batches:>9}{swept:>10.5f}{banked:>10.5f}   {choice}", flush=True)


def scores(bank: Tensor, latents: Tensor, x: Tensor) -> Tensor:
    """F_c(x, z) [B, C, P], from differences."""
    distances = torch.cdist(x[None], bank, compute_mode="donot_use_mm_for_euclid_dist")
    return (distances.square() + 0.5 * latents.square().sum(-1)).transpose(0, 1)


def torch_sweep(low: Callable[..., tuple[Tensor, Tensor]], latents: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """low: the minimum over a run of points, and which."""
    scores, indices = zip(*(low(z, x) for z in latents.split(RUN)), strict=True)
    score, run = torch.stack(scores, -1).min(-1)
    return score, run * RUN + torch.stack(indices, -1).gather(-1, run[..., None])[..., 0]


def torch_bank(draw: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    return torch.cat([draw(z) for z in latents.split(RUN)], 1)


def energy(decoder: Decoder, z: Tensor, x: Tensor) -> Tensor:
    """F_c(x, z_c) [B, C]."""
    images = [sub_pixel_images(decoder, label, z[:, label]) for label in range(CLASSES)]
    return (torch.stack(images, 1) - x[:, None]).square().sum(-1) + 0.5 * z.square().sum(-1)


@torch.enable_grad()
def torch_descent(objective: Callable[[Tensor, Tensor], Tensor], z0: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    z = z0.clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=0.05)
    for _ in range(STEPS - 1):
        z.grad = torch.autograd.grad(objective(z, x).sum(), z)[0]
        adam.step()
        with torch.no_grad():
            z *= 5 / z.norm(dim=-1, keepdim=True).clamp_min(5)
    with torch.no_grad():
        return objective(z, x), z


def matmul_rate(size: int = 8192) -> float:
    a = torch.randn(size, size, device="cuda")
    return 2 * size**3 / best_of(lambda: a @ a)


def copy_rate(floats: int = 2**29) -> float:
    a, b = torch.zeros(floats, device="cuda"), torch.empty(floats, device="cuda")
    return 8 * floats / best_of(lambda: b.copy_(a))


def best_of(call: Callable[[], object], rounds: int = 7) -> float:
    """Seconds, the best of some rounds after one that warms up (and compiles)."""
    call()
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    with torch.no_grad():
        main()
