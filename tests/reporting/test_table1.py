"""Table 1 of the paper, as played here."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from stores import attack, defense, open_match, record
from typed import present

from arena.geometry.norms import Norm
from arena.reporting.published import DEFENSES, table1, table1_rows
from arena.reporting.table1 import NOTHING, entries, render
from arena.reporting.text import Format
from arena.store.store import Store, open_store


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(open_store("sqlite://")) as store:
        yield store


def play(store: Store, which: str, how: str, norm: Norm, distances: list[float]) -> None:
    rows = [record(sample, distance=d) if d else record(sample, "misclassified") for sample, d in enumerate(distances)]
    store.append(open_match(store, defense(which), attack(how, norm)), rows)


@pytest.fixture
def played(store: Store) -> Store:
    play(store, "cnn", "fgm", "l2", [0, 1.0, 2.0, 4.0])
    play(store, "cnn", "boundary", "l2", [0, 2.0, 1.0])
    play(store, "cnn", "ddn", "l2", [0, 0.5, 0.5, 0.5])  # not the paper's
    play(store, "cnn", "fgsm", "linf", [0, 0.1, 0.2, 0.3])
    play(store, "abs", "boundary", "l2", [3.0, 1.0])
    play(store, "my-net", "fgm", "l2", [9.0] * 9)  # not the paper's either
    return store


def table(store: Store, width: int | None = None, compare: bool = False) -> str:
    console: dict[str, Any] = {"force_terminal": True, "width": width, "color_system": None} if width else {}
    return render(entries(store), "table", compare, Console(file=io.StringIO(), **console))


def cells(text: str, label: str) -> list[str]:
    """What stands behind a label, blank cells left out."""
    (found,) = [line.strip() for line in text.splitlines() if line.strip().startswith(label + "  ")]
    return [cell.strip() for cell in found.removeprefix(label).split("  ") if cell.strip()]


def test_rows_and_columns_are_the_papers(played: Store) -> None:
    found = entries(played)
    own = "all-with-own"
    rows = list(dict.fromkeys((entry.norm, entry.attack) for entry in found))
    assert rows[0] == ("clean", "clean")
    assert [row for row in rows[1:] if row[1] != own] == [(norm, attack) for norm, attack, _ in table1_rows()]
    assert rows.index(("l2", own)) == rows.index(("l2", "all")) + 1  # of linf and l0 nothing of our own was played
    assert [row for row in rows if row[1] == own] == [("l2", own)]
    assert [entry.defense for entry in found] == list(DEFENSES) * len(rows)


def test_cells_are_medians_and_accuracies_and_all_is_the_minimum_over_the_papers_attacks(played: Store) -> None:
    at = {(entry.norm, entry.attack, entry.defense): entry for entry in entries(played)}
    measured = {key: (e.samples, e.median_distance, e.accuracy) for key, e in at.items() if e.samples}
    assert measured == {
        ("clean", "clean", "cnn"): (4, None, 0.75),
        ("clean", "clean", "abs"): (2, None, 1.0),
        ("l2", "fgm", "cnn"): (4, 1.5, 0.5),
        ("l2", "boundary", "cnn"): (3, 1.0, pytest.approx(1 / 3)),
        ("l2", "boundary", "abs"): (2, 2.0, 0.5),
        ("l2", "all", "cnn"): (4, 1.0, 0.25),  # 0, 1, 1, 4
        ("l2", "all", "abs"): (2, 2.0, 0.5),
        ("l2", "all-with-own", "cnn"): (4, 0.5, 0.0),
        ("l2", "all-with-own", "abs"): (2, 2.0, 0.5),
        ("linf", "fgsm", "cnn"): (4, pytest.approx(0.15), 0.0),
        ("linf", "all", "cnn"): (4, pytest.approx(0.15), 0.0),
    }
    assert (at["l2", "fgm", "cnn"].paper_median_distance, at["l2", "fgm", "cnn"].paper_accuracy) == (1.4, 0.48)
    assert at["l2", "fgm", "abs"].paper_accuracy is None  # blank: does not apply


def test_the_table_has_blanks_where_nothing_was_measured(played: Store) -> None:
    text = table(played)
    assert cells(text, "FGM") == ["≈1.50 / 50%"]
    assert cells(text, "Boundary Attack") == ["≈1.00 / 33%", "≈2.00 / 50%"]
    assert cells(text, "+ arena's own attacks") == ["≈0.50 / 0%", "≈2.00 / 50%"]
    assert cells(text, "FGSM") == ["≈0.150 / 0%"]
    assert "≈ of so few samples" in text
    assert "L2, accuracy at 1.5" in text and "paper" not in text.split("\n\n")[0]


def test_footnotes_say_where_samples_differ_and_what_is_missing(played: Store) -> None:
    text = table(played)
    assert "Samples: 4 of CNN; 2 of ABS." in text
    assert "Fewer: 3 in boundary (CNN)." in text
    assert f"No result yet: {107 - 4} of the paper's 107 cells." in text


def test_footnotes_name_attacks_not_minima(store: Store) -> None:
    play(store, "abs", "boundary", "l2", [1.0, 2.0])
    play(store, "abs", "mim-ge", "linf", [0.2])
    play(store, "cnn", "mim-ge", "linf", [0.2])
    assert "Fewer: 1 in mim-ge (ABS)." in table(store)


def test_compare_shows_ours_and_the_papers(played: Store) -> None:
    text = table(played, compare=True)
    assert cells(text, "FGM") == ["≈1.50 / 50%"]
    assert cells(text.split("FGM ")[1].split("FGM w/")[0], "paper") == ["1.4 / 48%", "1.4 / 50%", "\u221e / 96%"]
    markdown = render(entries(played), "markdown", compare=True, intervals=False)
    assert "| FGM | 1.50 / 50% (1.4 / 48%) | (1.4 / 50%) |  | (\u221e / 96%) |  |  |" in markdown
    latex = render(entries(played), "latex", compare=True, intervals=False)
    assert r"FGM & 1.50 / 50\% (1.4 / 48\%) & (1.4 / 50\%) &  & ($\infty$ / 96\%) &  &  \\" in latex
    assert r"Salt\&Pepper Noise" in latex


def test_every_cell_of_a_document_says_of_how_many_samples_it_is_with_its_intervals(store: Store) -> None:
    play(store, "cnn", "fgm", "l2", [0.5, 1.0, 1.25, 1.75, 2.0, 4.0, 4.0, 5.0])
    play(store, "cnn", "boundary", "l2", [1.0] * 4)
    # Order statistics: the first and the last of 8. Clopper and Pearson: 5 of 8, 0 of 4.
    markdown = render(entries(store), "markdown", compare=True)
    assert "| FGM | 1.88 [0.50, 5.00] / 62% [24, 91] of 8 (1.4 / 48%) |" in markdown
    assert "| Boundary Attack | 1.00 [0.00, \u221e] / 0% [0, 60] of 4 (1.2 / 21%) |" in markdown
    assert "| Clean | 100.0% [63, 100] of 8 (99.1%) |" in markdown
    latex = render(entries(store), "latex")
    assert r"Boundary Attack & 1.00 [0.00, $\infty$] / 0\% [0, 60] of 4 &" in latex
    of_fgm = next(e for e in json.loads(render(entries(store), "json")) if e["attack"] == "fgm")
    ends = [of_fgm[name] for name in ("samples", "median_low", "median_high", "accuracy_low", "accuracy_high")]
    assert ends == [8, 0.5, 5.0, pytest.approx(0.2449, abs=1e-4), pytest.approx(0.9148, abs=1e-4)]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_samples_and_intervals_below_where_asked(played: Store, width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    lines = render(entries(played), "table", False, console, intervals=True).splitlines()
    assert max(map(len, lines)) <= width
    (place,) = [place for place, line in enumerate(lines) if line.split()[:1] == ["FGM"] and "w/" not in line]
    assert "1.50" in lines[place] and "≈" not in lines[place]
    below = [line.split() for line in lines[place + 1 : place + 4]]
    assert [line[0] for line in below] == ["samples", "median", "accuracy"]
    assert [line[-1] for line in below] == ["4", "\u221e]", "93]"]


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_every_line_has_all_columns(played: Store, form: Format) -> None:
    text = render(entries(played), form)
    mark, count = {"markdown": ("|", 8), "latex": (" & ", 6)}[form]
    ours = [line for line in text.splitlines() if mark in line and "\\begin" not in line]
    assert len(ours) > 25 and {line.count(mark) for line in ours} == {count}


@pytest.fixture(scope="module")
def full() -> Iterator[Store]:
    """The paper's numbers, played."""
    with closing(open_store("sqlite://")) as store:
        for (norm, how, which), cell in table1().items():
            if how != "all":
                play(store, which, how, norm, [min(present(cell.median_distance), 99.99)])
        yield store


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("compare", [False, True])
def test_a_full_table_fits_the_terminal(full: Store, width: int, compare: bool) -> None:
    text = table(full, width, compare)
    assert max(map(len, text.splitlines())) <= width
    assert "\u2026" not in text and "No result yet" not in text and "Samples: 1." in text
    assert ("%" in text.split("Samples")[0].replace("in %", "")) == (width == 120)


