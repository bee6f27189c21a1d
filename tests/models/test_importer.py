"""Checkpoints of others: converted whole, with a card that says where they came from, or not at all."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import REFERENCE
from typed import Batch

import arena
from arena.cli import cli
from arena.errors import UserError
from arena.models.importer import import_weights
from arena.plugins.defenses.abs import ABS
from arena.plugins.defenses.cnn import CNN

released = pytest.mark.skipif(
    not REFERENCE.exists(), reason="the authors' weights (../shared/reference-weights) are not here"
)


def command(*arguments: object) -> None:
    cli.main(["import", *map(str, arguments), "--quiet"], standalone_mode=False)


def test_checkpoints_like_the_authors_are_read(tmp_path: Path, mnist: Batch) -> None:
    """Their layout, filled with our weights: one file a class, one for the CNN."""
    x = mnist[0][:2]
    few: dict[str, Any] = {"points": 50, "steps": 2}
    ours = ABS(**few)
    for label, vae in enumerate(ours.network.vaes):
        torch.save(vae.state_dict(), tmp_path / f"ABS_{label}.net")
    assert torch.equal(arena.load_defense("abs", weights=tmp_path, **few).scores(x), ours.scores(x))
    cnn = CNN()
    torch.save(cnn.network.state_dict(), tmp_path / "vanilla_cnn.net")
    assert torch.equal(arena.load_defense("cnn", weights=tmp_path / "vanilla_cnn.net").scores(x), cnn.scores(x))
    (tmp_path / "ABS_7.net").unlink()
    with pytest.raises(UserError, match="ABS_7.net"):
        arena.load_defense("abs", weights=tmp_path)


@released
def test_the_authors_cnn_becomes_a_weights_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mnist: Batch
) -> None:
    source = REFERENCE / "vanilla_cnn.net"
    command("cnn", source, "--out", tmp_path)
    assert "accuracy test 99.35%" in capsys.readouterr().out
    card = json.loads((tmp_path / "cnn.json").read_text())
    assert card["recipe"] == {"imported": {source.name: hashlib.sha256(source.read_bytes()).hexdigest()}}
    assert card["sha256"] == hashlib.sha256((tmp_path / "cnn.safetensors").read_bytes()).hexdigest()
    x = mnist[0][:1000:10]
    converted, original = (arena.load_defense("cnn", weights=path) for path in (tmp_path / "cnn.safetensors", source))
    assert torch.equal(converted.scores(x), original.scores(x))
    assert 0.8 < converted.confidence(x).amax(1).median() < 0.97
    with pytest.raises(UserError, match="no calibration"):
        original.confidence(x)


@released
@pytest.mark.slow
def test_the_authors_abs_becomes_a_weights_file(tmp_path: Path, mnist: Batch) -> None:
    card = import_weights("abs", REFERENCE, out=tmp_path, quiet=True)
    assert abs(card.accuracy["test"] - 0.990) <= 0.002
    assert set(card.recipe["imported"]) == {f"ABS_{c}.net" for c in range(10)}
    converted, original = (
        arena.load_defense("abs", weights=path) for path in (tmp_path / "abs.safetensors", REFERENCE)
    )
    assert torch.equal(converted.scores(mnist[0][:20]), original.scores(mnist[0][:20]))


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("cnn", "missing.net", "cannot read weights .*missing.net: No such file"),
        ("cnn", "text.net", "damaged or no weights at all"),
        ("abs", ".", r"cannot read weights .*ABS_0\.net"),
        ("nearest-neighbor", "text.net", "takes no weights"),
        ("cmm", "text.net", "unknown defense 'cmm'"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_leaves_nothing(
    name: str, source: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "text.net").write_text("no weights")
    with pytest.raises(UserError, match=message):
        import_weights(name, tmp_path / source, out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()
