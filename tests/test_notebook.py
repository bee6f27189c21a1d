"""`arena.evaluate`: a model and arrays of a notebook, played in one process; the example notebook runs."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from paths import ROOT
from torch import Tensor, nn

import arena
from arena.errors import UserError
from arena.notebook import Evaluation

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)  # NHWC
LABELS = (IMAGES[..., 0].mean((1, 2)) > IMAGES[..., 2].mean((1, 2))).astype(np.int32)


class Redder(nn.Module):
    """Red less blue, of images [N, 5, 4, 3] from 0 to 255; dropout would show a forgotten evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.scale = nn.Dropout(0.5), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        gap = (self.drop(x)[..., 0] - self.drop(x)[..., 2]).mean((1, 2)) * self.scale
        return torch.stack([-gap, gap], 1)


def evaluate(attacks: str | Sequence[str] = ("deepfool-l2", "fmn-linf"), **options: Any) -> Evaluation:
    options = {"bounds": (0, 255), "layout": "NHWC", "progress": False, **options}
    return arena.evaluate(options.pop("model", Redder()), IMAGES, LABELS, attacks, **options)


def test_distances_are_the_optimal_ones_and_in_units_of_the_box() -> None:
    gap = np.abs(IMAGES[..., 0].mean((1, 2)) - IMAGES[..., 2].mean((1, 2))) / 255
    result = evaluate(epsilon={"l2": 0.0, "linf": 1.0})
    board = {(row.norm, row.attack): row for row in result.leaderboard()}
    optimal = gap * 20 / np.sqrt(40)  # of the half-space; the box can only be further
    assert np.median(optimal) <= board["l2", "all"].median_distance <= 1.2 * np.median(optimal)
    assert (board["l2", "all"].accuracy, board["linf", "all"].accuracy) == (1, 0)
    epsilon, accuracy = result.curve("l2")
    assert accuracy[0] == 1 and accuracy[-1] == 0 and epsilon[-1] < 1
    assert len(result.curve("l0")[0]) == 0


def test_the_model_of_the_caller_stays_as_it_is() -> None:
    model = Redder().double()
    evaluate(("gaussian-noise",), model=model)
    assert model.training and model.scale.requires_grad and model.scale.dtype == torch.float64


def test_it_shows_itself_with_warnings_table_curves_and_pictures() -> None:
    page = evaluate(model=nn.Sequential(Redder(), nn.Softmax(1))).show()._repr_html_()
    assert "returns probabilities" in page and "deepfool-l2" in page
    assert page.count("<svg") == 2 and page.count("<image") >= 6


def test_only_what_applies_is_played_and_a_store_is_gone_on_with(tmp_path: Path) -> None:
    def labels(x: np.ndarray) -> np.ndarray:
        return (x[..., 0].mean((1, 2)) > x[..., 2].mean((1, 2))).astype(int)

    options = {"model": labels, "access": "decision", "db": str(tmp_path / "own.db"), "budget": 50}
    board = evaluate("quick", **options).leaderboard()
    assert {row.attack for row in board} == {"gaussian-noise", "salt-and-pepper", "boundary", "all"}
    seconds = [row["seconds"] for row in arena.open_store(str(tmp_path / "own.db")).results()]
    evaluate("quick", **options)
    assert [row["seconds"] for row in arena.open_store(str(tmp_path / "own.db")).results()] == seconds


def test_an_attack_that_fails_costs_its_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> NoReturn:
        raise RuntimeError("no")

    monkeypatch.setattr(type(arena.load_attack("deepfool-l2")), "run", fail)
    board = {row.attack: row.errors for row in evaluate().leaderboard() if row.attack != "all"}
    assert board == {"deepfool-l2": 6, "fmn-linf": 0}


def test_it_plays_under_a_running_event_loop() -> None:
    async def cell() -> Evaluation:
        return evaluate(("gaussian-noise",))

    assert asyncio.run(cell()).leaderboard()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": (0, 1)}, r"outside \[0, 1\]"),
        ({"attacks": "quik"}, "give quick, all, a list of names"),
        ({"attacks": ["fgms"]}, "did you mean"),
        ({"model": nn.Linear(3, 1)}, "cannot be asked|returned"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(**options)


def test_the_example_notebook_runs(capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads((ROOT / "examples" / "notebooks" / "evaluate.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert "linf  all" in capsys.readouterr().out and len(names["epsilon"]) > 1


def test_an_attack_that_asks_more_than_the_model_offers_is_named() -> None:
    with pytest.raises(UserError, match="attack deepfool-l2 asks more than model offers .*gradient 'none'"):
        evaluate(model=lambda x: Redder().eval()(x).detach())


def test_images_beyond_the_default_bounds() -> None:
    with pytest.raises(UserError, match=r"rescale to \[0, 1\], or set bounds"):
        arena.evaluate(Redder(), IMAGES.astype(np.float32), LABELS, progress=False, layout="NHWC")
