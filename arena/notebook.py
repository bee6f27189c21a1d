"""`arena.evaluate`: a model in a notebook, played in its own process."""

from __future__ import annotations

import copy
import html
import io
import math
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from arena.data import identify, load_split
from arena.data.described import DescribedDataset
from arena.errors import NotApplicable, UserError
from arena.evaluation.preflight import preflight
from arena.evaluation.referee import play
from arena.geometry.norms import NORMS, Norm
from arena.interface.contracts import Attack, Defense
from arena.interface.dataset import Dataset, DatasetSettings, Layout
from arena.interface.registry import load_attack, registry
from arena.interface.results import Record, Status
from arena.models.adopted import Values, adopt
from arena.reporting.curves import accuracy_curve
from arena.store.leaderboard import LeaderboardRow
from arena.store.store import MatchKey, Results, Store, Unit, open_store
from arena.tournament.config import DEFAULT_FILE, load_config
from arena.tournament.plan import job_seed

if TYPE_CHECKING:
    from pandas import DataFrame

# Of every norm and access the attacks that tell most for their time, with the settings of the preset of that name.
QUICK = (
    *("gaussian-noise", "salt-and-pepper", "boundary", "square-linf", "square-l2"),
    *("deepfool-l2", "ddn", "fmn-l0", "fmn-l1", "fmn-linf"),
)
CHUNK = 20  # samples played, and committed, at once
SHOWN = 6  # samples in the gallery


def evaluate(
    model: Any,
    x: Any,
    y: Any,
    attacks: str | Sequence[str] | Mapping[str, Mapping[str, Any]] = "quick",
    *,
    bounds: tuple[float, float] = (0, 1),
    mean: Values = 0.0,
    std: Values = 1.0,
    layout: Layout | None = None,
    epsilon: Mapping[Norm, float] | None = None,
    name: str = "model",
    device: str = "auto",
    seed: int = 0,
    budget: int | None = None,
    db: str | None = None,
    progress: bool = True,
    **settings: Any,
) -> Evaluation:
    """Play attacks against a model and measure each sample: how far is the closest adversarial?

    It all happens in this process, without the isolation of `arena run`: an attack that hangs, hangs the notebook. The
    model itself is copied if it is a torch module.

    model: a torch module, a function of images, or an estimator with `predict`; it takes images in `bounds`, less
    `mean`, divided by `std`. x: images in `bounds`, [N, C, H, W] or [N, H, W]; layout: of x, where it is another, and
    of what the model takes; y: labels, int [N].
    attacks: "quick" or "all" (those that apply), names, or settings by name. epsilon: perturbation sizes at which
    accuracy is read, by norm, in units of [0, 1]. budget: queries per sample. db: a store to keep results in, where
    only what is missing is played. settings: `gradient`, `access`, `classes`, `flat`, as in [defense.NAME].

    Raises:
        UserError: images, labels, the model or a name that cannot be used; the message says what to do.
    """
    thresholds, classes = dict(epsilon or {}), settings.pop("classes", None)
    given = DatasetSettings(file="memory", bounds=bounds, layout=layout, classes=classes, epsilon=thresholds)
    dataset = _Given(x, y, given)
    images, labels = load_split(dataset, "test")
    own = copy.deepcopy(model) if isinstance(model, torch.nn.Module) else model
    settings |= {"bounds": bounds, "mean": mean, "std": std, "layout": layout, "classes": dataset.classes}
    defense = adopt(name, own, device=device, **settings)
    warnings = _checked(defense, images, labels)
    chosen = _chosen(attacks, defense, dataset)
    folder = tempfile.TemporaryDirectory()
    store = open_store(db or str(Path(folder.name) / "arena.db"))
    evaluation = Evaluation(store, defense.name, images, warnings, folder)
    _play(store, defense, chosen, dataset, (images, labels), seed, budget, progress)
    return evaluation


