"""Table 1 of the paper, played here: its rows and columns, each cell a median distance and an accuracy.

A row of the paper counts the attack of that name alone, its "All" rows the minimum, sample by sample, over the paper's
attacks. Attacks that the paper did not have are no rows; where some were played, one more row counts everything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Final, Literal

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from arena.geometry.norms import SPECS, Norm
from arena.reporting.published import BLANK, DATASET, DEFENSES, clean_accuracies, table1, table1_rows
from arena.reporting.text import (
    LATEX,
    MARKDOWN,
    NORM_NAMES,
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
from arena.store.intervals import Interval, of_share
from arena.store.leaderboard import ALL, LeaderboardRow
from arena.store.store import Store

CLEAN: Final = "clean"
EVERYTHING = "all-with-own"
NOTHING = "no results of the defenses of Table 1: `arena run --preset paper` plays them, `--preset quick` some"
WIDE = 110  # columns that the table takes with spaces and percent signs
# Decimals of a median distance: what was measured, and as the paper prints it.
_OURS: dict[str, int] = {spec.name: spec.decimals for spec in SPECS.values()}
_PAPERS = {"l2": 1, "linf": 2, "l0": 1}


@dataclass(frozen=True, slots=True)
class Entry:
    """A cell: what was measured over `samples` (0: nothing yet) and what the paper says; None for a blank.

    norm: l2, linf, l0, or clean; attack: "all" for the minimum over the paper's attacks, "all-with-own" over all that
    were played. Accuracies are shares of samples whose distance is > `epsilon`; that of clean is without perturbation.
    """

    norm: Norm | Literal["clean"]
    attack: str
    row: str
    defense: str
    samples: int
    median_distance: float | None
    median_interval: Interval | None
    accuracy: float | None
    accuracy_interval: Interval | None
    epsilon: float | None
    paper_median_distance: float | None
    paper_accuracy: float | None


def entries(store: Store) -> list[Entry]:
    """The cells row by row, in the paper's order: clean, then the norms' attacks, each with its "All" rows last."""
    of_paper = {row.attack for row in table1_rows()}
    everything = [row for row in store.leaderboard() if row.defense in DEFENSES and row.dataset == DATASET]
    of_attacks = store.leaderboard(attacks=of_paper) if everything else []
    cells = {(row.norm, row.attack, row.defense): row for row in of_attacks}
    cells |= {(row.norm, EVERYTHING, row.defense): row for row in everything if row.attack == ALL}
    own = {row.norm for row in everything if row.attack not in of_paper}  # ALL is among the paper's
    found = [_clean(defense, [row for row in everything if row.defense == defense]) for defense in DEFENSES]
    for norm, attack, name in table1_rows():
        found += [_entry(norm, attack, name, defense, cells.get((norm, attack, defense))) for defense in DEFENSES]
        if attack == ALL and norm in own:
            more = "+ arena's own attacks"
            found += [_entry(norm, EVERYTHING, more, d, cells.get((norm, EVERYTHING, d))) for d in DEFENSES]
    return found


def _clean(defense: str, rows: Sequence[LeaderboardRow]) -> Entry:
    row = max(rows, key=lambda row: row.samples, default=None)
    samples, accuracy = (row.samples, row.clean_accuracy) if row else (0, None)
    interval = None if accuracy is None else of_share(round(accuracy * samples), samples)
    paper = clean_accuracies()[defense]
    return Entry(CLEAN, CLEAN, "Clean", defense, samples, None, None, accuracy, interval, None, None, paper)


def _entry(norm: Norm, attack: str, name: str, defense: str, row: LeaderboardRow | None) -> Entry:
    paper = table1().get((norm, attack, defense), BLANK)
    if row is None:
        return Entry(norm, attack, name, defense, 0, None, None, None, None, None, *paper)
    median, accuracy = (row.median_distance, row.median_interval), (row.accuracy, row.accuracy_interval)
    return Entry(norm, attack, name, defense, row.samples, *median, *accuracy, row.epsilon, *paper)


def render(
    entries: Sequence[Entry],
    form: Format,
    compare: bool = False,
    console: Console | None = None,
    intervals: bool | None = None,
) -> str:
    """The table; compare: the paper's cells beside. `console` (default: standard output) decides width and colours.

    intervals: whether people see them, and of how many samples each cell is; by default in documents alone.
    """
    if form in ("json", "csv"):
        filled = [entry for entry in entries if entry.samples or (compare and entry.paper_accuracy is not None)]
        objects = [_flat(entry, compare) for entry in filled]
        return as_json(objects) if form == "json" else as_csv(list(_flat(entries[0], compare)), objects)
    if not any(entry.samples for entry in entries):
        return NOTHING
    if form == "table":
        return _table(entries, compare, screen(console), bool(intervals))
    return (_markdown if form == "markdown" else _latex)(entries, compare, intervals is not False)


def _flat(entry: Entry, compare: bool) -> dict[str, Any]:
    """The fields of an entry, each interval as its two ends."""
    flat: dict[str, Any] = {}
    for name, value in asdict(entry).items():
        if name.endswith("_interval"):
            stem = name.removesuffix("_interval")
            flat |= dict(zip((f"{stem}_low", f"{stem}_high"), value or (None, None), strict=True))
        elif compare or not name.startswith("paper"):
            flat[name] = value
    return flat


def _blocks(entries: Iterable[Entry]) -> list[tuple[Norm | Literal["clean"], list[list[Entry]]]]:
    """The rows of six cells, by norm."""
    rows = [list(cells) for _, cells in groupby(entries, key=lambda entry: (entry.norm, entry.attack))]
    return [(norm, list(block)) for norm, block in groupby(rows, key=lambda row: row[0].norm)]


def _head(norm: str, rows: Sequence[Sequence[Entry]]) -> str:
    epsilons = {entry.epsilon for row in rows for entry in row if entry.epsilon is not None}
    return f"{norm}, accuracy at {epsilons.pop():g}" if epsilons else norm


def _table(entries: Sequence[Entry], compare: bool, console: Console, intervals: bool) -> str:
    style, wide = style_of(console), console.width >= WIDE
    table = _grid(entries, compare, style, wide, intervals)
    if not fits(table, console):  # what is left out says less than a mark; the notes count the samples too
        table = _grid(entries, compare, style._replace(about=""), wide, intervals)
    title = "Table 1: median distance / accuracy" + ("" if wide else " in %")
    notes = [*_notes(entries), *([about_intervals(style)] if says(table, style.about) else [])]
    return printed(Group(Text(title, style="bold"), close_up(table, console), "", *notes), console)


def _grid(entries: Sequence[Entry], compare: bool, style: Style, wide: bool, intervals: bool) -> Table:
    """The paper's line stands below ours, and so do samples and intervals: six columns of both fit no terminal."""
    separator, indent = (" / ", " ") if wide else ("/", "")
    style = style if wide else style._replace(percent="")
    table = empty_table("", list(DEFENSES.values()))
    for norm, rows in _blocks(entries):
        if norm != CLEAN:
            table.add_section()
            table.add_row(Text(_head(NORM_NAMES[norm], rows), style="bold"))
        for row in rows:
            bold = "bold" if row[0].attack in (ALL, EVERYTHING) else None
            marks = [style.about * (not intervals and _is_vague(entry)) for entry in row]
            cells = [mark + ours(entry, style, separator) for mark, entry in zip(marks, row, strict=True)]
            table.add_row(Text(indent + row[0].row), *cells, style=bold)
            for label, tell in _BELOW if intervals else ():
                table.add_row(f"{indent}  {label}", *(tell(entry, style) for entry in row), style="dim")
            if compare and any(entry.paper_accuracy is not None for entry in row):
                table.add_row(indent + "  paper", *(papers(entry, style, separator) for entry in row), style="dim")
    return table


