"""The settings file: TOML -> typed, frozen settings, presets and command-line options applied."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from arena import environment
from arena.errors import UserError
from arena.interface.dataset import DatasetSettings
from arena.interface.references import is_module
from arena.interface.settings import Settings, did_you_mean, parse_settings

DEFAULT_FILE = Path(__file__).parents[1] / "default.toml"  # a copy of the repository's arena.toml


def _default_dataset() -> str:
    """That of the settings that ship: no code names one."""
    return tomllib.loads(DEFAULT_FILE.read_text(encoding="utf-8"))["tournament"]["dataset"]


class TournamentSettings(Settings):
    """[tournament]: what is played, and on what."""

    dataset: str = Field(default_factory=_default_dataset, description="name of a data set")
    split: str = Field("test", description="of the data set, any that it has")
    samples: int = Field(100, gt=0, description="the first so many of the split")
    defenses: tuple[str, ...] | Literal["all"] = Field("all", description="names")
    attacks: tuple[str, ...] | Literal["all"] = Field("all", description="names")
    bounds: tuple[str, ...] | Literal["cheap", "all"] = Field("cheap", description="names")
    seed: int = Field(0, ge=0, lt=2**63, description="of all that is random")
    chunk: int = Field(20, gt=0, description="samples played, and committed, at once")
    budget: int | None = Field(None, gt=0, lt=2**63, description="queries per sample, forward and gradient together")
    timeout: float = Field(3600, gt=0, description="seconds for one chunk of one match")


class RaySettings(Settings):
    """[run.ray]: where and how `executor = "ray"` runs workers (docs/cluster.md)."""

    address: str = Field("auto", description="HOST:PORT of the cluster's head; auto: RAY_ADDRESS, or this machine's")
    slots: int | None = Field(
        None, gt=0, description="workers of one agent, a CPU each; default: those of a node, up to 8"
    )
    gpus: float = Field(0, ge=0, description="GPUs of one agent")
    grace: float = Field(60, gt=0, description="seconds beyond a job's time-out after which an agent is given up")


class RunSettings(Settings):
    """[run]: how it is played; nothing here changes a result."""

    db: str = Field(default_factory=environment.default_db, description="URL of the store, or path of an SQLite file")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if there is one")
    workers: int | None = Field(None, gt=0, description="processes; default: one a core, or one if a GPU is used")
    memory: float = Field(8, gt=0, description="GiB that one worker may allocate")
    executor: Literal["local", "ray"] = Field("local", description="workers of this machine, or of a Ray cluster")
    ray: RaySettings = RaySettings()


class DefenseSettings(BaseModel):
    """[defense.NAME]: `model` is where a model without a package comes from, "mine.py:build", "package.module:name",
    "model.onnx" or "model.pt2"; `weights` replaces the shipped ones; `samples` as in [tournament]; `attacks` are those
    of the tournament that it is played against; all else is the defense's own settings."""

    model_config = ConfigDict(frozen=True, extra="allow")
    model: str | None = None
    weights: str | None = None
    samples: int | None = Field(None, gt=0)
    attacks: tuple[str, ...] | Literal["all"] = "all"

    @property
    def own(self) -> dict[str, Any]:
        """The plugin's own settings."""
        return self.model_extra or {}

    def at(self, folder: Path) -> DefenseSettings:
        """The same with paths that are relative to `folder` made absolute; "package.module:name" is no path."""
        paths = {"weights": self.weights, "model": self.model}
        if self.model and is_module(self.model):
            del paths["model"]
        return self.model_copy(update={key: str((folder / path).resolve()) for key, path in paths.items() if path})


class AttackSettings(BaseModel):
    """[attack.NAME]: `samples`, `budget` and `timeout` as in [tournament]; all else is the attack's own settings."""

    model_config = ConfigDict(frozen=True, extra="allow")
    samples: int | None = Field(None, gt=0)
    budget: int | None = Field(None, gt=0, lt=2**63)
    timeout: float | None = Field(None, gt=0)

    @property
    def own(self) -> dict[str, Any]:
        """The plugin's own settings."""
        return self.model_extra or {}


