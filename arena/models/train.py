"""Training recipes: from the data and a seed to the weights, the same bytes each time on the same machine."""

from __future__ import annotations

import hashlib
import io
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from arena.data import DEFAULT, find_dataset, load_split
from arena.errors import UserError
from arena.files import write_atomically
from arena.interface.calibration import calibrate
from arena.interface.dataset import Dataset
from arena.interface.devices import resolve_device
from arena.interface.settings import did_you_mean
from arena.models.analysis_by_synthesis import AnalysisBySynthesis, Inference, InferenceSettings
from arena.models.cnn import Binarize
from arena.models.nearest_neighbor import NearestNeighborModel
from arena.models.recipes import RECIPES, Recipe
from arena.models.scaling import line_search
from arena.models.substitute import CLASSES, SHAPE
from arena.models.weights import ModelCard, load_weights, save_weights

NAMES = (*RECIPES, "binary-abs", "nearest-neighbor")
ANY_SHAPE = ("substitute", "nearest-neighbor")
SPLITS = ("train", "test")
BINARY_THRESHOLD = 0.5  # of Binary ABS (paper, section 3)


def train(
    name: str,
    *,
    dataset: str | Dataset = DEFAULT,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    out: str | Path = ".",
    quiet: bool = False,
) -> ModelCard:
    """Train the model `name` and write `out`/NAME.safetensors and its model card `out`/NAME.json.

    A killed run continues from the last whole epoch (`out`/checkpoints) and ends with the same weights.
    binary-abs scales the autoencoders of `out`/abs.safetensors, which are trained first if they are not there.
    nearest-neighbor has nothing to train, its weights are the data set: only the card is written.

    Args:
        name: one of NAMES.
        dataset: one of the models' shape and classes with the splits "train" and "test", or the name of one that ships
            or is a plugin's; for substitute and nearest-neighbor of any shape, and substitute can do without "test".
        epochs: passes over the training set; None is the recipe's number.
        seed: of initial weights, order of the images and augmentation.
        device: where the model is trained; "auto" is a GPU if there is one.
        out: folder; made if missing.
        quiet: no progress bar.

    Raises:
        UserError: an unknown name, a data set of another shape or without a split, a number of epochs that cannot be,
            or a folder that cannot be written to.
    """
    if name not in NAMES:
        raise UserError(f"no recipe {name!r}; {did_you_mean(name, list(NAMES))}")
    if epochs is not None and epochs < 1:
        raise UserError(f"{epochs} epochs train nothing; give 1 or more")
    out, device = Path(out), str(resolve_device(device))
    data = find_dataset(dataset) if isinstance(dataset, str) else dataset
    _check_data(name, data)
    if name == "nearest-neighbor":
        if epochs is not None:
            raise UserError("nearest-neighbor has no epochs: it is the training set itself; leave them out")
        return _describe_nearest_neighbor(data, out, device)
    if name == "binary-abs":
        if not (out / "abs.safetensors").exists():
            train("abs", dataset=data, epochs=epochs, seed=seed, device=device, out=out, quiet=quiet)
        return _scale_autoencoders(data, out, device)
    recipe = RECIPES[name].on(data)
    recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
    return _train(name, recipe, data, seed, device, out, quiet)


def _check_data(name: str, data: Dataset) -> None:
    """Raise UserError if the model `name` cannot be trained on a data set."""
    if name not in ANY_SHAPE and (tuple(data.shape), data.classes) != (SHAPE, CLASSES):
        raise UserError(f"no recipe for {data.name}: the models take images {list(SHAPE)} of {CLASSES} classes")
    for split in SPLITS[:1] if name == "substitute" else SPLITS:
        if split not in data.splits:
            files = 'files = { train = "...", test = "..." }'
            raise UserError(
                f'{name} is trained on a split "{split}", which {data.name} has not: describe it with {files}'
            )


def _train(name: str, recipe: Recipe, data: Dataset, seed: int, device: str, out: Path, quiet: bool) -> ModelCard:
    x, y = load_split(data, "train")
    identity: dict[str, Any] = {"name": name, "recipe": asdict(recipe), "seed": seed, "torch": str(torch.__version__)}
    with _single_thread(), Progress(disable=quiet, transient=True) as progress:
        run = _Run(
            recipe, seed, device, len(x), out / "checkpoints" / f"{name}-{seed}.pt", identity | {"data": _hashes(data)}
        )
        steps = run.steps_per_epoch
        task = progress.add_task(name, total=recipe.epochs * steps, completed=run.epoch * steps)
        while run.epoch < recipe.epochs:
            run.one_epoch(x, y, lambda: progress.advance(task))
    sha256 = save_weights(run.model, out / f"{name}.safetensors")
    classifier = recipe.classifier(run.model.eval())
    judged_on = [split for split in recipe.judged_on if split in data.splits]
    scores = {split: logits(classifier, load_split(data, split)[0], device) for split in judged_on}
    card = _card(data, scores, **identity, sha256=sha256, device=device, seconds=round(run.seconds))
    if "test" in data.splits:
        card.accuracy.update(recipe.further_accuracies(run.model, *load_split(data, "test")))
    card.save(out / f"{name}.json")
    run.checkpoint.unlink(missing_ok=True)
    return card