class _Given(DescribedDataset):
    """Arrays of a notebook, checked as those of a file."""

    def __init__(self, x: Any, y: Any, settings: DatasetSettings) -> None:
        self._arrays = tuple(value.detach().cpu().numpy() if isinstance(value, Tensor) else value for value in (x, y))
        super().__init__("notebook", settings)

    def load(self, split: str, samples: int | None = None) -> tuple[Tensor, Tensor]:
        images, labels = (np.asarray(array)[:samples] for array in self._arrays)
        return self._images(images, "x"), self._labels(labels, len(images), "y")

    def identity(self, split: str) -> str:
        return Dataset.identity(self, split)


class Evaluation:
    """What came of `evaluate`; in a notebook it shows itself."""

    def __init__(self, store: Store, name: str, images: Tensor, warnings: Sequence[str], folder: Any) -> None:
        self.store, self.name, self.warnings = store, name, tuple(warnings)
        self._images, self._folder = images, folder  # a temporary folder lasts as long as this

    def __repr__(self) -> str:
        return f"<Evaluation of {self.name}: {len(self._rows())} rows>"

    def leaderboard(self, norm: Norm | None = None) -> list[LeaderboardRow]:
        """Every attack by norm, strongest first, and `all` of them together."""
        return [row for row in self.store.leaderboard(norm) if row.defense == self.name]

    def curve(self, norm: Norm = "l2") -> tuple[np.ndarray, np.ndarray]:
        """Perturbation sizes, ascending from 0, and the accuracy from each on, by the closest adversarials of all
        attacks in this norm; draw it with steps after each point. Empty where nothing was played in it."""
        return accuracy_curve([distance for distance, _ in self._closest(norm)])

    def to_frame(self) -> DataFrame:
        """A row a sample and attack, as a pandas frame; raises UserError without pandas."""
        return self._rows().to_frame()

    def show(self) -> Evaluation:
        """What a notebook shows of the last line of a cell: the table, the curves, the closest adversarials."""
        return self

    def _repr_html_(self) -> str:
        norms = [norm for norm in NORMS if self._closest(norm)]
        return "".join(
            [
                *(f"<p><b>warning:</b> {html.escape(warning)}</p>" for warning in self.warnings),
                self._table(),
                _svg(self._curves(norms)),
                _svg(self._gallery(norms)),
            ]
        )

    def _table(self) -> str:
        """Norm, attack, samples, median distance, epsilon and accuracy at it."""
        lines = []
        for row in self.leaderboard():
            values = [row.norm, row.attack, row.samples, row.median_distance, row.epsilon, row.accuracy]
            cells = ["" if value is None else f"{value:.3g}" if isinstance(value, float) else value for value in values]
            lines.append("".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells))
        heads = "".join(f"<th>{head}</th>" for head in ("norm", "attack", "samples", "median", "epsilon", "accuracy"))
        return f"<table><tr>{heads}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"

    def _rows(self, norm: Norm | None = None, adversarials: bool = False) -> Results:
        return self.store.results(defense=self.name, norm=norm, adversarials=adversarials)

    def _closest(self, norm: Norm) -> list[tuple[float, dict[str, Any]]]:
        """The least distance of each sample in a norm, closest first, and its row; not a number where all that there is
        is unstable."""
        closest: dict[int, tuple[float, dict[str, Any]]] = {}
        for row in self._rows(norm, adversarials=True):
            distance = math.nan if row["distance"] is None else row["distance"]
            before = closest.get(row["sample"], (math.nan, row))[0]
            if row["status"] != Status.ERROR and not distance >= before:
                closest[row["sample"]] = distance, row
        return sorted(closest.values(), key=lambda pair: pair[0])

    def _curves(self, norms: Sequence[Norm]) -> Figure:
        figure = Figure(figsize=(3 * max(len(norms), 1), 2.4), layout="constrained")
        for place, norm in enumerate(norms, 1):
            axes = figure.add_subplot(1, len(norms), place)
            axes.step(*self.curve(norm), where="post")
            axes.set(title=norm, xlabel="perturbation size", ylim=(0, 1.02))
        return figure

    def _gallery(self, norms: Sequence[Norm]) -> Figure:
        """A row a norm: the samples whose adversarials are closest, each clean image beside its adversarial."""
        figure = Figure(figsize=(1.5 * SHOWN, 1.1 * max(len(norms), 1)), layout="constrained")
        for line, norm in enumerate(norms):
            found = [pair for pair in self._closest(norm) if pair[1]["status"] == Status.FOUND]
            for place, (distance, row) in enumerate(found[:SHOWN]):
                axes = figure.add_subplot(len(norms), SHOWN, line * SHOWN + place + 1)
                pair = np.concatenate([self._images[row["sample"]].numpy(), row["adversarial"]], axis=2)
                picture = np.moveaxis(pair, 0, -1) if len(pair) == 3 else pair.mean(0)
                axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axes.set_axis_off()
                axes.set_title(f"{norm} {distance:.3g}: {row['label']} → {row['adversarial_label']}", fontsize=6)
        return figure


