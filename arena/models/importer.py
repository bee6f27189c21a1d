"""Checkpoints of others become weights files of ours, with a model card."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import torch
from rich.progress import track

from arena.data import data_hash, load_data
from arena.errors import UserError
from arena.interface.calibration import calibrate
from arena.interface.registry import load_defense
from arena.models.released import FILES
from arena.models.weights import ModelCard, save_weights
from arena.target.logits import evaluate


def import_weights(
    name: str, source: str | Path, *, out: str | Path = ".", device: str = "auto", quiet: bool = False
) -> ModelCard:
    """Write `out`/NAME.safetensors and its model card `out`/NAME.json from weights that the defense `name` can load.

    Accuracy and confidence are measured on the test set.

    Args:
        name: a defense that keeps its weights in one torch module, as all built-in ones but nearest-neighbor do.
        source: what `weights` of the defense takes: a file, or the folder of the authors' released checkpoints.
        out: folder; made if missing.
        device: where the model is measured; "auto" is a GPU if there is one.
        quiet: no progress bar.

    Raises:
        UserError: an unknown defense, weights that it cannot load, or a folder that cannot be written to.
    """
    source, out = Path(source), Path(out)
    defense = load_defense(name, weights=source, device=device)
    module = getattr(defense, "network", None)
    if not isinstance(module, torch.nn.Module):
        raise UserError(f"{name} keeps no torch module `network`, so there are no weights to import")
    x, y = load_data("mnist", "test")
    batches = track(x.split(500), f"{name} on the test set", disable=quiet, transient=True)
    scores = torch.cat([evaluate(defense, images.to(defense.device)).cpu() for images in batches])
    sources = [source / name for name in FILES] if source.is_dir() else [source]
    card = ModelCard(
        name=name,
        recipe={"imported": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sources}},
        seed=None,
        data={"mnist test": data_hash("mnist", "test")},
        accuracy={"test": int((scores.argmax(1) == y).sum()) / len(y)},
        torch=str(torch.__version__),
        sha256=save_weights(module, out / f"{name}.safetensors"),
        confidence=asdict(calibrate(scores, y)),
    )
    card.save(out / f"{name}.json")
    return card