def test_json_and_csv_list_what_has_a_value(played: Store) -> None:
    ours = json.loads(render(entries(played), "json"))
    assert len(ours) == 11 and not any(name.startswith("paper") for name in ours[0])
    both = json.loads(render(entries(played), "json", compare=True))
    assert len(both) == 6 + 107 + 18 + 2  # clean, cells, "All"; the two cells of our own attacks
    assert {entry["paper_median_distance"] for entry in both} >= {"inf", 1.4}
    rows = list(csv.DictReader(io.StringIO(render(entries(played), "csv", compare=True))))
    assert len(rows) == len(both) and rows[0]["row"] == "Clean"


@pytest.mark.parametrize("form", ["table", "markdown", "latex"])
def test_without_results_there_is_one_clear_line(store: Store, form: Format) -> None:
    play(store, "my-net", "fgm", "l2", [1.0])
    assert render(entries(store), form, compare=True) == NOTHING


def test_the_command(tmp_path: Path) -> None:
    with closing(open_store(str(tmp_path / "arena.db"))) as store:
        play(store, "cnn", "fgm", "l2", [1.0])
    command = [str(Path(sys.executable).with_name("arena")), "table1", "--compare"]
    piped = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"ARENA_DB": ""})
    assert piped.returncode == 0 and "\x1b" not in piped.stdout
    assert cells(piped.stdout, "FGM")[0] == "≈1.00 / 0%"
    missing = subprocess.run([*command, "--db", "no.db"], cwd=tmp_path, capture_output=True, text=True)
    assert missing.returncode == 2 and len(missing.stderr.splitlines()) == 1
