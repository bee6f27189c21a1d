"""Leaderboard rows as text, for people and for programs."""

import csv
import io
import json
import math
from typing import Any

import pytest
from paths import ROOT, SHARED
from rich.console import Console
from typed import present

from arena.geometry.norms import Norm
from arena.reporting.columns import render
from arena.reporting.published import table1
from arena.reporting.text import Format
from arena.store.intervals import Interval
from arena.store.leaderboard import Bracket, LeaderboardRow, Rank
from arena.store.masking import Doubt
from arena.store.standing import Difference, Standing

PAPER = SHARED / "paper" / "table1.csv"


def row(defense: str = "cnn", norm: Norm = "l2", attack: str = "boundary", **fields: Any) -> LeaderboardRow:
    values: dict[str, Any] = {
        "samples": 200,
        "errors": 0,
        "clean_accuracy": 0.99,
        "median_distance": 1.2345,
        "epsilon": {"l2": 1.5, "linf": 0.3}[norm],
        "accuracy": 0.215,
        "fingerprint": "f" * 64,
        "dataset": "mnist",
    }
    return LeaderboardRow(defense, norm, attack, **values | fields)


BOARD = [
    row(),
    row(attack="deepfool-l2-ge", median_distance=math.inf, accuracy=0.8),
    row(attack="all"),
    row("nearest-neighbor", errors=3, samples=0, clean_accuracy=None, median_distance=None, accuracy=None),
    row("nearest-neighbor", attack="all", bracket=Bracket(1.02, 1.2345, 0.9, 1.0)),
    row("my_net", "linf", "my_attack"),
    row("my_net", "linf", "all"),
]


def table(rows: list[LeaderboardRow], width: int | None = None, intervals: bool | None = None) -> str:
    console: dict[str, Any] = {"force_terminal": True, "width": width, "color_system": None} if width else {}
    return render(rows, "table", Console(file=io.StringIO(), **console), intervals)


def cells(text: str, label: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [label]]
    return line.split()[1:]


def test_json_has_the_fields_and_no_number_that_json_lacks() -> None:
    rows = json.loads(render(BOARD, "json"))
    assert len(rows) == len(BOARD)
    assert list(rows[0].items())[:4] == [("defense", "cnn"), ("norm", "l2"), ("attack", "boundary"), ("samples", 200)]
    assert rows[0].keys() >= {"clean_accuracy", "epsilon", "accuracy", "lower_bound_mean", "errors", "fingerprint"}
    assert [row["median_distance"] for row in rows[:4]] == [1.2345, "inf", 1.2345, None]


def test_csv_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(render(BOARD, "csv"))))
    assert [row["median_distance"] for row in rows[:4]] == ["1.2345", "inf", "1.2345", ""]
    assert [float(row["accuracy"]) for row in rows[:2]] == [0.215, 0.8]


def test_markdown_is_one_table_with_the_papers_values() -> None:
    header, rule, *lines = render(BOARD, "markdown").splitlines()
    assert len(lines) == len(BOARD)
    assert {line.count("|") for line in (header, rule, *lines)} == {header.count("|")}
    assert lines[1] == "| L2 | cnn | deepfool-l2-ge | 200 |  | 99.0% | \N{INFINITY} | 80.0% |  |  |  |  | 1.3 | 30% |"


def test_latex_escapes_what_latex_would_read() -> None:
    text = render(BOARD, "latex")
    assert r"$L_2$ & cnn & deepfool-l2-ge & 200 &  & 99.0\% & $\infty$ & 80.0\% &  &  &  &  & 1.3 & 30\% \\" in text
    assert r"$L_\infty$ & my\_net & my\_attack &" in text
    (columns,) = [line for line in text.splitlines() if line.startswith(r"\begin")]
    ends = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in ends} == {len(columns.split("{")[2]) - 2}


