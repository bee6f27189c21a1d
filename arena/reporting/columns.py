"""Leaderboard rows as text: a table for people, JSON and CSV for programs, Markdown and LaTeX for papers.

The formats for people show Table 1 beside, where the paper has that cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from arena.reporting.published import BLANK, Cell, table1
from arena.reporting.text import (
    LATEX,
    NORM_NAMES,
    PLAIN,
    Format,
    Style,
    as_csv,
    as_json,
    as_latex,
    as_markdown,
    close_up,
    empty_table,
    latex_norm,
    printed,
    screen,
)
from arena.store.leaderboard import ALL, LeaderboardRow


def _after(queries: int) -> Callable[[LeaderboardRow, Style], str]:
    """The last point of the curve up to so many queries."""
    return lambda row, style: style.distance([d for at, d in [(0, None), *(row.curve or [])] if at <= queries][-1])


_CELLS: dict[str, Callable[[LeaderboardRow, Style], str]] = {
    "samples": lambda row, style: str(row.samples),
    "errors": lambda row, style: str(row.errors or ""),
    "clean": lambda row, style: style.share(row.clean_accuracy),
    "median": lambda row, style: style.distance(row.median_distance),
    "acc.": lambda row, style: style.share(row.accuracy),
    "fragile": lambda row, style: str(row.fragile or ""),
    "mean bound": lambda row, style: style.distance(row.lower_bound_mean),
    "mean dist.": lambda row, style: style.distance(row.mean_distance),
    "bound / dist.": lambda row, style: style.share(row.tightness),
    "paper median": lambda row, style: style.distance(_published(row).median_distance),
    "paper acc.": lambda row, style: style.share(_published(row).accuracy, digits=0),
}
# What --by attack and --curve add, and what they leave of the columns above.
_MORE_CELLS: dict[str, Callable[[LeaderboardRow, Style], str]] = {
    "opt.": lambda row, style: style.share(row.optimality),
    "unique": lambda row, style: str(row.unique or ""),
    "median queries": lambda row, style: "" if row.median_queries is None else f"{row.median_queries:.0f}",
    "median seconds": lambda row, style: style.distance(row.median_seconds),
    **{f"after {queries}": _after(queries) for queries in (10, 100, 1000, 10_000)},
}
_BRIEF = ("samples", "errors", "median", "acc.", "fragile")


def _published(row: LeaderboardRow) -> Cell:
    return table1().get((row.norm, row.attack, row.defense), BLANK)


def render(rows: Sequence[LeaderboardRow], form: Format, console: Console | None = None) -> str:
    """The rows in their order; `console` (default: standard output) decides width and colours of a table."""
    if form == "table":
        return _table(rows, screen(console))
    if form == "json":
        return as_json(_objects(rows))
    if form == "csv":
        return as_csv(_names(rows), _objects(rows))
    return _markdown(rows) if form == "markdown" else _latex(rows)


def _names(rows: Sequence[LeaderboardRow]) -> list[str]:
    """The fields that every view has, and those of a single view that these rows have."""
    return [
        field.name
        for field in fields(LeaderboardRow)
        if field.default is not None or any(getattr(row, field.name) is not None for row in rows)
    ]


def _objects(rows: Sequence[LeaderboardRow]) -> list[dict[str, Any]]:
    names = _names(rows)
    return [{name: getattr(row, name) for name in names} for row in rows]


def _markdown(rows: Sequence[LeaderboardRow]) -> str:
    columns = _columns(rows)
    lines = [[NORM_NAMES[row.norm], row.defense, row.attack, *_cells(columns, row, PLAIN)] for row in rows]
    return as_markdown(["norm", "defense", "attack", *columns], lines, labels=3)


def _latex(rows: Sequence[LeaderboardRow]) -> str:
    columns = _columns(rows)
    blocks = [
        [[latex_norm(norm), *map(LATEX.name, (defense, row.attack)), *_cells(columns, row, LATEX)] for row in block]
        for (norm, defense), block in groupby(rows, key=lambda row: (row.norm, row.defense))
    ]
    return as_latex(["norm", "defense", "attack", *columns], blocks, labels=3)


def _table(rows: Sequence[LeaderboardRow], console: Console) -> str:
    """One table a norm, a section for each defense; where every row is "all", a line."""
    if not rows:
        return "no results"
    lines_only = all(row.attack == ALL for row in rows)
    columns = _columns(rows)
    tables: list[RenderableType] = []
    for _, block in groupby(rows, key=lambda row: row.norm):
        table = empty_table("defense" if lines_only else "attack", columns)
        for defense, members in groupby(block, key=lambda row: row.defense):
            if not lines_only:
                table.add_section()
                table.add_row(Text(defense, style="bold"))
            for row in members:
                table.title = f"{NORM_NAMES[row.norm]}, accuracy at {row.epsilon:g}"
                text = Text(defense if lines_only else f" {row.attack}")
                style = "bold" if row.attack == ALL and not lines_only else None
                table.add_row(text, *_cells(columns, row, PLAIN), style=style)
        tables += [close_up(table, console), ""]
    return printed(Group(*tables[:-1]), console)


def _columns(rows: Sequence[LeaderboardRow]) -> list[str]:
    """The columns that say something about these rows."""
    named, more = (
        [name for name, cell in cells.items() if any(cell(row, PLAIN) for row in rows)]
        for cells in (_CELLS, _MORE_CELLS)
    )
    return [name for name in named if name in _BRIEF] + more if more else named


def _cells(columns: Sequence[str], row: LeaderboardRow, style: Style) -> list[str]:
    return [(_CELLS | _MORE_CELLS)[name](row, style) for name in columns]
