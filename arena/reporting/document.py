"""Table 1 as a page of its own, in Markdown, from a store alone: what was measured, how, and what is not known."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select

from arena.reporting import columns, table1
from arena.reporting.published import DEFENSES
from arena.reporting.table1 import CLEAN, NOTHING, Entry
from arena.reporting.text import MARKDOWN, NORM_NAMES, as_markdown
from arena.store import intervals, leaderboard, schema
from arena.store.leaderboard import ALL
from arena.store.store import Store
from arena.store.views import current_match

_CONVENTIONS = """\
The paper's conventions: images in [0, 1], misclassified samples have distance 0, the median is over all samples,
accuracy is the share beyond the threshold. "All" is the least over the paper's attacks, sample by sample, over the
samples that any of them played; "+ arena's own attacks" over everything that was played. In brackets 95 % intervals
over samples (order statistics; Clopper and Pearson, in percent), then of how many samples the cell is; of five or
fewer nothing is known of a median. They say how far the same attacks would come on other samples, not what better
attacks would find."""


def page(store: Store, note: str = "") -> str:
    """The page; one line where nothing of Table 1 was played. note: what the store does not know of how it was."""
    cells = table1.entries(store)
    if not any(cell.samples for cell in cells):
        return NOTHING
    with store.reading() as connection:
        rows = [row for row in leaderboard.rows(connection, by="defense") if row.defense in DEFENSES]
        played, settings = _played(connection), _settings(connection)
    parts = [
        "# Table 1, measured here",
        "Generated from a stored database by `arena table1 --page`: do not edit.",
        _CONVENTIONS,
        f"Played {played} {note}".rstrip(),
        "## Against all attacks together",
        columns.render(rows, "markdown"),
        "## Row by row",
        "In the last brackets the paper's cell; a cell without anything does not apply.",
        table1.render(cells, "markdown", compare=True),
        "## Where the paper's cell is outside the interval",
        _outside(cells),
        "## What this page does not know",
        "\n".join(f"* {gap}" for gap in _gaps(cells)),
        "## The attacks' settings",
        as_markdown(["attack", "settings"], [[MARKDOWN.name(part) for part in line] for line in settings], labels=2),
    ]
    return "\n\n".join(parts)


def _played(connection: Connection) -> str:
    """On which data, under which conditions and in which environments."""
    tournament = schema.tournament.c
    of = select(tournament.conditions, tournament.environments).where(
        tournament.id.in_(select(current_match.c.tournament_id))
    )
    found = connection.execute(of.order_by(tournament.id)).all()
    conditions = json.loads(found[0].conditions)
    environments = {_listed(environment) for row in found for environment in json.loads(row.environments)}
    data = f"on {conditions['dataset']}, {conditions['split']} (SHA-256 `{conditions['data_hash'][:12]}`)"
    seeds = sorted({str(json.loads(row.conditions).get("seed")) for row in found})
    return f"{data}, seed {', '.join(seeds)}, by {'; by '.join(sorted(environments))}."


def _settings(connection: Connection) -> list[tuple[str, str]]:
    attack = schema.attack.c
    of = select(attack.name, attack.settings).where(
        attack.id.in_(select(schema.match.c.attack_id).where(schema.match.c.id.in_(select(current_match.c.id))))
    )
    return [(row.name, _listed(json.loads(row.settings))) for row in connection.execute(of.order_by(attack.name))]


def _listed(values: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _outside(cells: Sequence[Entry]) -> str:
    """The cells whose interval does not hold what the paper prints, to half of its last digit."""
    lines = []
    told = [cell for cell in _of_paper(cells) if cell.samples >= intervals.LEAST]
    for cell in told:
        median = _misses(cell.paper_median_distance, cell.median_interval, table1.half_digit(cell))
        accuracy = _misses(cell.paper_accuracy, cell.accuracy_interval, 0.005)
        if median or accuracy:
            measured = f"{table1.ours(cell, MARKDOWN)} {table1.intervals(cell, MARKDOWN)}"
            which = " and ".join(name for name, side in (("median", median), ("accuracy", accuracy)) if side)
            lines.append([_row(cell), DEFENSES[cell.defense], measured, table1.papers(cell, MARKDOWN), which])
    if not lines:
        return f"None of {len(told)} cells."
    head = ["row", "defense", "here", "paper", "outside"]
    return (
        f"{len(lines)} of {len(told)} cells of {intervals.LEAST} samples or more; the paper's own cells have intervals"
        f" too, and of so many cells some are outside by chance.\n\n{as_markdown(head, lines, labels=5)}"
    )


def _misses(value: float | None, interval: intervals.Interval | None, rounding: float) -> bool:
    if value is None or interval is None:
        return False
    if value == math.inf:
        return interval.high < math.inf
    return not interval.low - rounding <= value <= interval.high + rounding


def _gaps(cells: Sequence[Entry]) -> Iterable[str]:
    of_paper = [cell for cell in _of_paper(cells) if cell.attack != ALL]
    missing = [cell for cell in of_paper if not cell.samples]
    yield f"Not played: {len(missing)} of the paper's {len(of_paper)} cells{_by_defense(missing)}."
    few = [cell for cell in of_paper if 0 < cell.samples < intervals.LEAST]
    yield f"Cells of too few samples to say anything of a median: {len(few)}{_by_defense(few)}."
    most = max(cell.samples for cell in cells)
    yield f"No cell is of more than {most} samples, the first of the data; the paper's are of 1000."
    yield "An attack with more steps or restarts may come closer: distances are upper bounds."


def _of_paper(cells: Sequence[Entry]) -> list[Entry]:
    """Those that the paper has, but clean accuracies."""
    return [cell for cell in cells if cell.paper_accuracy is not None and cell.attack != CLEAN]


def _row(cell: Entry) -> str:
    """The name of a row, with its norm where that is not part of it."""
    norm = "" if cell.norm == CLEAN else NORM_NAMES[cell.norm]
    return MARKDOWN.name(cell.row) + ("" if norm in cell.row else f" ({norm})")


def _by_defense(cells: Sequence[Entry]) -> str:
    named = {name: [_row(cell) for cell in cells if cell.defense == defense] for defense, name in DEFENSES.items()}
    text = "; ".join(f"{name}: {', '.join(rows)}" for name, rows in named.items() if rows)
    return f" ({text})" if text else ""