def test_the_table_shows_the_paper_beside_where_it_has_that_cell() -> None:
    text = table([row(), row(attack="all"), row(attack="invert"), row("nearest-neighbor", attack="gaussian-noise")])
    assert cells(text, "boundary") == ["200", "99.0%", "1.23", "21.5%", "1.2", "21%"]
    assert cells(text, "invert") == ["200", "99.0%", "1.23", "21.5%"]
    assert cells(text, "gaussian-noise")[-2:] == ["\N{INFINITY}", "91%"]


RANK = Rank(0.987, 3, 1568.5, 0.1234)


FEW = row("few", samples=4, median_interval=Interval(0, math.inf), accuracy_interval=Interval(0.19, 0.99))
MANY = row("many", samples=1000, median_interval=Interval(1.1, 1.3), accuracy_interval=Interval(0.19, 0.24))


def test_intervals_stand_in_the_cells_of_documents_and_wide_tables() -> None:
    lines = [row("few", attack="all"), FEW, MANY]
    assert cells(table([FEW]), "boundary")[2:6] == ["1.23", "[0,", "\N{INFINITY}]", "21.5%"]
    assert cells(table([MANY]), "boundary")[2:6] == ["1.23", "[1.1,", "1.3]", "21.5%"]
    assert "| 1.23 [1.1, 1.3] | 21.5% [19, 24] |" in render(lines, "markdown")
    assert r"& 1.23 [0, $\infty$] & 21.5\% [19, 99] \\" in render(lines, "latex")
    assert "[1.1" not in render(lines, "markdown", intervals=False)
    assert r"$\approx$1.23 & $\approx$21.5\%" in render(lines, "latex", intervals=False)


def test_programs_have_the_ends_of_intervals_in_columns_of_their_own() -> None:
    few, without = json.loads(render([FEW, row()], "json"))
    names = ("median_low", "median_high", "accuracy_low", "accuracy_high")
    assert [few[name] for name in names] == [0, "inf", 0.19, 0.99]
    assert [without[name] for name in names] == [None] * 4
    (first,) = csv.DictReader(io.StringIO(render([FEW], "csv")))
    assert [first[name] for name in names] == ["0", "inf", "0.19", "0.99"]


def test_where_intervals_have_no_room_numbers_of_few_samples_are_marked() -> None:
    text = table([FEW, MANY], 50)
    few, many = [line.split() for line in text.splitlines() if line.split()[:1] == ["boundary"]]
    assert few[1:] == ["4", "99.0%", "≈1.23", "≈21.5%"] and many[3:] == ["1.23", "21.5%"]
    assert "≈ of so few samples" in text and "≈" not in table([MANY], 50)
    assert "≈" not in table([FEW, MANY], 120) and "≈" not in table([FEW, MANY], 50, intervals=True)


@pytest.mark.parametrize("width", [44, 60, 80])
def test_intervals_that_were_asked_for_are_never_cut(width: int) -> None:
    text = table([FEW, MANY], width, intervals=True)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("1.23 [1.1, 1.3]") == 1 and "\N{HORIZONTAL ELLIPSIS}" not in text


STANDING = Standing(20, 2, 0.69, 0.01)
DIFFERENCE = Difference(20, -0.35, Interval(-math.inf, 0.17), 0.05, Interval(-0.13, 0.22))


def test_a_standing_is_shown_beside_and_a_difference_with_its_interval() -> None:
    text = table([row(attack="all", standing=STANDING), row("abs", attack="all")])
    assert cells(text, "cnn")[-4:] == ["2", "69%", "1%", "20"] and "99.0%" in text
    board = [row(attack="all", standing=STANDING, difference=DIFFERENCE), row("abs", attack="all")]
    compared = table(board)
    assert cells(compared, "cnn")[3:] == ["20", "-0.35", "[-∞,", "+0.17]", "+5.0%", "[-13,", "+22]"]
    (ours, other) = json.loads(render(board, "json"))
    assert [ours[f"median_difference{end}"] for end in ("", "_low", "_high")] == [-0.35, "-inf", 0.17]
    assert ours["rank_probability"] == 0.69 and other["rank"] is other["accuracy_difference_low"] is None
    assert "-inf" in render(board, "csv") and "'-inf" not in render(board, "csv")
    assert r"acc. diff. [95\%]" in render(board, "latex")


