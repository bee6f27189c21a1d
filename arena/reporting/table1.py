"""Table 1 of the paper, played here: its rows and columns, each cell a median distance and an accuracy.

A row of the paper counts the attack of that name alone, its "All" rows the minimum, sample by sample, over the paper's
attacks. Attacks that the paper did not have are no rows; where some were played, one more row counts everything.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Final, Literal

from rich.console import Console, Group
from rich.text import Text

from arena.geometry.norms import SPECS, Norm
from arena.reporting.published import BLANK, DATASET, DEFENSES, clean_accuracies, table1, table1_rows
from arena.reporting.text import (
    LATEX,
    MARKDOWN,
    NORM_NAMES,
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
    style_of,
)
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
    accuracy: float | None
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
    return Entry(CLEAN, CLEAN, "Clean", defense, samples, None, accuracy, None, None, clean_accuracies()[defense])


def _entry(norm: Norm, attack: str, name: str, defense: str, row: LeaderboardRow | None) -> Entry:
    paper = table1().get((norm, attack, defense), BLANK)
    if row is None:
        return Entry(norm, attack, name, defense, 0, None, None, None, *paper)
    measured = row.samples, row.median_distance, row.accuracy, row.epsilon
    return Entry(norm, attack, name, defense, *measured, *paper)


def render(entries: Sequence[Entry], form: Format, compare: bool = False, console: Console | None = None) -> str:
    """The table; compare: the paper's cells beside. `console` (default: standard output) decides width and colours."""
    if form in ("json", "csv"):
        hidden = () if compare else ("paper_median_distance", "paper_accuracy")
        filled = [entry for entry in entries if entry.samples or (compare and entry.paper_accuracy is not None)]
        objects = [{name: value for name, value in asdict(entry).items() if name not in hidden} for entry in filled]
        names = [name for name in Entry.__slots__ if name not in hidden]
        return as_json(objects) if form == "json" else as_csv(names, objects)
    if not any(entry.samples for entry in entries):
        return NOTHING
    if form == "table":
        return _table(entries, compare, screen(console))
    return (_markdown if form == "markdown" else _latex)(entries, compare)


def _blocks(entries: Iterable[Entry]) -> list[tuple[Norm | Literal["clean"], list[list[Entry]]]]:
    """The rows of six cells, by norm."""
    rows = [list(cells) for _, cells in groupby(entries, key=lambda entry: (entry.norm, entry.attack))]
    return [(norm, list(block)) for norm, block in groupby(rows, key=lambda row: row[0].norm)]


def _head(norm: str, rows: Sequence[Sequence[Entry]]) -> str:
    epsilons = {entry.epsilon for row in rows for entry in row if entry.epsilon is not None}
    return f"{norm}, accuracy at {epsilons.pop():g}" if epsilons else norm


def _table(entries: Sequence[Entry], compare: bool, console: Console) -> str:
    """With `compare` the paper's line stands below ours: six columns of both fit no terminal."""
    wide = console.width >= WIDE
    separator, indent = (" / ", " ") if wide else ("/", "")
    style = style_of(console) if wide else style_of(console)._replace(percent="")
    table = empty_table("", list(DEFENSES.values()))
    for norm, rows in _blocks(entries):
        if norm != CLEAN:
            table.add_section()
            table.add_row(Text(_head(NORM_NAMES[norm], rows), style="bold"))
        for row in rows:
            bold = "bold" if row[0].attack in (ALL, EVERYTHING) else None
            table.add_row(Text(indent + row[0].row), *(ours(entry, style, separator) for entry in row), style=bold)
            if compare and any(entry.paper_accuracy is not None for entry in row):
                table.add_row(indent + "  paper", *(papers(entry, style, separator) for entry in row), style="dim")
    title = "Table 1: median distance / accuracy" + ("" if wide else " in %")
    return printed(Group(Text(title, style="bold"), close_up(table, console), "", *_notes(entries)), console)


def _markdown(entries: Sequence[Entry], compare: bool) -> str:
    lines = []
    for norm, rows in _blocks(entries):
        if norm != CLEAN:
            lines.append([f"**{_head(NORM_NAMES[norm], rows)}**", *[""] * len(DEFENSES)])
        lines += [[MARKDOWN.name(row[0].row), *(_both(entry, MARKDOWN, compare) for entry in row)] for row in rows]
    head = ["median / accuracy" + (" (paper)" if compare else ""), *DEFENSES.values()]
    return "\n".join([as_markdown(head, lines, labels=1), "", *_notes(entries)])


def _latex(entries: Sequence[Entry], compare: bool) -> str:
    blocks = []
    for norm, rows in _blocks(entries):
        lines = [[LATEX.name(row[0].row), *(_both(entry, LATEX, compare) for entry in row)] for row in rows]
        title = rf"\multicolumn{{{len(DEFENSES) + 1}}}{{l}}{{{_head(latex_norm(norm), rows)}}}" if norm != CLEAN else ""
        blocks.append([[title], *lines] if title else lines)
    head = ["median / accuracy" + (" (paper)" if compare else ""), *DEFENSES.values()]
    notes = [rf"\par{{\footnotesize {LATEX.name(note)}}}" for note in _notes(entries)]
    return "\n".join([as_latex(head, blocks, labels=1), *notes])


def _both(entry: Entry, style: Style, compare: bool) -> str:
    measured, published = ours(entry, style), papers(entry, style)
    return f"{measured} ({published})".strip() if compare and published else measured


def ours(entry: Entry, style: Style, separator: str = " / ") -> str:
    """Median distance and accuracy as measured; empty where nothing was played."""
    return _cell(entry.median_distance, _OURS.get(entry.norm), entry.accuracy, style, separator)


def papers(entry: Entry, style: Style, separator: str = " / ") -> str:
    """Those of the paper, with its decimals; empty for a blank."""
    return _cell(entry.paper_median_distance, _PAPERS.get(entry.norm), entry.paper_accuracy, style, separator)


def _cell(median: float | None, decimals: int | None, accuracy: float | None, style: Style, separator: str) -> str:
    if median is None:
        return style.share(accuracy)
    distance = style.infinity if median == math.inf else f"{median:.{decimals}f}"
    return distance + separator + style.share(accuracy, digits=0)


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
