"""Sufficient ensembles as text: the chosen attacks for people, every attack for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

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
from arena.store.ensemble import Ensemble, Member

# What people read of a chosen attack; programs read the fields.
_COLUMNS: tuple[tuple[str, Callable[[Style, Member], str]], ...] = (
    ("seconds /sample", lambda style, member: style.distance(member.seconds)),
    ("alone reaches", lambda style, member: style.number(member.reached)),
    ("without: lost", lambda style, member: style.number(member.lost)),
    ("at worst", lambda style, member: f"{style.distance(member.worst)} x"),
)
_HEADINGS = [heading for heading, _ in _COLUMNS]


def render(ensembles: Sequence[Ensemble], form: Format, console: Console | None = None) -> str:
    """The ensembles in their order; `console` (default: standard output) decides width and colours of a table."""
    if form in ("json", "csv"):
        rows = [_flat(ensemble, member) for ensemble in ensembles for member in ensemble.members]
        return as_json(rows) if form == "json" else as_csv(list(rows[0]) if rows else [], rows)
    if not ensembles:
        return "no adversarials"
    if form == "table":
        return _table(ensembles, screen(console))
    style = MARKDOWN if form == "markdown" else LATEX
    head = ["norm", "defense", "attack", *_HEADINGS]
    blocks = [
        [
            [latex_norm(of.norm) if form == "latex" else NORM_NAMES[of.norm], style.name(of.defense), *cells]
            for cells in _lines(of, style)
        ]
        for of in ensembles
    ]
    if form == "latex":
        return as_latex(head, blocks, labels=3)
    return as_markdown(head, [line for block in blocks for line in block], labels=3)


def _flat(ensemble: Ensemble, member: Member) -> dict[str, Any]:
    return {
        "defense": ensemble.defense,
        "norm": ensemble.norm,
        "attack": member.attack,
        "chosen": member.chosen,
        "seconds": member.seconds,
        "reached": member.reached,
        "lost": member.lost,
        "worst": member.worst,
        "samples": ensemble.samples,
        "ensemble_reached": ensemble.reached,
        "ensemble_seconds": ensemble.seconds,
        "all_seconds": ensemble.all_seconds,
        "proven_least": ensemble.least,
    }


def _table(ensembles: Sequence[Ensemble], console: Console) -> str:
    style = style_of(console)
    parts: list[RenderableType] = []
    for norm, of_norm in groupby(ensembles, key=lambda ensemble: ensemble.norm):
        table = empty_table("attack", _HEADINGS)
        table.title = NORM_NAMES[norm]
        notes = []
        for ensemble in of_norm:
            table.add_section()
            table.add_row(Text(style.name(ensemble.defense), style="bold"))
            for name, *cells in _lines(ensemble, style):
                table.add_row(Text(f" {name}"), *cells)
            notes.append(Text(f"{style.name(ensemble.defense)}: {_summary(ensemble, style)}"))
        parts += [close_up(table, console), "", *notes, ""]
    return printed(Group(*parts[:-1]), console)


def _lines(ensemble: Ensemble, style: Style) -> list[list[str]]:
    return [[style.name(of.attack), *(show(style, of) for _, show in _COLUMNS)] for of in ensemble.chosen]


def _summary(ensemble: Ensemble, style: Style) -> str:
    count, share = len(ensemble.chosen), ensemble.seconds / (ensemble.all_seconds or 1)
    proof = "no fewer do" if count == ensemble.least else f"at least {ensemble.least} are needed"
    reached = f"the closest on {ensemble.reached} of {ensemble.samples} samples"
    return (
        f"{count} of {len(ensemble.members)} attacks come within 1{style.percent} of {reached},"
        f" in {style.percentage(share)} of the time; {proof}."
    )