DOUBT = Doubt("no gradients", 16, 20, "pointwise_l0", "fmn-l0")


@pytest.mark.parametrize("names", [("cnn", "abs"), ("cnn",)])
def test_doubts_stand_below_with_the_defense_marked(names: tuple[str, ...]) -> None:
    board = [row(name, attack="all", warnings=(DOUBT,) if name == "cnn" else ()) for name in names]
    text = table(board)
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("cnn")] == [["cnn", "*"]]
    said = (
        "cnn, L2: attacks without gradients are closer than those with them on 16 of 20 samples (most often pointwise"
    )
    assert f"  {said}_l0, than fmn-l0)" in text.splitlines()
    assert f"* {said}_l0, than fmn-l0)" in render(board, "markdown").splitlines()
    assert f"{said}\\_l0, than fmn-l0)" in render(board, "latex")
    (told,) = json.loads(render(board[:1], "json"))[0]["warnings"]
    assert told == {"sign": "no gradients", "count": 16, "samples": 20, "closer": "pointwise_l0", "than": "fmn-l0"}
    assert max(map(len, table(board, 60).splitlines())) <= 60
    assert "masked" not in table([row(attack="all")]) and "warnings" not in render([row()], "json")


def test_a_ranking_shows_its_columns_and_those_that_matter_beside() -> None:
    board = [row(rank=RANK), row(attack="invert", rank=Rank(None, 0, 1568.5, 0.1234), fragile=2)]
    text = table(board, 80)
    assert cells(text, "boundary") == ["200", "1.23", "21.5%", "98.7%", "3", "1568", "0.123"]
    assert cells(text, "invert") == ["200", "1.23", "21.5%", "2", "1568", "0.123"]
    assert "paper" not in text and "clean" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_curve_is_shown_after_powers_of_ten_and_whole_in_json_and_csv() -> None:
    curve = [(1, math.inf), (10, 3.0), (100, 2.0), (700, 1.25)]
    board = [row(curve=curve), row(attack="fgm", curve=[(50, 0.5)]), row(attack="all")]
    assert cells(table(board), "boundary")[-4:] == ["3", "2", "1.25", "1.25"]
    assert cells(table(board), "fgm")[-3:] == ["0.5"] * 3 and "0.5" not in cells(table(board), "fgm")[:-3]
    whole = [[1, "inf"], [10, 3.0], [100, 2.0], [700, 1.25]]
    assert [entry["curve"] for entry in json.loads(render(board, "json"))] == [whole, [[50, 0.5]], None]
    (first, *_) = csv.DictReader(io.StringIO(render(board, "csv")))
    assert json.loads(first["curve"]) == whole


def test_a_field_of_another_view_is_left_out() -> None:
    (plain,) = json.loads(render([row()], "json"))
    (ranked,) = json.loads(render([row(rank=Rank(None, 0, None, None))], "json"))
    assert ranked.keys() - plain.keys() == {"unique"} and plain.keys() >= {"fragile"}


