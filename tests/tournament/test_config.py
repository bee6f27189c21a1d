"""The settings file: what it says is what is played, and every mistake is one line with its remedy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import arena
from arena.errors import UserError
from arena.tournament.config import Config, describe_preset, load_config


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Config]:
    """Writes a settings file and loads it."""

    def load(text: str, preset: str | None = None, **options: Any) -> Config:
        file = tmp_path / "arena.toml"
        file.write_text(text)
        return load_config(file, preset, **options)

    return load


def test_the_shipped_file_and_each_of_its_presets_load() -> None:
    assert load_config(preset="quick").tournament.samples < load_config(preset="paper").tournament.samples


@pytest.mark.parametrize("preset", ["quick", "strong", "paper", "fashion-mnist"])
def test_presets_name_attacks_that_there_are_and_settings_that_they_have(preset: str) -> None:
    config = load_config(preset=preset)
    chosen = () if config.tournament.attacks == "all" else config.tournament.attacks
    for name in {*chosen, *config.attack}:
        settings = config.attack[name].own if name in config.attack else {}
        assert arena.load_attack(name, **settings).name == name


def test_command_line_beats_preset_beats_file(written: Callable[..., Config]) -> None:
    text = """
        [tournament]
        samples = 5
        seed = 1
        chunk = 3
        [attack.boundary]
        steps = 100
        samples = 4
        [preset.fast.tournament]
        samples = 2
        seed = 2
        [preset.fast.attack.boundary]
        steps = 10
    """
    config = written(text, "fast", tournament={"seed": 3, "samples": None})
    assert (config.tournament.samples, config.tournament.seed, config.tournament.chunk) == (2, 3, 3)
    assert config.for_attack("boundary").own == {"steps": 10}
    assert config.for_attack("boundary").samples == 2  # never more than the tournament's
    assert written(text).for_attack("boundary").samples == 4
    assert written(text).for_attack("unmentioned").samples == 5


def test_a_byte_order_mark_is_no_part_of_it(written: Callable[..., Config]) -> None:
    assert written("\ufeff[tournament]\nsamples = 5").tournament.samples == 5


def test_weights_are_relative_to_the_file(written: Callable[..., Config], tmp_path: Path) -> None:
    config = written('[defense.cnn]\nweights = "mine/cnn.safetensors"')
    assert config.for_defense("cnn").weights == str(tmp_path / "mine" / "cnn.safetensors")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[tournament]\nsample = 3", ["tournament", "'sample'", "did you mean samples"]),
        ("[turnament]\nsamples = 3", ["'turnament'", "did you mean tournament"]),
        ("[tournament]\nsamples = 0", ["samples = 0", "greater than 0"]),
        ("[tournament]\nsamples = -1", ["samples = -1"]),
        ("[tournament]\nsamples = 'many'", ["samples = 'many'", "integer"]),
        ("[tournament]\ntimeout = nan", ["timeout"]),
        ("[tournament]\ntimeout = inf", ["timeout"]),
        ("[run]\ndevice = 'tpu'", ["device = 'tpu'", "'auto', 'cpu' or 'cuda'"]),
        ("[attack.fgm]\nbudget = 0", ["attack fgm", "budget = 0"]),
        ("[defense]\ncnn = 3", ["defense", "cnn"]),
        ("[tournament", ["not valid TOML"]),
    ],
)
def test_mistakes_name_the_key_and_the_remedy(written: Callable[..., Config], text: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as failure:
        written(text)
    message = str(failure.value)
    assert "\n" not in message and "arena.toml" in message
    assert all(part in message for part in parts), message


def test_unknown_presets_and_missing_files(written: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown preset 'qick'; did you mean quick"):
        written("[preset.quick.tournament]\nsamples = 1", "qick")
    with pytest.raises(UserError, match="no such settings file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(UserError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not valid TOML"):
        load_config(tmp_path / "binary.toml")


@given(samples=st.integers(1, 10**6), own=st.integers(1, 10**6), others=st.integers(1, 10**6))
def test_a_match_never_plays_more_samples_than_anyone_asks_for(samples: int, own: int, others: int) -> None:
    config = Config(tournament={"samples": samples}, attack={"a": {"samples": own}}, defense={"d": {"samples": others}})
    assert config.for_attack("a").samples == config.for_match("b", "a").samples == min(samples, own)
    assert config.for_match("d", "a").samples == min(samples, own, others)
    assert config.for_match("d", "b").samples == min(samples, others)


def test_a_preset_tells_what_it_sets(tmp_path: Path) -> None:
    file = tmp_path / "arena.toml"
    file.write_text("""
        [preset.quick.tournament]
        samples = 20
        [preset.quick.attack]
        boundary = { steps = 500, samples = 3 }
        [preset.quick.defense.abs]
        attacks = ["fgm"]
    """)
    assert describe_preset(file, "quick") == [
        "tournament: samples = 20",
        "attack.boundary: steps = 500, samples = 3",
        "defense.abs: attacks = ['fgm']",
    ]
