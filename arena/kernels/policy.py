"""Whether to keep the decoded points or to decode them again for every batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch

from arena.kernels.layers import PIXELS

SHARE = 0.5  # of the free memory that a bank may take


def choose(classes: int, points: int, batches: int, free_bytes: int) -> Literal["sweep", "bank"]:
    """`bank` where `latent_bank` once and `bank_sweep` for each batch is the faster way and fits, else `latent_sweep`.

    batches: how many batches will be scored against the same points. Decoding a point costs some 200 times what scoring
    it against one image does, so a bank pays from the second batch on, whatever its size; for one batch it would only
    write and read what the sweep keeps in the cache. free_bytes: see `free_memory`.
    """
    bytes_a_pixel = torch.float32.itemsize + torch.uint8.itemsize  # of the bank, and of its screen
    fits = classes * points * PIXELS * bytes_a_pixel <= SHARE * free_bytes
    return "bank" if batches > 1 and fits else "sweep"


def free_memory(device: torch.device | str = "cpu") -> int:
    """Bytes that can be had on the device without pushing anything out."""
    device = torch.device(device)
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reusable
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