def test_columns_without_a_value_are_left_out() -> None:
    assert "errors" not in table([row()])
    assert "bound" not in table([row(attack="invert")])
    assert "paper" not in table([row(attack="invert")])
    assert "errors" in table(BOARD)
    assert "bound" in table(BOARD)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    names = ("boundary", "deepfool-linf-ge", "all")
    text = table([row(which, attack=name) for which in ("cnn", "nearest-neighbor") for name in names], width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("deepfool-linf-ge") == 2  # not folded
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_name_of_any_length_leaves_room_for_the_numbers() -> None:
    text = table([row(attack="a" * 300)], 80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("a" * 50) == 5 and "21.5%" in text and "Too narrow" not in text


def test_a_name_takes_the_place_of_the_columns_that_are_left_out() -> None:
    text = table([row(attack="brendel-bethge-l0-exact", rank=RANK)], 66)
    assert "brendel-bethge-l0-exact" in text and "Too narrow for" in text


def test_a_narrow_terminal_cuts_no_number() -> None:
    text = table(BOARD, 60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("99.0%") == len(BOARD) - 1
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_terminal_too_narrow_for_all_columns_says_so_and_keeps_the_names() -> None:
    text = table([row("nearest-neighbor"), row("madry")], 44)
    assert max(map(len, text.splitlines())) <= 44
    assert {line.split()[0] for line in text.splitlines() if line} >= {"nearest-neighbor", "madry"}
    assert "Too narrow for" in text and "99.0%" in text and "paper" not in text
    assert "Too narrow for" not in table(BOARD, 120)


def test_a_pipe_gets_plain_unfolded_lines() -> None:
    text = table(BOARD, width=None)
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert {line.split()[0] for line in text.splitlines() if line} >= {"boundary", "deepfool-l2-ge", "nearest-neighbor"}


def test_sections_follow_what_was_asked() -> None:
    by_match = table([row(), row(attack="all")])
    assert [line.split()[0] for line in by_match.splitlines()[-3:]] == ["cnn", "boundary", "all"]
    by_attack = table([row(), row("abs")])
    assert [line.split()[0] for line in by_attack.split("\n\n")[-1].splitlines() if line] == ["abs", "boundary"]
    by_defense = table([row(attack="all"), row("abs", attack="all")])
    assert [line.split()[0] for line in by_defense.splitlines()[-2:]] == ["cnn", "abs"]


def test_names_are_text_not_markup() -> None:
    assert "[red]net" in table([row("[red]net")])


HOSTILE = "=a|b\n\\c~^_[d]\x1b[31m\udc80"


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("table", r"=a|b\n\c~^_[d]\x1b[31m\udc80"),
        ("markdown", r"=a\|b\\n\\c~^_\[d\]\\x1b\[31m\\udc80"),
        (
            "latex",
            r"=a\textbar{}b\textbackslash{}n\textbackslash{}c\textasciitilde{}\textasciicircum{}\_[d]"
            r"\textbackslash{}x1b[31m\textbackslash{}udc80",
        ),
        ("csv", r"'=a|b\n\c~^_[d]\x1b[31m\udc80"),
    ],
)
def test_a_name_is_text_in_every_format(form: Format, name: str) -> None:
    rows = [row(HOSTILE, attack=HOSTILE), row(HOSTILE, attack="all")]
    text = table(rows) if form == "table" else render(rows, form)
    assert text.count(name) == (2 if form == "table" else 3)
    assert len(text.splitlines()) == {"table": 6, "markdown": 4, "latex": 8, "csv": 3}[form]


@pytest.mark.parametrize("start", "=+-@")
def test_only_text_is_kept_from_being_a_formula(start: str) -> None:
    (first,) = csv.DictReader(io.StringIO(render([row(f"{start}1")], "csv")))
    assert first["defense"] == f"'{start}1"
    (first,) = csv.DictReader(io.StringIO(render([row(median_distance=-1.0)], "csv")))
    assert first["median_distance"] == "-1.0"


def test_a_console_that_lacks_characters_gets_others() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    text = render(BOARD, "table", Console(file=file))
    assert text.isascii() and cells(text, "deepfool-l2-ge")[2] == "inf"
    assert [len(line) for line in text.splitlines()] == [len(line.rstrip()) for line in table(BOARD).splitlines()]


@pytest.mark.parametrize(("form", "text"), [("table", "no results"), ("json", "[]")])
def test_no_rows(form: Format, text: str) -> None:
    assert render([], form) == text


def test_table_1_is_whole() -> None:
    cells = table1()
    every = [key for key in cells if key[1] == "all"]
    assert (len(cells), len(every)) == (107 + 18, 18)
    assert cells["l2", "all", "abs"] == (2.3, 0.80)
    assert cells["l2", "gaussian-noise", "nearest-neighbor"].median_distance == math.inf
    assert all(0 <= present(cell.accuracy) <= 1 for cell in cells.values())


def test_table_1_is_the_papers() -> None:
    if not PAPER.exists():
        pytest.skip("../shared/paper/table1.csv is not there")
    assert (ROOT / "arena" / "reporting" / "published" / "table1.csv").read_text() == PAPER.read_text()
