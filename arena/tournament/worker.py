"""What runs inside a worker process: it alone imports torch and plugins, so a plugin can harm only its own job."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module, metadata
from typing import Any, cast

import numpy as np
import torch

from arena import data
from arena.errors import NotApplicable, PluginError, UserError
from arena.evaluation import distal, referee
from arena.evaluation.lower_bounds import lower_bounds
from arena.evaluation.preflight import preflight
from arena.evaluation.verify import replay, verify
from arena.interface.contracts import Attack, Bound, Defense
from arena.interface.dataset import Dataset
from arena.interface.devices import resolve_device
from arena.interface.registry import Kind, load_attack, load_bound, load_defense, registry
from arena.interface.results import Identity, Record, Verification
from arena.interface.source import code_digest
from arena.models.loading import load_model, package_of
from arena.tournament.answers import Applicable, Identified, Roster, as_plain, plain
from arena.tournament.config import Config
from arena.tournament.executors.child import limit_memory
from arena.tournament.jobs import (
    ApplicableJob,
    BoundJob,
    DistalJob,
    IdentifyJob,
    Job,
    MatchJob,
    NodeJob,
    ReplayJob,
    RosterJob,
    VerifyJob,
)
from arena.tournament.machine import describe

_config = Config()
_places: dict[str, str] = {}


def warm() -> None:
    """Import what workers need into the process that they are forked from: no plugin of another package, no thread."""
    torch.set_num_threads(1)
    for entry in metadata.entry_points(group="arena"):
        if entry.dist and entry.dist.name == "arena-robustness":
            entry.load()
    import_module("torch.fx.experimental.symbolic_shapes")  # with sympy; torch does so for a process's first gradient
    code_digest([referee.__name__])  # of the code that decides rows, once; reads what is installed


def initialize(config: Config, places: dict[str, str]) -> list[str]:
    """Set a fresh worker up; returns what the user should know of this machine, a line each.

    places: where this machine has weights that the settings name, if not at that path.
    """
    global _config, _places
    _config, _places = config, places
    torch.set_num_threads(1)  # equal sums, hence equal rows, whatever the number of workers
    torch.backends.cudnn.deterministic = True
    if config.run.device == "cpu" or not torch.cuda.is_available():  # CUDA reserves address space beyond any limit
        return limit_memory(config.run.memory)
    return []


def perform(job: Job) -> Any:
    """What the job asks for, as plain data (`answers` has what it must look like); raises whatever a plugin raises."""
    started = time.perf_counter()
    match job:
        case NodeJob():
            return _node()
        case RosterJob():
            return plain(_roster(job))
        case IdentifyJob():
            return plain(_identify(job))
        case ApplicableJob():
            return [plain(one) for one in _applicable(job)]
        case MatchJob():
            rows: Any = _play(job)
        case BoundJob():
            rows = _lower_bounds(job)
        case DistalJob():
            rows = _ascend(job)
        case ReplayJob():
            rows = _replay(job)
        case VerifyJob():
            rows = _verify(job)
    return {"rows": rows, "seconds": time.perf_counter() - started}


def _node() -> dict[str, str]:
    tournament, here = _config.tournament, describe(_config.run.device)
    if tournament.dataset in _config.dataset:  # its file could be another; those of arena and of packages are known
        here["data"] = _dataset().identity(tournament.split)
    return here


def _roster(job: RosterJob) -> Roster:
    """Load registry and dataset and decide who plays whom; raises UserError for names that cannot be had."""
    tournament, found = _config.tournament, registry()
    resolve_device(_config.run.device)
    labels: list[int] = []
    if job.purpose != "distal":
        labels = _samples()[1].tolist()
    models = {name: section.model for name, section in _config.defense.items() if section.model}
    for name in models:
        if ("defense", name) in found.plugins:
            raise UserError(f"defense {name} is a plugin: give the model a name of its own, as in [defense.my-{name}]")
    for name, section in _config.defense.items():
        if name not in models:
            found.find("defense", name)
        for attack in section.attacks if section.attacks != "all" else ():
            found.find("attack", attack)
    for name in _config.attack:
        found.find("attack", name)
    for name in _config.bound:
        found.find("bound", name)
    asked = sorted([*found.names("defense"), *models]) if tournament.defenses == "all" else tournament.defenses
    plugins = {name: found.find("defense", name) for name in asked if name not in models}
    fit = _fitting("defense", list(plugins), tournament.defenses)
    unfit = [name for name in plugins if name not in fit]
    packages = {name: package_of(models[name]) if name in models else plugins[name].package for name in asked}
    return Roster(
        defenses={name: package for name, package in packages.items() if name not in unfit},
        attacks={name: found.find("attack", name).package for name in (_attacks() if job.purpose == "match" else ())},
        bounds={name: found.find("bound", name).package for name in (_bounds() if job.purpose != "distal" else ())},
        unfit=tuple(unfit),
        dataset=data.identify(_dataset(), tournament.split) if job.purpose != "distal" else None,
        labels=tuple(labels),
        problems=tuple(f"{problem.package}: {problem.reason}" for problem in found.problems),
    )


def _fitting(kind: Kind, names: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Those that can be played on the data; asked: "all" leaves others out, names raise NotApplicable for them."""
    found = []
    for name in names:
        try:
            _settings(kind, name)
        except NotApplicable:
            if asked != "all":
                raise
        else:
            found.append(name)
    return found


