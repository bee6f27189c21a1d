"""The leaderboard's columns, and its rows as text: a table for people, JSON and CSV for programs, Markdown and LaTeX.

`COLUMNS` is the one table of columns: the terminal, every format and the HTML report show what stands there.
The formats for people show Table 1 beside, where the paper has that cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any, Literal, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from arena.reporting.published import BLANK, DATASET, Cell, table1
from arena.reporting.text import (
    LATEX,
    MARKDOWN,
    NORM_NAMES,
    PLAIN,
    Format,
    Style,
    about_intervals,
    as_csv,
    as_json,
    as_latex,
    as_markdown,
    close_up,
    empty_table,
    fits,
    latex_norm,
    printed,
    says,
    screen,
    style_of,
)
from arena.store.intervals import LEVEL, Interval
from arena.store.leaderboard import ALL, LeaderboardRow

View = Literal["every", "overview", "extra", "detail"]


class Column(NamedTuple):
    """What is shown of a row.

    name: in JSON and CSV; None: for people only. heading: everywhere else; None: for programs only (people read it in a
    title or in front of the line). show: the value in a style; empty where it says nothing, and a column that says
    nothing in any row is left out. view: where people read, an "overview" and an "extra" give way to a "detail"; JSON
    and CSV have extras and details only where a row has them. interval: of a distance or a share; people read it in the
    same cell.
    """

    name: str | None
    heading: str | None
    value: Callable[[LeaderboardRow], Any]
    show: Callable[[Style, Any], str] = Style.some
    view: View = "every"
    interval: Callable[[LeaderboardRow], Interval | None] | None = None

    def text(self, row: LeaderboardRow, style: Style, intervals: bool = False) -> str:
        if self.interval is None:
            return self.show(style, self.value(row))
        show = style.share_of if self.show is Style.share else style.distance_of
        return show(self.value(row), self.interval(row), intervals)


def _published(row: LeaderboardRow) -> Cell:
    return table1().get((row.norm, row.attack, row.defense), BLANK) if row.dataset == DATASET else BLANK


def _after(queries: int) -> Column:
    """The last point of the curve up to so many queries."""

    def reached(row: LeaderboardRow) -> float | None:
        return [distance for at, distance in [(0, None), *(row.curve or [])] if at <= queries][-1]

    return Column(None, f"after {queries}", reached, Style.distance, "detail")


def _difference(stem: str, heading: str, show: Callable[[Style, Any], str]) -> list[Column]:
    """What `--against` adds: for people with its interval in one cell, which it says little without."""

    def value(row: LeaderboardRow) -> Any:
        return row.difference and getattr(row.difference, stem)

    def interval(row: LeaderboardRow) -> Any:
        return row.difference and getattr(row.difference, f"{stem}_interval")

    name = f"{stem}_difference"
    return [
        Column(None, heading, lambda row: (value(row), interval(row)), show, "detail"),
        Column(name, None, value, view="detail"),
        Column(f"{name}_low", None, lambda row: interval(row) and interval(row).low, view="detail"),
        Column(f"{name}_high", None, lambda row: interval(row) and interval(row).high, view="detail"),
    ]


COLUMNS = (
    Column("defense", None, lambda row: row.defense),
    Column("norm", None, lambda row: row.norm),
    Column("attack", None, lambda row: row.attack),
    Column("samples", "samples", lambda row: row.samples, Style.number),
    Column("errors", "errors", lambda row: row.errors),
    Column("clean_accuracy", "clean", lambda row: row.clean_accuracy, Style.share, "overview"),
    Column(
        "median_distance",
        "median",
        lambda row: row.median_distance,
        Style.distance,
        interval=lambda row: row.median_interval,
    ),
    Column("median_low", None, lambda row: row.median_interval and row.median_interval.low),
    Column("median_high", None, lambda row: row.median_interval and row.median_interval.high),
    Column("epsilon", None, lambda row: row.epsilon),
    Column("accuracy", "acc.", lambda row: row.accuracy, Style.share, interval=lambda row: row.accuracy_interval),
    Column("accuracy_low", None, lambda row: row.accuracy_interval and row.accuracy_interval.low),
    Column("accuracy_high", None, lambda row: row.accuracy_interval and row.accuracy_interval.high),
    Column("unstable", "unstable", lambda row: row.unstable),
    Column("masked", "masked", lambda row: row.masked),
    Column("fragile", "fragile", lambda row: row.fragile),
    Column(
        "lower_bound_mean",
        "mean bound",
        lambda row: row.bracket and row.bracket.lower_bound_mean,
        Style.distance,
        "overview",
    ),
    Column(
        "mean_distance", "mean dist.", lambda row: row.bracket and row.bracket.mean_distance, Style.distance, "overview"
    ),
    Column("tightness", "bound / dist.", lambda row: row.bracket and row.bracket.tightness, Style.share, "overview"),
    Column("proven", "proven", lambda row: row.bracket and row.bracket.proven, Style.share, "overview"),
    Column(
        "statistical_bound_mean",
        "stat. bound",
        lambda row: row.statistical and row.statistical.lower_bound_mean,
        Style.distance,
        "overview",
    ),
    Column(
        "statistical_tightness",
        "stat. / dist.",
        lambda row: row.statistical and row.statistical.tightness,
        Style.share,
        "overview",
    ),
    Column(None, "paper median", lambda row: _published(row).median_distance, Style.distance, "overview"),
    Column(None, "paper acc.", lambda row: _published(row).accuracy, Style.percentage, "overview"),
    Column("rank", "rank", lambda row: row.standing and row.standing.rank, Style.number, "extra"),
    Column(
        "rank_probability",
        "P(rank)",
        lambda row: row.standing and row.standing.probability,
        Style.percentage,
        "extra",
    ),
    Column(
        "first_probability",
        "P(first)",
        lambda row: row.standing and row.standing.first,
        Style.percentage,
        "extra",
    ),
    Column("rank_samples", "rank samples", lambda row: row.standing and row.standing.samples, Style.number, "extra"),
    Column(
        "shared_samples",
        "shared samples",
        lambda row: row.difference and row.difference.samples,
        Style.number,
        "detail",
    ),
    *_difference("median", "median diff. [95%]", Style.signed),
    *_difference("accuracy", "acc. diff. [95%]", Style.signed_share),
    Column("optimality", "opt.", lambda row: row.rank and row.rank.optimality, Style.share, "detail"),
    Column("unique", "unique", lambda row: row.rank and row.rank.unique, view="detail"),
    Column(
        "median_queries", "median queries", lambda row: row.rank and row.rank.median_queries, Style.number, "detail"
    ),
    Column(
        "median_seconds", "median seconds", lambda row: row.rank and row.rank.median_seconds, Style.distance, "detail"
    ),
    *(_after(queries) for queries in (10, 100, 1000, 10_000)),
    Column("curve", None, lambda row: row.curve, view="detail"),
    Column("warnings", None, lambda row: [asdict(sign) for sign in row.warnings] or None, view="extra"),
    Column("fingerprint", None, lambda row: row.fingerprint),
    Column("dataset", None, lambda row: row.dataset),
)


def for_people(rows: Sequence[LeaderboardRow]) -> list[Column]:
    """The columns with a heading that say something about these rows."""
    told = [column for column in COLUMNS if column.heading and any(column.text(row, PLAIN) for row in rows)]
    details = any(column.view == "detail" for column in told)
    return [column for column in told if not (details and column.view in ("overview", "extra"))]


def for_programs(rows: Sequence[LeaderboardRow]) -> list[Column]:
    """The columns with a name; extras and details only where a row has them."""
    named = [column for column in COLUMNS if column.name]
    always = ("every", "overview")
    return [column for column in named if column.view in always or any(column.value(row) is not None for row in rows)]


def render(
    rows: Sequence[LeaderboardRow], form: Format, console: Console | None = None, intervals: bool | None = None
) -> str:
    """The rows in their order; `console` (default: standard output) decides width and colours of a table.

    intervals: whether people see them; by default a table shows them where all of it has room, documents always do.
    """
    if form == "table":
        return _table(rows, screen(console), intervals)
    if form in ("json", "csv"):
        columns = for_programs(rows)
        objects = [{str(column.name): column.value(row) for column in columns} for row in rows]
        return as_json(objects) if form == "json" else as_csv([str(column.name) for column in columns], objects)
    return (_markdown if form == "markdown" else _latex)(rows, intervals is not False)


def _markdown(rows: Sequence[LeaderboardRow], intervals: bool) -> str:
    shown = _Shown(for_people(rows), MARKDOWN, intervals)
    lines = [[NORM_NAMES[row.norm], *map(MARKDOWN.name, (row.defense, row.attack)), *shown.cells(row)] for row in rows]
    table = as_markdown(["norm", "defense", "attack", *shown.headings(rows)], lines, labels=3)
    notes = [f"* {note}" for note in doubts(rows, MARKDOWN)]
    return "\n".join([table, *(["", MASKED, "", *notes] if notes else [])])


def _latex(rows: Sequence[LeaderboardRow], intervals: bool) -> str:
    shown = _Shown(for_people(rows), LATEX, intervals)
    blocks = [
        [[latex_norm(norm), *map(LATEX.name, (defense, row.attack)), *shown.cells(row)] for row in block]
        for (norm, defense), block in groupby(rows, key=lambda row: (row.norm, row.defense))
    ]
    table = as_latex(["norm", "defense", "attack", *shown.headings(rows)], blocks, labels=3)
    return "\n".join([table, *(rf"\par{{\footnotesize {note}}}" for note in doubts(rows, LATEX))])


def _table(rows: Sequence[LeaderboardRow], console: Console, intervals: bool | None) -> str:
    """One table a norm, a section for each defense; where every row is "all", a line."""
    if not rows:
        return "no results"
    tables = list(_tables(rows, console, intervals is not False))
    if intervals is None and not all(fits(table, console) for table in tables):
        tables = list(_tables(rows, console, intervals := False))
    parts: list[RenderableType] = []
    for table in tables:
        parts += [close_up(table, console), ""]
    style = style_of(console)
    if any(says(table, style.about) for table in tables):
        parts += [Text(about_intervals(style)), ""]
    if notes := doubts(rows, style):
        parts += [Text(f"{DOUBT} {MASKED}"), *(Text(f"  {note}") for note in notes), ""]
    return printed(Group(*parts[:-1]), console)


DOUBT = "*"
MASKED = "Gradients may be masked, and these defenses look more robust than they are:"


def doubts(rows: Sequence[LeaderboardRow], style: Style) -> list[str]:
    """The signs of masked gradients (`arena.store.masking`), a line each."""
    return [
        f"{style.name(row.defense)}, {NORM_NAMES[row.norm]}: {style.name(str(doubt))}"
        for row in rows
        for doubt in row.warnings
    ]


def _tables(rows: Sequence[LeaderboardRow], console: Console, intervals: bool) -> Iterator[Table]:
    lines_only = all(row.attack == ALL for row in rows)
    style = style_of(console)
    for _, of_norm in groupby(rows, key=lambda row: row.norm):
        block = list(of_norm)
        shown = _Shown(for_people(block), style, intervals)
        table = empty_table("defense" if lines_only else "attack", shown.headings(block))
        for defense, members in groupby(block, key=lambda row: row.defense):
            if not lines_only:
                table.add_section()
                table.add_row(Text(style.name(defense), style="bold"))
            for row in members:
                table.title = NORM_NAMES[row.norm]
                table.title += "" if row.epsilon is None else f", accuracy at {row.epsilon:g}"
                label = style.name(defense) if lines_only else f" {style.name(row.attack)}"
                label += f" {DOUBT}" if row.warnings else ""
                weight = "bold" if row.attack == ALL and not lines_only else None
                table.add_row(Text(label), *shown.cells(row), style=weight)
        yield table


class _Shown(NamedTuple):
    """Columns as a format shows them, with intervals or without."""

    columns: Sequence[Column]
    style: Style
    intervals: bool

    def headings(self, rows: Sequence[LeaderboardRow]) -> list[str]:
        """As they are above these rows."""
        level = f" [{LEVEL:.0%}]".replace("%", self.style.percent)
        spread = [self.intervals and column.interval and any(map(column.interval, rows)) for column in self.columns]
        headings = [str(column.heading).replace("%", self.style.percent) for column in self.columns]
        return [heading + level * bool(of) for heading, of in zip(headings, spread, strict=True)]

    def cells(self, row: LeaderboardRow) -> list[str]:
        return [column.text(row, self.style, self.intervals) for column in self.columns]
