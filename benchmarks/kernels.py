"""Latent sweep and descent beside torch, in one run: seconds, and the rate as a multiple of R.

R is torch's float32 matrix product, 4096^3, measured right before each row, because clocks drift. Rates count the
operations of the plain decoder (2.29 MFLOP forward, as many back) and nothing for scoring, however few the kernels
really do. `of floor` compares with the time in which the FMA units could do what the kernels do (docs/kernels.md).
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812

from arena import _native
from arena.kernels import native, ops, policy, reference
from arena.kernels.decoder import Decoder
from arena.kernels.layers import FOLDED_SIZE, LAYERS

CLASSES, POINTS, STEPS = 10, 8000, 50
FLOP = 2 * 1_143_296  # of one decoder evaluation
# Vector operations of 16 lanes on the FMA ports: docs/kernels.md counts them.
FORWARD_PORTS, BACKWARD_PORTS, SCORE_PORTS = 62_000, 49_500, 101

FMA_LOOP = """
#include <cstdio>
#include <ctime>
#include <thread>
#include <vector>
typedef float V __attribute__((vector_size(64)));
int main(int, char** argv) {
  const int threads = argv[1][0] - '0';
  timespec start, stop;
  auto work = [] {
    V sum[12] = {}, a = V{} + 0.999f, b = V{} + 0.001f;
    asm volatile("" : "+m"(a), "+m"(b));
    for (int i = 0; i < 4000000; ++i) for (auto& s : sum) s = s * a + b;
    V total = {};
    for (auto& s : sum) total += s;
    asm volatile("" : : "m"(total));
  };
  clock_gettime(CLOCK_MONOTONIC, &start);
  std::vector<std::thread> all;
  for (int i = 0; i < threads; ++i) all.emplace_back(work);
  for (auto& t : all) t.join();
  clock_gettime(CLOCK_MONOTONIC, &stop);
  std::printf("%g", threads * 12 * 4e6 / (stop.tv_sec - start.tv_sec + 1e-9 * (stop.tv_nsec - start.tv_nsec)));
}
"""


def main() -> None:
    torch.manual_seed(0)
    decoder = random_decoder()
    decoder.packed  # noqa: B018 (made here, not inside the first row)
    latents = torch.randn(POINTS, 8)
    ports = fma_rate()
    print(f"{torch.get_num_threads()} threads, {_native.instruction_set()}; {ports / 1e9:.2f} G vector FMA/s")
    print(f"{'operation':<44}{'seconds':>10}{'GFLOP/s':>9}{'R':>7}{'rate/R':>8}{'of floor':>9}   reach / aim")
    table = Table(ports)
    torch_rows(table, decoder, latents)
    sweep_rows(table, decoder, latents)
    inference_rows(table, decoder, latents)
    policy_rows(decoder, latents)


class Table:
    """Measures and prints one row at a time."""

    def __init__(self, ports: float) -> None:
        self.ports = ports

    def row(
        self, name: str, call: Callable[[], object], flop: float, port_ops: float = 0, goal: str = "", rounds: int = 3,
        images: int = 1,
    ) -> None:  # fmt: skip
        """goal: `reach / aim`. Seconds are per image where `images` is more than one."""
        rate = matmul_rate()
        seconds = best_of(call, rounds)
        floor = f"{port_ops / self.ports / seconds:>8.0%}" if port_ops else " " * 8
        figures = (
            f"{seconds / images:>10.4f}{flop / seconds / 1e9:>9.1f}{rate / 1e9:>7.0f}{flop / seconds / rate:>8.2f}"
        )
        print(f"{name:<44}{figures} {floor}   {goal}", flush=True)


def torch_rows(table: Table, decoder: Decoder, latents: torch.Tensor) -> None:
    few = latents[:500]
    flop = FLOP * CLASSES * len(few)
    table.row("torch ConvTranspose2d, 500 points", lambda: reference.latent_bank(decoder, few), flop)
    table.row("torch sub-pixel convolutions, 500 points", lambda: sub_pixel_bank(decoder, few), flop)


def sweep_rows(table: Table, decoder: Decoder, latents: torch.Tensor) -> None:
    flop = FLOP * CLASSES * POINTS
    for name in _native.instruction_sets()[:2]:
        _native.set_instruction_set(name)
        goal = "0.95 R / 1.25 R" if name == "avx512" else "0.45 R / 0.6 R"
        for count in (1, 64, 256):
            x = torch.rand(count, 784)
            work = CLASSES * POINTS * (FORWARD_PORTS + SCORE_PORTS * count)
            call = partial(ops.latent_sweep, decoder, latents, x)
            table.row(f"sweep, batch {count}, {name}", call, flop, work if name == "avx512" else 0, goal)
    _native.set_instruction_set(_native.instruction_sets()[0])


def inference_rows(table: Table, decoder: Decoder, latents: torch.Tensor) -> None:
    work = CLASSES * POINTS * FORWARD_PORTS
    table.row("first call: bank of 80 000 images", lambda: ops.latent_bank(decoder, latents), FLOP * CLASSES * POINTS,
              work, "1.2 s / 0.7 s")  # fmt: skip
    bank = ops.latent_bank(decoder, latents)
    table.row("its screen: the same in 8 bits", lambda: ops.screen_bank(bank), 0)
    screen = ops.screen_bank(bank)
    for count in (1, 100):
        x = torch.rand(count, 784)
        table.row(f"bank sweep, batch {count}", partial(ops.bank_sweep, bank, latents, x), 0)
        name = f"the same screened, {share(bank, screen, latents, x):.2%} in 32 bits"
        table.row(name, partial(ops.bank_sweep, bank, latents, x, screen=screen), 0)
    for count, goal in ((64, "1.0 R / 1.15 R"), (1, "")):
        x, z0 = torch.rand(count, 784), torch.randn(count, CLASSES, 8)
        flop, work = descent_work(count)
        table.row(f"descent, 50 steps, batch {count}", partial(ops.latent_descent, decoder, z0, x), flop, work,
                  goal)  # fmt: skip
    for count, goal in ((100, "0.011 s / 0.008 s"), (1, "0.021 s / 0.012 s")):
        x = torch.rand(count, 784)
        flop, work = descent_work(count)
        call = partial(inference, decoder, bank, screen, latents, x)
        table.row(f"full inference from the bank, batch {count}", call, flop, work, f"{goal} per image", images=count)


def share(bank: torch.Tensor, screen: ops.Screen | None, latents: torch.Tensor, x: torch.Tensor) -> float:
    """Of the scores of x, how many the screen leaves to be computed."""
    score, index = native.empty_best(bank, latents, x, 1)
    assert screen is not None
    scored = _native.screened_sweep(bank, *screen, latents, x, score, index, torch.get_num_threads())
    return scored / (len(x) * bank.shape[0] * bank.shape[1])


def inference(
    decoder: Decoder, bank: torch.Tensor, screen: ops.Screen | None, latents: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    _, index = ops.bank_sweep(bank, latents, x, screen=screen)
    return ops.latent_descent(decoder, latents[index], x)[0]


def descent_work(count: int) -> tuple[int, int]:
    pairs = count * CLASSES
    return pairs * FLOP * (2 * STEPS - 1), pairs * (STEPS * FORWARD_PORTS + (STEPS - 1) * BACKWARD_PORTS)


def policy_rows(decoder: Decoder, latents: torch.Tensor) -> None:
    print(f"\n{'points':>7}{'images':>8}{'batches':>9}{'sweep s':>10}{'bank s':>10}   chosen")
    for points, images, batches in ((100, 1, 1), (8000, 1, 1), (8000, 1, 2), (2000, 64, 1), (2000, 64, 3)):
        z, x = latents[:points].contiguous(), torch.rand(images, 784)
        swept = best_of(partial(sweep_batches, decoder, z, x, batches), 3)
        banked = best_of(partial(bank_batches, decoder, z, x, batches), 3)
        choice = policy.choose(CLASSES, points, batches, policy.free_memory())
        print(f"{points:>7}{images:>8}{batches:>9}{swept:>10.3f}{banked:>10.3f}   {choice}", flush=True)


def sweep_batches(decoder: Decoder, latents: torch.Tensor, x: torch.Tensor, batches: int) -> None:
    for _ in range(batches):
        ops.latent_sweep(decoder, latents, x)


def bank_batches(decoder: Decoder, latents: torch.Tensor, x: torch.Tensor, batches: int) -> None:
    bank = ops.latent_bank(decoder, latents)
    for _ in range(batches):
        ops.bank_sweep(bank, latents, x)


def sub_pixel_bank(decoder: Decoder, latents: torch.Tensor) -> torch.Tensor:
    return torch.stack([sub_pixel_images(decoder, label, latents) for label in range(decoder.classes)])


def sub_pixel_images(decoder: Decoder, label: int, z: torch.Tensor) -> torch.Tensor:
    """The usual rewrite: each stride-2 layer as one ordinary convolution that makes the four parities as channels."""
    (w0, b0, _), *middle, (w3, b3, _) = decoder.layers(label)
    hidden = F.elu((z @ w0.flatten(1)).view(-1, 32, 4, 4) + b0[:, None, None])
    for weight, bias, _ in middle:
        kernels = F.pad(weight, (0, 1, 0, 1)).unflatten(-1, (3, 2)).unflatten(-3, (3, 2)).permute(1, 3, 5, 0, 2, 4)
        kernels = kernels.flip(-1, -2).flatten(0, 2).contiguous(memory_format=torch.channels_last)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        planes = F.conv2d(hidden, kernels, bias.repeat_interleave(4), padding=2)
        hidden = F.elu(F.pixel_shuffle(planes, 2)[..., :-1, :-1])
    return F.conv2d(hidden, w3.transpose(0, 1).flip(-1, -2), b3, padding=3).sigmoid().flatten(1)


def random_decoder() -> Decoder:
    """Weights that keep activations of order one: speed may depend on denormal numbers."""
    return Decoder(torch.cat([_random_layers() for _ in range(CLASSES)]).view(CLASSES, FOLDED_SIZE))


def _random_layers() -> torch.Tensor:
    scales = [(2 / (layer.channels_in * (layer.kernel / layer.stride) ** 2)) ** 0.5 for layer in LAYERS]
    sizes = [layer.channels_in * layer.channels_out * layer.kernel**2 + layer.channels_out for layer in LAYERS]
    return torch.cat([torch.randn(size) * scale for size, scale in zip(sizes, scales, strict=True)])


def matmul_rate(size: int = 4096) -> float:
    a = torch.randn(size, size)
    return 2 * size**3 / best_of(lambda: a @ a, 2)


def best_of(call: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def fma_rate() -> float:
    """Vector FMAs of 16 lanes a second that this machine starts, all threads together."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "fma.cpp"), Path(folder, "fma")
        source.write_text(FMA_LOOP)
        options = [
            "-O3",
            "-march=native",
            "-mprefer-vector-width=512",
            "-funroll-loops",
            "-pthread",
            "-ffp-contract=fast",
        ]
        subprocess.run(["c++", "-std=c++17", *options, source, "-o", program], check=True)
        run = [str(program), str(torch.get_num_threads())]
        return max(float(subprocess.run(run, check=True, capture_output=True).stdout) for _ in range(5))


if __name__ == "__main__":
    with torch.no_grad():
        main()