def _attacks() -> list[str]:
    """The names of the attacks that are asked for and can be played on the data."""
    asked = _config.tournament.attacks
    return _fitting("attack", registry().names("attack") if asked == "all" else asked, asked)


def _settings(kind: Kind, name: str) -> dict[str, Any]:
    """The settings of a plugin for the data that is played, `weights` of a defense among them."""
    if kind == "attack":
        given = _config.for_attack(name).own
    elif kind == "bound":
        given = _config.for_bound(name).own
    else:
        section = _config.for_defense(name)
        given = ({"weights": section.weights} if section.weights else {}) | section.own
    settings: dict[str, Any] = registry().find(kind, name).cls.settings_for(_dataset(), given)
    return settings


def _bounds() -> list[str]:
    """The names of the bounds that are asked for and can be computed on the data."""
    found, asked = registry(), _config.tournament.bounds
    if asked == "cheap":
        cheap = [name for name in found.names("bound") if found.find("bound", name).cls.cheap]
        return _fitting("bound", cheap, "all")
    return _fitting("bound", found.names("bound") if asked == "all" else asked, asked)


def _opponents(defense: Defense) -> list[str]:
    """The attacks that are asked for against a defense, and apply to it."""
    of_defense = _config.for_defense(defense.name).attacks
    return [
        name
        for name in _attacks()
        if of_defense == "all" or name in of_defense
        if registry().find("attack", name).cls.applies_to(type(defense))
    ]


def _identify(job: IdentifyJob) -> Identified:
    if job.kind == "attack":
        return Identified(_attack(job.name).identity)
    if job.kind == "bound":
        bound = _bound(job.name)
        return Identified(bound.identity, norms=bound.norms)
    defense = _defense(job.name)
    if job.purpose == "bound":
        return Identified(_identity(defense))
    if job.purpose == "distal":
        try:
            gradient = distal.gradient_source(defense, job.estimated)
        except UserError as failure:
            return Identified(_identity(defense), unfit=str(failure))
        classes = distal.count_classes(defense, _dataset().shape)
        return Identified(_identity(defense), gradient=gradient, classes=classes)
    identity = _identity(defense)  # before it is asked anything, which may change one that is broken
    x, y = _samples()
    remarks = preflight(defense, x, y[: _config.samples_of(job.name)])
    return Identified(
        identity,
        unfit=next((str(remark) for remark in remarks if remark.level == "refuse"), None),
        warnings=tuple(str(remark) for remark in remarks if remark.level == "warn"),
        attacks=tuple(_opponents(defense)),
    )


def _applicable(job: ApplicableJob) -> list[Applicable]:
    defense = _defense(job.defense)
    rows = []
    for name in job.bounds:
        bound = _bound(name)
        refusal = bound.refusal(defense, _dataset().shape)
        rows.append(Applicable(name, bound.kind_for(defense) if refusal is None else None, refusal))
    return rows


def _play(job: MatchJob) -> list[dict[str, Any]]:
    x, y = _samples()
    rows = list(job.samples)
    if _attack_fingerprint(job.attack) != job.attack_fingerprint:
        raise _not_planned("attack", job.attack)
    defense, attack = _planned_defense(job.defense, job.defense_fingerprint), _attack(job.attack)
    played = referee.play(defense, attack, x[rows], y[rows], seed=job.seed, budget=job.budget, samples=rows)
    images = x[rows].cpu().numpy()
    return [plain(record) | _clean(record, image) for record, image in zip(played, images, strict=True)]


def _clean(record: Record, image: np.ndarray) -> dict[str, Any]:
    """The image that was attacked, beside an adversarial: the store may keep what differs."""
    return {"clean": as_plain(image)} if record.adversarial is not None else {}


