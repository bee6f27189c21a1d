"""Weights that travel: found where they are, else kept by content, and named by the path in the settings."""

import json
import shutil
from pathlib import Path

import pytest

from arena.models.weights import ZOO
from arena.tournament import worker
from arena.tournament.config import Config
from arena.tournament.executors.parcels import packed, unpacked
from arena.tournament.jobs import IdentifyJob


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Settings that name weights of this machine; the user's cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = tmp_path / "mine" / "w.safetensors"
    weights.parent.mkdir()
    shutil.copy(ZOO / "cnn.safetensors", weights)
    weights.with_suffix(".json").write_text(json.dumps({"sha256": None}))
    return Config.model_validate({"defense": {"cnn": {"weights": str(weights)}}})


def test_weights_that_are_there_stay_there(config: Config, tmp_path: Path) -> None:
    assert unpacked(packed(config)) == {} and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("other", [True, False])
def test_weights_that_are_not_there_come_with_their_card(config: Config, tmp_path: Path, other: bool) -> None:
    (path, parcel), = packed(config).items()  # fmt: skip
    content = (tmp_path / "mine" / "w.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "mine")
    if other:  # of the same name
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "w.safetensors").write_bytes(b"others")
    place = unpacked({path: parcel})[path]
    assert place.startswith(str(tmp_path / "cache")) and parcel.key in place
    assert Path(place).read_bytes() == content
    assert json.loads(Path(place).with_suffix(".json").read_text()) == {"sha256": None}


def test_a_folder_travels_whole(config: Config, tmp_path: Path) -> None:
    path = str(tmp_path / "mine")
    parcels = packed(Config.model_validate({"defense": {"abs": {"weights": path}}}))
    assert set(parcels[path].files) == {"mine/w.safetensors", "mine/w.json"}


def test_the_identity_names_the_path_of_the_settings(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parcels = packed(config)
    (path,) = parcels
    monkeypatch.setattr(worker, "_config", config)
    job = IdentifyJob(60, False, "defense", "cnn", "match")
    worker._defense.cache_clear()
    here = worker._identify(job).identity
    shutil.rmtree(tmp_path / "mine")
    monkeypatch.setattr(worker, "_places", unpacked(parcels))
    worker._defense.cache_clear()
    assert worker._identify(job).identity == here
    assert here.settings["weights"] == path
    worker._defense.cache_clear()
