"""The page of Table 1 says what was measured, of how many samples, and what it does not know."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from stores import attack, defense, open_match, record

from arena.cli import cli
from arena.geometry.norms import Norm
from arena.reporting.document import page
from arena.reporting.table1 import NOTHING
from arena.store.store import Store, open_store


def play(store: Store, which: str, how: str, norm: Norm, distances: list[float]) -> None:
    rows = [record(sample, distance=distance) for sample, distance in enumerate(distances)]
    store.append(open_match(store, defense(which), attack(how, norm, 7)), rows)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(str(tmp_path / "arena.db"))) as store:
        yield store


def section(text: str, title: str) -> str:
    (found,) = [part for part in text.split("\n## ") if part.startswith(title)]
    return found


def test_every_cell_says_of_how_many_samples_and_where_the_paper_is_outside(store: Store) -> None:
    play(store, "cnn", "fgm", "l2", [0.5] * 4 + [0.75] * 4)  # the paper: 1.4 / 48 %
    play(store, "cnn", "deepfool-l2", "l2", [1.14, 1.15, 1.15, 1.3, 1.15, 1.14, 1.2, 1.15])  # the paper: 1.2 / 18 %
    play(store, "cnn", "fgsm", "linf", [0.02] * 4)
    text = page(store, "Played from commit abc.")
    assert "SHA-256 `5eed`), seed 0, by " in text and "Played from commit abc." in text
    assert "| FGM | 0.62 [0.50, 0.75] / 0% [0, 37] of 8 (1.4 / 48%) |" in section(text, "Row by row")
    outside = section(text, "Where")
    assert outside.count("\n| ") == 2 + 2  # with its head: FGM, and all L2 attacks
    assert "| FGM (L2) | CNN | 0.62 / 0% [0.50, 0.75] / [0, 37] of 8 | 1.4 / 48% | median and accuracy |" in outside
    assert "| DeepFool (L2)" not in outside and "FGSM" not in outside  # 1.15 is what 1.2 is rounded from; 4 samples
    gaps = section(text, "What this page does not know")
    assert "Not played: 104 of the paper's 107 cells (CNN: Transfer Attacks (L2), " in gaps
    assert "Cells of too few samples to say anything of a median: 1 (CNN: FGSM (Linf))." in gaps
    assert "No cell is of more than 8 samples" in gaps
    assert "| fgm | steps 7 |" in section(text, "The attacks' settings")


def test_the_command_prints_the_page(store: Store, tmp_path: Path) -> None:
    assert page(store) == NOTHING
    play(store, "cnn", "fgm", "l2", [1.0])
    options = ["--db", str(tmp_path / "arena.db"), "--page", "--note", "On a Tuesday."]
    result = CliRunner().invoke(cli, ["table1", *options])
    assert result.exit_code == 0 and result.output.startswith("# Table 1, measured here\n")
    assert "On a Tuesday." in result.output