class BoundSettings(BaseModel):
    """[bound.NAME]: `samples` and `timeout` as in [tournament]; all else is the bound's own settings."""

    model_config = ConfigDict(frozen=True, extra="allow")
    samples: int | None = Field(None, gt=0)
    timeout: float | None = Field(None, gt=0)

    @property
    def own(self) -> dict[str, Any]:
        """The plugin's own settings."""
        return self.model_extra or {}


class Config(Settings):
    """A whole settings file, preset and command-line options applied."""

    tournament: TournamentSettings = TournamentSettings()
    run: RunSettings = RunSettings()
    defense: dict[str, DefenseSettings] = Field(default_factory=dict)
    attack: dict[str, AttackSettings] = Field(default_factory=dict)
    bound: dict[str, BoundSettings] = Field(default_factory=dict)
    dataset: dict[str, DatasetSettings] = Field(default_factory=dict)

    def for_defense(self, name: str) -> DefenseSettings:
        """The section of one defense, empty if there is none."""
        return self.defense.get(name, DefenseSettings())

    def samples_of(self, defense: str) -> int:
        """How many samples are asked for of one defense."""
        common = self.tournament.samples
        return min(self.for_defense(defense).samples or common, common)

    def for_attack(self, name: str) -> AttackSettings:
        """The section of one attack with the tournament's values where it sets none."""
        own, common = self.attack.get(name, AttackSettings()), self.tournament
        return own.model_copy(
            update={
                "samples": min(own.samples or common.samples, common.samples),
                "budget": own.budget or common.budget,
                "timeout": own.timeout or common.timeout,
            }
        )

    def for_bound(self, name: str) -> BoundSettings:
        """The section of one bound, empty if there is none."""
        return self.bound.get(name, BoundSettings())

    def for_match(self, defense: str, attack: str) -> AttackSettings:
        """The section of the attack, with no more samples than that of the defense asks for."""
        section, most = self.for_attack(attack), self.for_defense(defense).samples
        samples = min(asked for asked in (section.samples, most) if asked is not None)
        return section.model_copy(update={"samples": samples})


def load_config(file: Path | None = None, preset: str | None = None, **options: dict[str, Any]) -> Config:
    """Read a settings file (default: ./arena.toml, else the one that ships), lay `preset` and `options` over it.

    options: sections and keys as in the file, e.g. `tournament={"samples": 20}`; None values are left out.
    Raises UserError with one line for a missing, malformed or mistaken file and for an unknown preset.
    """
    file = file or default_file()
    values = _read(file)
    presets = values.pop("preset", {})
    if preset is not None:
        values = _merged(values, _find(presets, preset, file))
    for section, keys in options.items():
        values = _merged(values, {section: {key: value for key, value in keys.items() if value is not None}})
    config = parse_settings(Config, values, str(file))
    return _with_absolute_paths(config, file.parent.resolve())


def default_file() -> Path:
    """The settings file in the current folder, else the one that ships."""
    return Path("arena.toml") if Path("arena.toml").exists() else DEFAULT_FILE


def describe_preset(file: Path, preset: str) -> list[str]:
    """What `preset` sets, a line for each section: "attack.boundary: steps = 500"."""
    lines = []
    sections = [("", _find(_read(file).get("preset", {}), preset, file))]
    for path, section in sections:
        sections += [(f"{path}{key}.", value) for key, value in section.items() if isinstance(value, dict)]
        if own := [f"{key} = {value}" for key, value in section.items() if not isinstance(value, dict)]:
            lines.append(f"{path[:-1]}: {', '.join(own)}")
    return lines


def _find(presets: dict[str, Any], preset: str, file: Path) -> dict[str, Any]:
    if preset not in presets:
        raise UserError(f"{file}: unknown preset {preset!r}; {did_you_mean(preset, list(presets))}")
    return presets[preset]


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))  # some editors write a byte order mark
    except FileNotFoundError:
        raise UserError(f"{file}: no such settings file") from None
    except OSError as failure:
        raise UserError(f"{file}: cannot be read: {failure.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise UserError(f"{file}: not valid TOML: {failure}") from None


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, section by section."""
    result = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = _merged(base[key], value) if nested else value
    return result


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    """Paths in a settings file are relative to that file."""
    sections = {name: section.at(folder) for name, section in config.defense.items()}
    datasets = {name: section.at(folder) for name, section in config.dataset.items()}
    return config.model_copy(update={"defense": sections, "dataset": datasets})