class _Run:
    """A training run between two epochs: all that a checkpoint holds."""

    def __init__(
        self, recipe: Recipe, seed: int, device: str, images: int, checkpoint: Path, identity: dict[str, Any]
    ) -> None:
        self.recipe, self.seed, self.device = recipe, seed, device
        self.checkpoint, self.identity = checkpoint, identity
        self.steps_per_epoch = -(-images // recipe.batch_size)
        self.epoch, self.seconds = 0, 0.0
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = recipe.build().to(device)
        self._begin_cycle()
        self._resume()

    def one_epoch(self, x: Tensor, y: Tensor, advance: Callable[[], None]) -> None:
        """Pass once over the images x and labels y, then write the checkpoint."""
        # Epochs draw from generators of their own, so that a resumed run draws what an unbroken one does.
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        started = time.monotonic()
        if self.epoch in self.recipe.restarts:
            self._begin_cycle()
        self.model.train()
        for rows in torch.randperm(len(x), generator=rng).split(self.recipe.batch_size):
            self.optimizer.zero_grad()
            with self._precision():
                loss = self.recipe.loss(self.model, x[rows], y[rows], self.epoch, rng)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            advance()
        self.epoch += 1
        self.seconds += time.monotonic() - started
        state = {"identity": self.identity, "epoch": self.epoch, "seconds": self.seconds}
        buffer = io.BytesIO()
        torch.save(state | {name: part.state_dict() for name, part in self._parts().items()}, buffer)
        write_atomically(self.checkpoint, buffer.getvalue())

    def _begin_cycle(self) -> None:
        end = min(epoch for epoch in (*self.recipe.restarts, self.recipe.epochs) if epoch > self.epoch)
        steps = (end - self.epoch) * self.steps_per_epoch
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, self.recipe.max_learning_rate, total_steps=steps
        )

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}

    def _precision(self) -> torch.autocast:
        """bfloat16 where the recipe bears it and the hardware is fast at it."""
        kind = torch.device(self.device).type
        fast = kind == "cuda" or torch.backends.cpu.get_cpu_capability() == "AVX512"
        return torch.autocast(kind, torch.bfloat16, enabled=self.recipe.bfloat16 and fast)

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        try:
            state = torch.load(self.checkpoint, weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            raise UserError(f"cannot read checkpoint {self.checkpoint}; delete it to start over") from error
        if state["identity"] != self.identity:
            raise UserError(f"checkpoint {self.checkpoint} is of another recipe or torch; delete it to start over")
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])


def _scale_autoencoders(data: Dataset, out: Path, device: str) -> ModelCard:
    model = AnalysisBySynthesis()
    load_weights(model, out / "abs.safetensors")
    infer, binarize = Inference(model.to(device).eval().decoder, InferenceSettings()), Binarize(BINARY_THRESHOLD)

    def explain(x: Tensor) -> Tensor:
        return infer(binarize(x)).score

    found = {split: logits(explain, load_split(data, split)[0], device) for split in SPLITS}
    model.cpu().scales.copy_(line_search(found["train"], load_split(data, "train")[1]))
    sha256 = save_weights(model, out / "binary-abs.safetensors")
    recipe = {
        "scaled": hashlib.sha256((out / "abs.safetensors").read_bytes()).hexdigest(),
        "binary_threshold": BINARY_THRESHOLD,
    }
    scores = {split: model.logits(score) for split, score in found.items()}
    card = _card(data, scores, name="binary-abs", recipe=recipe, seed=None, torch=str(torch.__version__), sha256=sha256)
    card.save(out / "binary-abs.json")
    return card


def _describe_nearest_neighbor(data: Dataset, out: Path, device: str) -> ModelCard:
    x, y = load_split(data, "train")
    recipe = {"prototypes": len(x), "distance": "l2"}
    scores = logits(NearestNeighborModel(x, y).to(device), load_split(data, "test")[0], device)
    facts = {"recipe": recipe, "seed": None, "torch": str(torch.__version__)}
    card = _card(data, {"test": scores}, name="nearest-neighbor", **facts)
    card.save(out / "nearest-neighbor.json")
    return card


@torch.no_grad()
def logits(model: Callable[[Tensor], Tensor], x: Tensor, device: str = "cpu") -> Tensor:
    """What `model` answers to the images x, float32 [N, C, H, W]: [N, classes], on the CPU."""
    return torch.cat([model(images.to(device)).cpu() for images in x.split(500)])


def _card(data: Dataset, scores: dict[str, Tensor], **facts: Any) -> ModelCard:
    """The card of a model that gives these logits to the images of each split."""
    labels = {split: load_split(data, split)[1] for split in scores}
    accuracy = {split: int((scores[split].argmax(1) == labels[split]).sum()) / len(labels[split]) for split in scores}
    confidence = None
    if "test" in scores:
        with suppress(UserError):  # too few epochs for a median confidence of 0.9
            confidence = asdict(calibrate(scores["test"], labels["test"]))
    return ModelCard(data=_hashes(data), accuracy=accuracy, confidence=confidence, **facts)


def _hashes(data: Dataset) -> dict[str, str]:
    """What the model card says of the data."""
    return {f"{data.name} {split}": data.identity(split) for split in SPLITS if split in data.splits}


@contextmanager
def _single_thread() -> Iterator[None]:
    # Sums split among threads round differently: the weights would depend on the number of cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
