"""The report: one HTML page that needs neither network nor server, drawn from the store alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from arena.data import load_played
from arena.errors import UserError
from arena.files import write_atomically
from arena.geometry.norms import NORMS, Norm
from arena.reporting import table1
from arena.reporting.columns import Column, for_people
from arena.reporting.html.best import bound_values, read_best
from arena.reporting.html.charts import read_charts
from arena.reporting.html.distals import read_ascents
from arena.reporting.html.facts import read_facts
from arena.reporting.html.gallery import read_gallery
from arena.reporting.html.page import render
from arena.reporting.published import DEFENSES
from arena.store import bounds as bound_rows
from arena.store import datasets, leaderboard
from arena.store.engine import NOTHING_PLAYED
from arena.store.leaderboard import ALL, LeaderboardRow
from arena.store.store import Store

__all__ = ["write_report"]


@dataclass(frozen=True, slots=True)
class Board:
    """The leaderboard of one norm: every defense against all attacks, and every match."""

    norm: Norm
    epsilon: float | None
    columns: list[Column]
    defenses: list[LeaderboardRow]
    matches: list[LeaderboardRow]


def write_report(store: Store, out: Path) -> int:
    """Write the page; returns its size in bytes.

    The images of the gallery are left out, and the page says why, where the data set that was played is not at hand.
    Raises UserError where nothing was played, for a stored image that cannot be read, or if `out` cannot be written.
    """
    with store.reading() as connection:
        facts = read_facts(connection)
        if facts is None:
            raise UserError(f"nothing to report: {NOTHING_PLAYED}")
        best, bounds = read_best(connection), bound_rows.of_current_defenses(connection, facts.data["data_hash"])
        by_defense, by_match = (leaderboard.rows(connection, by=by) for by in ("defense", "match"))
        boards = _boards(by_defense, by_match)
        ascents = read_ascents(connection)
        try:
            described = datasets.description(connection, facts.data["dataset"], facts.data["data_hash"])
            clean = load_played(described, facts.data["split"], facts.data["data_hash"])[0].numpy()
        except UserError as failure:
            gallery, no_gallery = None, str(failure)
        else:
            kept = datasets.read(connection, facts.data["data_hash"])
            names = kept.class_names if kept else ()
            gallery, no_gallery = read_gallery(connection, best, bounds, clean, names), ""
    charts = read_charts(best.distances, bound_values(bounds), {board.norm: board.epsilon for board in boards})
    cells = table1.entries(store)
    content = render(
        facts=facts,
        samples=best.samples,
        boards=boards,
        winners=best.winners,
        table1=[list(row) for _, row in groupby(cells, key=lambda cell: (cell.norm, cell.attack))],
        paper_defenses=DEFENSES,
        nothing_of_table1=table1.NOTHING,
        bounded=bool(bounds),
        charts=charts,
        chart_data=[asdict(chart) for chart in charts],
        ascents=ascents,
        gallery=gallery,
        no_gallery=no_gallery,
    )
    write_atomically(out, content)
    return len(content)


def _boards(by_defense: list[LeaderboardRow], by_match: list[LeaderboardRow]) -> list[Board]:
    boards = []
    for norm in NORMS:
        defenses, matches = ([row for row in rows if row.norm == norm] for rows in (by_defense, by_match))
        if defenses:
            matches = [row for row in matches if row.attack != ALL]
            boards.append(Board(norm, defenses[0].epsilon, for_people([*defenses, *matches]), defenses, matches))
    return boards
