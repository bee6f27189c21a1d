"""Numbers and tables as text, whatever they say: for the terminal, Markdown, LaTeX, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rich.box import SIMPLE_HEAD, Box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table

from arena.errors import visible
from arena.geometry.norms import SPECS, Norm, spec_of
from arena.store.intervals import Interval

Format = Literal["table", "json", "csv", "markdown", "latex"]

NORM_NAMES: dict[Norm, str] = {spec.name: spec.display for spec in SPECS.values()}
PIPE_WIDTH = 200  # more than any table needs: what no terminal limits is not folded
LABEL_WIDTH = 18  # the least that a label gets, in characters: longer ones are folded


class Style(NamedTuple):
    """How numbers are written, and names: a character that the format would read as its own becomes its escape."""

    infinity: str
    percent: str
    about: str
    escapes: Mapping[int, str]

    def name(self, text: str) -> str:
        """A text that comes from elsewhere: a name, a package, a message."""
        return visible(text).translate(self.escapes)

    def distance(self, value: float | None, decimals: int | None = None) -> str:
        """A distance with so many decimals, or in three digits."""
        if value is None:
            return ""
        return self.infinity if value == math.inf else f"{value:.3g}" if decimals is None else f"{value:.{decimals}f}"

    def share(self, value: float | None, digits: int = 1) -> str:
        return "" if value is None else f"{100 * value:.{digits}f}{self.percent}"

    def percentage(self, value: float | None) -> str:
        """A share in whole percent."""
        return self.share(value, digits=0)

    def distance_of(
        self, value: float | None, interval: Interval | None, shown: bool, decimals: int | None = None
    ) -> str:
        """A distance with its interval, or where that is not shown marked if it spans more than a factor of two."""
        text = self.distance(value, decimals)
        if value is None or interval is None:
            return text
        if shown:
            return f"{text} {self.distances(interval, decimals)}"
        return self.about * interval.is_vague_distance + text

    def distances(self, interval: Interval, decimals: int | None = None) -> str:
        """The interval of a distance."""
        return f"[{self.distance(interval.low, decimals)}, {self.distance(interval.high, decimals)}]"

    def share_of(self, value: float | None, interval: Interval | None, shown: bool, digits: int = 1) -> str:
        """A share with its interval in whole percent, or where that is not shown marked if it spans more than half."""
        text = self.share(value, digits)
        if value is None or interval is None:
            return text
        if shown:
            return f"{text} {self.shares(interval)}"
        return self.about * interval.is_vague_share + text

    def shares(self, interval: tuple[float, float]) -> str:
        """The interval of a share in whole percent, without their sign."""
        low, high = interval
        return f"[{100 * low:.0f}, {100 * high:.0f}]"

    def signed(self, of: tuple[float | None, Interval | None]) -> str:
        """A difference of distances and its interval."""
        value, interval = of
        ends = "" if interval is None else f" [{self._signed(interval.low)}, {self._signed(interval.high)}]"
        return ("" if value is None else self._signed(value)) + ends

    def signed_share(self, of: tuple[float | None, Interval | None]) -> str:
        """A difference of shares in percent, and its interval in whole percent."""
        value, interval = of
        if value is None or interval is None:
            return ""
        return f"{100 * value:+.1f}{self.percent} [{100 * interval.low:+.0f}, {100 * interval.high:+.0f}]"

    def _signed(self, value: float) -> str:
        return f"{'-' if value < 0 else '+'}{self.infinity}" if math.isinf(value) else f"{value:+.3g}"

    def number(self, value: float | None) -> str:
        return "" if value is None else f"{value:.0f}"

    def some(self, value: int | None) -> str:
        """A count that says something only where it is not 0."""
        return self.number(value or None)


PLAIN = Style("\N{INFINITY}", "%", "\N{ALMOST EQUAL TO}", {})
ASCII = PLAIN._replace(infinity="inf", about="~")
MARKDOWN = PLAIN._replace(escapes={ord(character): "\\" + character for character in "\\|`*[]<>&"})
LATEX = Style(
    r"$\infty$",
    r"\%",
    r"$\approx$",
    {ord(character): "\\" + character for character in "_&%$#{}"}
    | str.maketrans(
        {
            "\\": r"\textbackslash{}",
            "~": r"\textasciitilde{}",
            "^": r"\textasciicircum{}",
            "<": r"\textless{}",
            ">": r"\textgreater{}",
            "|": r"\textbar{}",
        }
    ),
)


def about_intervals(style: Style) -> str:
    """What the mark says that stands where intervals are not shown."""
    return f"{style.about} of so few samples that the 95% interval spans a factor of two, or half of all: --intervals."


def latex_norm(norm: Norm) -> str:
    return spec_of(norm).latex


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """A list of objects; infinity, which JSON has no number for, is "inf"."""
    return json.dumps(_plain(rows), indent=2, allow_nan=False)


def as_csv(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """A line of names, then one a row; a list is written as JSON, a text so that no spreadsheet reads a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_csv_value(row[name]) for name in names])
    return text.getvalue().rstrip("\n")


