"""Leaderboard rows as text: a table for people, JSON and CSV for programs, Markdown and LaTeX for papers.

The formats for people show Table 1 beside, where the paper has that cell.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from itertools import groupby
from typing import Any, Literal, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from arena.leaderboard import ALL, LeaderboardRow
from arena.published import BLANK, Cell, table1
from arena.record import Norm

Format = Literal["table", "json", "csv", "markdown", "latex"]

NORM_NAMES: dict[Norm, str] = {"l0": "L0", "l2": "L2", "linf": "Linf"}
PIPE_WIDTH = 200  # more than any table needs: what no terminal limits is not folded


class _Style(NamedTuple):
    infinity: str
    percent: str

    def distance(self, value: float | None) -> str:
        if value is None:
            return ""
        return self.infinity if value == math.inf else f"{value:.3g}"

    def share(self, value: float | None, digits: int = 1) -> str:
        return "" if value is None else f"{100 * value:.{digits}f}{self.percent}"


PLAIN = _Style("\N{INFINITY}", "%")
_LATEX = _Style(r"$\infty$", r"\%")
_LATEX_SPECIAL = str.maketrans({character: "\\" + character for character in "_&%$#{}"})

_CELLS: dict[str, Callable[[LeaderboardRow, _Style], str]] = {
    "samples": lambda row, style: str(row.samples),
    "errors": lambda row, style: str(row.errors or ""),
    "clean": lambda row, style: style.share(row.clean_accuracy),
    "median": lambda row, style: style.distance(row.median_distance),
    "acc.": lambda row, style: style.share(row.accuracy),
    "bound": lambda row, style: style.distance(row.lower_bound_mean),
    "paper median": lambda row, style: style.distance(_published(row).median_distance),
    "paper acc.": lambda row, style: style.share(_published(row).accuracy, digits=0),
}


def _published(row: LeaderboardRow) -> Cell:
    return table1().get((row.norm, row.attack, row.defense), BLANK)


def render(rows: Sequence[LeaderboardRow], form: Format, console: Console | None = None) -> str:
    """The rows in their order; `console` (default: standard output) decides width and colours of a table."""
    if form == "table":
        return _table(rows, console or Console())
    return {"json": _json, "csv": _csv, "markdown": _markdown, "latex": _latex}[form](rows)


def _json(rows: Sequence[LeaderboardRow]) -> str:
    return json.dumps([_plain(row) for row in rows], indent=2, allow_nan=False)


def _csv(rows: Sequence[LeaderboardRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(LeaderboardRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_plain, rows))
    return text.getvalue().rstrip("\n")


def _plain(row: LeaderboardRow) -> dict[str, Any]:
    """A row without infinity, which JSON has no number for."""
    return {name: "inf" if value == math.inf else value for name, value in asdict(row).items()}


def _markdown(rows: Sequence[LeaderboardRow]) -> str:
    columns = _columns(rows)
    lines = [
        ["norm", "defense", "attack", *columns],
        [*["---"] * 3, *["--:"] * len(columns)],
        *([NORM_NAMES[row.norm], row.defense, row.attack, *_cells(columns, row, PLAIN)] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _latex(rows: Sequence[LeaderboardRow]) -> str:
    columns = _columns(rows)
    lines = [r"\begin{tabular}{lll" + "r" * len(columns) + "}", r"\hline"]
    lines += [" & ".join(["norm", "defense", "attack", *columns]) + r" \\", r"\hline"]
    for (norm, defense), block in groupby(rows, key=lambda row: (row.norm, row.defense)):
        for row in block:
            symbol = r"$L_\infty$" if norm == "linf" else f"$L_{norm[1:]}$"
            names = [symbol, *(name.translate(_LATEX_SPECIAL) for name in (defense, row.attack))]
            lines.append(" & ".join([*names, *_cells(columns, row, _LATEX)]) + r" \\")
        lines.append(r"\hline")
    return "\n".join([*lines, r"\end{tabular}"])


def _table(rows: Sequence[LeaderboardRow], console: Console) -> str:
    """One table a norm. Its sections are defenses; attacks where no row is "all"; none where every row is."""
    if not rows:
        return "no results"
    if not console.is_terminal:
        console = Console(file=io.StringIO(), width=PIPE_WIDTH)
    every_is_all, any_is_all = (of(row.attack == ALL for row in rows) for of in (all, any))
    section, label = ("defense", "attack") if any_is_all and not every_is_all else ("attack", "defense")
    columns = _columns(rows)
    tables: list[RenderableType] = []
    for _, block in groupby(rows, key=lambda row: row.norm):
        table = _empty_table(label, columns, gap=2 if console.width >= 80 else 1)
        for name, members in groupby(block, key=lambda row: getattr(row, section)):
            if not every_is_all:
                table.add_section()
                table.add_row(Text(name, style="bold"))
            for row in members:
                table.title = f"{NORM_NAMES[row.norm]}, accuracy at {row.epsilon:g}"
                text = Text(("" if every_is_all else " ") + getattr(row, label))
                style = "bold" if row.attack == ALL and not every_is_all else None
                table.add_row(text, *_cells(columns, row, PLAIN), style=style)
        tables += [table, ""]
    with console.capture() as capture:
        console.print(Group(*tables[:-1]))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _empty_table(label: str, columns: Sequence[str], gap: int) -> Table:
    # The box itself puts one space between columns.
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    table.title_justify, table.title_style = "left", "bold"
    table.add_column(label, overflow="fold")
    for name in columns:
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    return table


def _columns(rows: Sequence[LeaderboardRow]) -> list[str]:
    """The columns that say something about these rows."""
    return [name for name, cell in _CELLS.items() if any(cell(row, PLAIN) for row in rows)]


def _cells(columns: Sequence[str], row: LeaderboardRow, style: _Style) -> list[str]:
    return [_CELLS[name](row, style) for name in columns]