# What stands below a line with intervals.
_BELOW: tuple[tuple[str, Callable[[Entry, Style], str]], ...] = (
    ("samples", lambda entry, style: style.some(entry.samples)),
    ("median 95%", lambda e, style: style.distances(e.median_interval, _OURS[e.norm]) if e.median_interval else ""),
    ("accuracy 95%", lambda e, style: style.shares(e.accuracy_interval) if e.accuracy_interval else ""),
)


def _markdown(entries: Sequence[Entry], compare: bool, intervals: bool) -> str:
    lines = []
    for norm, rows in _blocks(entries):
        if norm != CLEAN:
            lines.append([f"**{_head(NORM_NAMES[norm], rows)}**", *[""] * len(DEFENSES)])
        lines += [
            [MARKDOWN.name(row[0].row), *(_both(entry, MARKDOWN, compare, intervals) for entry in row)] for row in rows
        ]
    head = [_corner(compare, intervals), *DEFENSES.values()]
    return "\n".join([as_markdown(head, lines, labels=1), "", *_notes(entries)])


def _latex(entries: Sequence[Entry], compare: bool, intervals: bool) -> str:
    blocks = []
    for norm, rows in _blocks(entries):
        lines = [[LATEX.name(row[0].row), *(_both(entry, LATEX, compare, intervals) for entry in row)] for row in rows]
        title = rf"\multicolumn{{{len(DEFENSES) + 1}}}{{l}}{{{_head(latex_norm(norm), rows)}}}" if norm != CLEAN else ""
        blocks.append([[title], *lines] if title else lines)
    head = [LATEX.name(_corner(compare, intervals)), *DEFENSES.values()]
    notes = [rf"\par{{\footnotesize {LATEX.name(note)}}}" for note in _notes(entries)]
    return "\n".join([as_latex(head, blocks, labels=1), *notes])