def _lower_bounds(job: BoundJob) -> list[float]:
    defense, bound = _planned_defense(job.defense, job.defense_fingerprint), _bound(job.bound)
    if bound.fingerprint != job.bound_fingerprint:
        raise _not_planned("bound", job.bound)
    x, y = _samples()
    rows = list(job.samples)
    images, labels = x[rows].to(defense.device), y[rows].to(defense.device)
    return lower_bounds(bound, defense, images, labels, job.norm, job.seed).tolist()


def _ascend(job: DistalJob) -> dict[str, Any]:
    defense = _planned_defense(job.defense, job.defense_fingerprint)
    estimated = job.gradient == "estimated"
    (ended,) = distal.ascend(
        defense, [job.target], _dataset().shape, estimated=estimated, steps=job.steps, seed=job.seed
    )
    return plain(ended)


def _verify(job: VerifyJob) -> dict[str, Any]:
    """Check rows against the defense as it was played, loaded by name, weights and settings.

    Of one whose fingerprint is not the stored one (other code, weights or version) no decision can be checked.
    """
    defense, problems = None, []
    try:
        defense = cast(Defense, _stored("defense", *_how(job.match.defense)))
    except UserError as failure:
        problems.append(f"{len(job.rows)} rows cannot be checked against the defense: {failure}")
    try:
        found = verify(defense, job.match, job.rows, job.bounds)
    except UserError as failure:
        found = Verification(len(job.rows), [f"{len(job.rows)} rows cannot be checked: {failure}"], [])
    return plain(replace(found, failures=problems + found.failures))


def _replay(job: ReplayJob) -> dict[str, Any]:
    try:
        defense = cast(Defense, _stored("defense", *_how(job.match.defense)))
        attack = cast(Attack, _stored("attack", *_how(job.match.attack)))
        found = replay(defense, attack, job.match, job.rows, job.seed, job.same_environment)
    except UserError as failure:
        found = Verification(len(job.rows), [f"{len(job.rows)} rows cannot be played again: {failure}"], [])
    return plain(found)


def _planned_defense(name: str, fingerprint: str) -> Defense:
    """The defense, if it is the one that was planned: rows must not be booked under another's fingerprint."""
    defense = _defense(name)
    if defense.fingerprint != fingerprint:
        raise _not_planned("defense", name)
    return defense


def _not_planned(kind: Kind, name: str) -> PluginError:
    return PluginError(f"{kind} {name} is not the one that was planned: its code, weights or version changed meanwhile")


def _attack(name: str) -> Attack:
    return load_attack(name, **_settings("attack", name))


@cache
def _bound(name: str) -> Bound:
    return load_bound(name, **_settings("bound", name))


@cache
def _attack_fingerprint(name: str) -> str:
    return _attack(name).fingerprint


@cache
def _defense(name: str) -> Defense:
    section = _config.for_defense(name)
    how = _settings("defense", name) if section.model is None else section.own | {"weights": section.weights}
    how = {"device": _config.run.device} | how | {"weights": _place(how.get("weights"))}
    return load_defense(name, **how) if section.model is None else _adopted(name, section.model, how)


def _adopted(name: str, model: str, how: dict[str, Any]) -> Defense:
    """A model without a package; it has as many classes as the data, unless its settings say another number."""
    classes = how.get("classes") or _dataset().classes
    return load_model(name, model, **(how | {"classes": classes}))


def _place(weights: str | None) -> str | None:
    return None if weights is None else _places.get(weights, weights)


def _identity(defense: Defense) -> Identity:
    """Its identity, which names the weights by the path in the settings, on every machine."""
    named = {place: path for path, place in _places.items()}
    identity, weights = defense.identity, str(defense.weights)
    return replace(identity, settings=identity.settings | {"weights": named[weights]}) if weights in named else identity


@cache
def _stored(kind: Kind, name: str, fingerprint: str, settings: str) -> Defense | Attack:
    """A plugin as it was played; settings: as JSON. Raises UserError if it cannot be had."""
    how = json.loads(settings)
    if "weights" in how:
        how["weights"] = _place(how["weights"])
    if kind == "attack":
        plugin: Defense | Attack = load_attack(name, **how)
    else:
        plugin = _adopted(name, how.pop("model"), how) if "model" in how else load_defense(name, **how)
    if plugin.fingerprint != fingerprint:
        raise UserError(f"the installed {name} is not the one that was played (other code, weights or version)")
    return plugin


def _how(identity: Identity) -> tuple[str, str, str]:
    return identity.name, identity.fingerprint, json.dumps(identity.settings)


@cache
def _dataset() -> Dataset:
    return data.find_dataset(_config.tournament.dataset, _config.dataset)


@cache
def _samples() -> tuple[torch.Tensor, torch.Tensor]:
    """The images and labels that the tournament asks for."""
    return data.load_split(_dataset(), _config.tournament.split, _config.tournament.samples)