def _svg(figure: Figure) -> str:
    written = io.StringIO()
    figure.savefig(written, format="svg")
    return written.getvalue()[written.getvalue().index("<svg") :]  # without the head of a file


def _checked(defense: Defense, x: Tensor, y: Tensor) -> list[str]:
    """What pre-flight warns of; raises UserError for a model that cannot be played."""
    remarks = preflight(defense, x, y)
    for remark in remarks:
        if remark.level == "refuse":
            raise UserError(str(remark))
    return [str(remark) for remark in remarks]


def _chosen(
    asked: str | Sequence[str] | Mapping[str, Mapping[str, Any]], defense: Defense, dataset: Dataset
) -> list[Attack]:
    """The attacks that are asked for; of a set those that apply."""
    if not isinstance(asked, str):
        settings = asked if isinstance(asked, Mapping) else {name: {} for name in asked}
        named = [_attack(name, dataset, of_attack) for name, of_attack in settings.items()]
        for attack in named:
            if not attack.applies_to(type(defense)):
                offers = f"access {defense.access!r}, gradient {defense.gradient!r}"
                raise UserError(f"attack {attack.name} asks more than {defense.name} offers ({offers}): leave it out")
        return named
    if asked not in ("quick", "all"):
        raise UserError(f"attacks = {asked!r}: give quick, all, a list of names, or settings by name")
    reduced = load_config(DEFAULT_FILE, "quick")
    names = QUICK if asked == "quick" else registry().names("attack")
    ready = []
    for name in names:
        with suppress(NotApplicable):
            ready.append(_attack(name, dataset, reduced.for_attack(name).own if asked == "quick" else {}))
    return [attack for attack in ready if attack.applies_to(type(defense))]


def _attack(name: str, dataset: Dataset, given: Mapping[str, Any]) -> Attack:
    """As a tournament on the data set plays it. Raises NotApplicable if it does not."""
    return load_attack(name, **registry().find("attack", name).cls.settings_for(dataset, given))


def _play(
    store: Store,
    defense: Defense,
    attacks: Sequence[Attack],
    dataset: Dataset,
    data: tuple[Tensor, Tensor],
    seed: int,
    budget: int | None,
    progress: bool,
) -> None:
    """Play and commit what the store lacks, a chunk at a time; an attack that fails costs its own rows."""
    from rich.console import Console
    from rich.progress import track

    x, y = data
    identity = identify(dataset, "test")
    conditions = {
        "dataset": dataset.name,
        "split": "test",
        "data_hash": identity.data_hash,
        "seed": seed,
        "chunk": CHUNK,
    }
    jobs = [(start, attack) for start in range(0, len(x), CHUNK) for attack in attacks]
    console = Console(stderr=True, quiet=not progress)
    for start, attack in track(jobs, f"playing {len(attacks)} attacks", console=console):
        key = MatchKey(conditions, defense.identity, attack.identity, budget, identity)
        match_id = store.find_match(key)
        done = store.settled(match_id) if match_id is not None else set()
        rows = [row for row in range(start, min(start + CHUNK, len(x))) if row not in done]
        if not rows:
            continue
        error = None
        how = job_seed(seed, defense.name, attack.name, rows[0])
        try:
            records = play(defense, attack, x[rows], y[rows], seed=how, budget=budget, samples=rows)
        except Exception as failure:  # whatever a plugin raises
            error, reason = traceback.format_exc(limit=20), f"{type(failure).__name__}: {failure}"
            records = [Record(row, int(y[row]), Status.ERROR, reason=reason) for row in rows]
        store.commit([Unit(key, records, error)], current=True)
