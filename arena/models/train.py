"""Training recipes: from the data and a seed to the weights, the same bytes each time on the same machine."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

from arena.data import data_hash, load_data
from arena.devices import resolve_device
from arena.errors import UserError
from arena.files import write_atomically
from arena.models.augment import shift_and_rotate
from arena.models.cnn import CNN
from arena.models.nearest_neighbor import NearestNeighbor
from arena.models.weights import ModelCard, save_weights


@dataclass(frozen=True)
class Recipe:
    """Adam on the cross entropy of augmented images, the learning rate following one cycle.

    The paper (appendix A.5) gives loss and optimiser only; the other numbers are ours.
    """

    binary_threshold: float | None = None
    epochs: int = 12
    batch_size: int = 128
    max_learning_rate: float = 3e-3
    shift: float = 2.0  # pixels
    rotation: float = 10.0  # degrees


RECIPES = {"cnn": Recipe(), "binary-cnn": Recipe(binary_threshold=0.5)}
NAMES = (*RECIPES, "nearest-neighbor")


def train(
    name: str,
    *,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    out: str | Path = ".",
    quiet: bool = False,
) -> ModelCard:
    """Train the model `name` and write `out`/NAME.safetensors and its model card `out`/NAME.json.

    A killed run continues from the last whole epoch (`out`/checkpoints) and ends with the same weights.
    nearest-neighbor has nothing to train, its weights are the data set: only the card is written.

    Args:
        name: one of NAMES.
        epochs: passes over the training set; None is the recipe's number.
        seed: of initial weights, order of the images and augmentation.
        device: where the model is trained; "auto" is a GPU if there is one.
        out: folder; made if missing.
        quiet: no progress bar.

    Raises:
        UserError: an unknown name, a number of epochs that cannot be, or a folder that cannot be written to.
    """
    if name not in NAMES:
        raise UserError(f"no recipe {name!r}; known: {', '.join(NAMES)}")
    out, device = Path(out), str(resolve_device(device))
    if name == "nearest-neighbor":
        if epochs is not None:
            raise UserError("nearest-neighbor has no epochs: it is the training set itself; leave them out")
        return _describe_nearest_neighbor(out, device)
    recipe = replace(RECIPES[name], epochs=RECIPES[name].epochs if epochs is None else epochs)
    if recipe.epochs < 1:
        raise UserError(f"{recipe.epochs} epochs train nothing; give 1 or more")

    x, y = load_data("mnist", "train")
    identity: dict[str, Any] = {"name": name, "recipe": asdict(recipe), "seed": seed, "torch": str(torch.__version__)}
    with _single_thread(), Progress(disable=quiet, transient=True) as progress:
        run = _Run(recipe, seed, device, len(x), out / "checkpoints" / f"{name}-{seed}.pt", identity)
        steps = run.steps_per_epoch
        task = progress.add_task(name, total=recipe.epochs * steps, completed=run.epoch * steps)
        while run.epoch < recipe.epochs:
            run.one_epoch(x, y, lambda: progress.advance(task))
        sha256 = save_weights(run.model, out / f"{name}.safetensors")
        scores = {split: accuracy(run.model.eval(), *load_data("mnist", split), device) for split in ("train", "test")}
    card = ModelCard(**identity, data=_data(), accuracy=scores, sha256=sha256)
    card.save(out / f"{name}.json")
    run.checkpoint.unlink(missing_ok=True)
    return card


class _Run:
    """A training run between two epochs: all that a checkpoint holds."""

    def __init__(
        self, recipe: Recipe, seed: int, device: str, images: int, checkpoint: Path, identity: dict[str, Any]
    ) -> None:
        self.recipe, self.seed, self.checkpoint, self.identity = recipe, seed, checkpoint, identity
        self.steps_per_epoch = -(-images // recipe.batch_size)
        self.epoch = 0
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = CNN(binary_threshold=recipe.binary_threshold)
        # Channels last is up to a third faster on a CPU; torch's type stubs do not know it.
        self.model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.max_learning_rate, total_steps=recipe.epochs * self.steps_per_epoch
        )
        self._parts: dict[str, Any] = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        self._resume()

    def one_epoch(self, x: Tensor, y: Tensor, advance: Callable[[], None]) -> None:
        """Pass once over the images x and labels y, then write the checkpoint."""
        # Epochs draw from generators of their own, so that a resumed run draws what an unbroken one does.
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        device = next(self.model.parameters()).device
        self.model.train()
        for rows in torch.randperm(len(x), generator=rng).split(self.recipe.batch_size):
            batch = shift_and_rotate(x[rows], self.recipe.shift, self.recipe.rotation, rng)
            self.optimizer.zero_grad()
            functional.cross_entropy(self.model(batch.to(device)), y[rows].to(device)).backward()
            self.optimizer.step()
            self.schedule.step()
            advance()
        self.epoch += 1
        state = {"identity": self.identity, "epoch": self.epoch}
        buffer = io.BytesIO()
        torch.save(state | {name: part.state_dict() for name, part in self._parts.items()}, buffer)
        write_atomically(self.checkpoint, buffer.getvalue())

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        try:
            state = torch.load(self.checkpoint, weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            raise UserError(f"cannot read checkpoint {self.checkpoint}; delete it to start over") from error
        if state["identity"] != self.identity:
            raise UserError(f"checkpoint {self.checkpoint} is of another recipe or torch; delete it to start over")
        self.epoch = state["epoch"]
        for name, part in self._parts.items():
            part.load_state_dict(state[name])


def _describe_nearest_neighbor(out: Path, device: str) -> ModelCard:
    x, y = load_data("mnist", "train")
    recipe = {"prototypes": len(x), "distance": "l2"}
    score = accuracy(NearestNeighbor(x, y).to(device), *load_data("mnist", "test"), device)
    card = ModelCard("nearest-neighbor", recipe, None, _data(), {"test": score}, str(torch.__version__))
    card.save(out / "nearest-neighbor.json")
    return card


@torch.no_grad()
def accuracy(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, device: str = "cpu") -> float:
    """Share of the images x, float32 [N, 1, 28, 28], that `model` assigns the labels y, int64 [N]."""
    correct = [
        (model(images.to(device)).argmax(1).cpu() == labels).sum()
        for images, labels in zip(x.split(500), y.split(500), strict=True)
    ]
    return int(sum(correct)) / len(x)


def _data() -> dict[str, str]:
    return {f"mnist {split}": data_hash("mnist", split) for split in ("train", "test")}


@contextmanager
def _single_thread() -> Iterator[None]:
    # Sums split among threads round differently: the weights would depend on the number of cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