def _is_vague(entry: Entry) -> bool:
    median, accuracy = entry.median_interval, entry.accuracy_interval
    return bool((median and median.is_vague_distance) or (accuracy and accuracy.is_vague_share))


def _corner(compare: bool, intervals: bool) -> str:
    text = "median [95%] / accuracy [95%] of samples" if intervals else "median / accuracy"
    return text + (" (paper)" if compare else "")


def _both(entry: Entry, style: Style, compare: bool, intervals: bool) -> str:
    if intervals and entry.samples:
        median = style.distance_of(entry.median_distance, entry.median_interval, True, _OURS.get(entry.norm))
        accuracy = style.share_of(entry.accuracy, entry.accuracy_interval, True, digits=int(entry.norm == CLEAN))
        measured = f"{_cell(median, accuracy)} of {entry.samples}"
    else:
        measured = ours(entry, style)
    published = papers(entry, style)
    return f"{measured} ({published})".strip() if compare and published else measured


def ours(entry: Entry, style: Style, separator: str = " / ") -> str:
    """Median distance and accuracy as measured; empty where nothing was played."""
    median = style.distance(entry.median_distance, _OURS.get(entry.norm))
    return _cell(median, _share(entry, entry.accuracy, style), separator)


def intervals(entry: Entry, style: Style) -> str:
    """The 95 % intervals of a cell's median and accuracy, and of how many samples it is."""
    _, median, accuracy = (tell(entry, style) for _, tell in _BELOW)
    return f"{_cell(median, accuracy)} of {entry.samples}"


def papers(entry: Entry, style: Style, separator: str = " / ") -> str:
    """Those of the paper, with its decimals; empty for a blank."""
    median = style.distance(entry.paper_median_distance, _PAPERS.get(entry.norm))
    return _cell(median, _share(entry, entry.paper_accuracy, style), separator)


def half_digit(entry: Entry) -> float:
    """By how much the median that the paper prints may be rounded."""
    return 0.5 * 10.0 ** -_PAPERS[entry.norm]


def _share(entry: Entry, accuracy: float | None, style: Style) -> str:
    return style.share(accuracy, digits=int(entry.norm == CLEAN))


def _cell(median: str, accuracy: str, separator: str = " / ") -> str:
    return separator.join(part for part in (median, accuracy) if part)


def _notes(entries: Sequence[Entry]) -> list[str]:
    """How many samples the numbers stand on, and how many of the paper's cells have none."""
    played = {defense: max(e.samples for e in entries if e.defense == defense) for defense in DEFENSES}
    counts = sorted({samples for samples in played.values() if samples}, reverse=True)
    by_count = [(n, [DEFENSES[defense] for defense in DEFENSES if played[defense] == n]) for n in counts]
    text = "; ".join(f"{n} of {', '.join(names)}" if len(counts) > 1 else str(n) for n, names in by_count)
    notes = [f"Samples: {text}."]
    fewer: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        if 0 < entry.samples < played[entry.defense] and entry.attack not in (ALL, EVERYTHING):
            fewer[entry.samples][entry.attack].append(entry.defense)
    if fewer:
        notes.append(f"Fewer: {'; '.join(f'{n} in {_where(fewer[n], entries)}' for n in sorted(fewer))}.")
    cells = [e for e in entries if (e.norm, e.attack, e.defense) in table1() and e.attack != ALL]
    if missing := sum(not entry.samples for entry in cells):
        notes.append(f"No result yet: {missing} of the paper's {len(cells)} cells.")
    return notes


def _where(attacks: dict[str, list[str]], entries: Sequence[Entry]) -> str:
    """The attacks, each with the defenses where not all that it was played against are meant."""
    every = defaultdict(list)
    for entry in entries:
        if entry.samples:
            every[entry.attack].append(entry.defense)
    return ", ".join(
        attack if defenses == every[attack] else f"{attack} ({', '.join(DEFENSES[name] for name in defenses)})"
        for attack, defenses in attacks.items()
    )