def _csv_value(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(_plain(value))
    if isinstance(value, str):
        text = visible(value)
        return f"'{text}" if text.startswith(tuple("=+-@")) else text
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return {math.inf: "inf", -math.inf: "-inf"}.get(value, value) if isinstance(value, float) else value


def as_markdown(head: Sequence[str], lines: Sequence[Sequence[str]], labels: int) -> str:
    """A Markdown table whose first `labels` columns are text, the others numbers."""
    rule = ["---"] * labels + ["--:"] * (len(head) - labels)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])


def as_latex(head: Sequence[str], blocks: Sequence[Sequence[Sequence[str]]], labels: int) -> str:
    """A LaTeX tabular, a rule under each block of lines; the first `labels` columns are text, the others numbers."""
    lines = [r"\begin{tabular}{" + "l" * labels + "r" * (len(head) - labels) + "}", r"\hline"]
    for block in [[head], *blocks]:
        lines += [*(" & ".join(line) + r" \\" for line in block), r"\hline"]
    return "\n".join([*lines, r"\end{tabular}"])


class _Pipe(io.StringIO):
    """Holds what is printed for an output of this encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


def screen(console: Console | None = None) -> Console:
    """The console (default: standard output), or a wide one without colours where it is no terminal."""
    console = console or Console()
    return console if console.is_terminal else Console(file=_Pipe(console.encoding), width=PIPE_WIDTH)


def style_of(console: Console) -> Style:
    """How a console shows numbers: without signs that its encoding may lack."""
    return ASCII if console.options.ascii_only else PLAIN


def empty_table(label: str, columns: Sequence[str]) -> Table:
    """A table for numbers beside their labels, two spaces between columns; a name takes two lines."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))  # the box adds one space
    table.title_justify, table.title_style, table.caption_justify = "left", "bold", "left"
    table.add_column(label, overflow="fold")
    for name in columns:
        table.add_column(name.replace(" ", "\n", 1), justify="right", no_wrap=True)
    return table


def says(table: Table, mark: str) -> bool:
    """Whether a number of the table has this mark."""
    return any(mark in str(cell) for column in table.columns[1:] for cell in column.cells)


def fits(table: Table, console: Console) -> bool:
    """Whether the console has room for the table as it is."""
    unlimited = console.options.update(max_width=10 * PIPE_WIDTH)
    return Measurement.get(console, unlimited, table).maximum <= console.width


def close_up(table: Table, console: Console) -> Table:
    """The table as the console has characters and room for it: where it is too wide, one space between columns and
    labels folded; where it still is, without the last columns, and saying so."""
    if console.options.ascii_only:
        table.box = Box(str(SIMPLE_HEAD).replace("\N{BOX DRAWINGS LIGHT HORIZONTAL}", "-"), ascii=True)
    unlimited = console.options.update(max_width=10 * PIPE_WIDTH)
    labels = table.columns[0]
    for column in table.columns:
        column.min_width = Measurement.get(console, unlimited, Group(column.header, *column.cells)).maximum
    labels.min_width = min(LABEL_WIDTH, labels.min_width or 0)
    columns = len(table.columns)
    if not fits(table, console):
        table.padding = 0
        labels.max_width = labels.min_width
        while len(table.columns) > 2 and Measurement.get(console, unlimited, table).minimum > console.width:
            table.columns.pop()
        numbers = Measurement.get(console, unlimited, table).maximum - labels.min_width
        labels.max_width = max(labels.min_width, console.width - numbers)
    if left_out := columns - len(table.columns):
        table.caption = f"Too narrow for {left_out} of {columns} columns: widen the terminal, or use another --format."
    return table


def printed(content: RenderableType, console: Console) -> str:
    """What the console would print."""
    with console.capture() as capture:
        console.print(content)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
