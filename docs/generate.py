"""Writes the pages that the code itself can tell: docs/cli.md, docs/plugins.md, docs/schema.md, docs/architecture.svg.

`python docs/generate.py` writes them, `--check` says which are stale and exits with 1.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from graphlib import TopologicalSorter
from html import escape
from inspect import cleandoc
from pathlib import Path
from types import ModuleType

import click
from sqlalchemy import create_mock_engine
from sqlalchemy.schema import CreateTable

from arena.cli import cli
from arena.cli.plugins import plugin_facts, settings_rows
from arena.data.builtin import DATASETS
from arena.interface.registry import Plugin, registry
from arena.store.schema import metadata
from arena.store.views import VIEWS

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "arena"


def cli_page() -> str:
    """Each command with its help text, as a terminal of 100 columns shows it."""
    lines = ["# Command line", "", "Generated from the commands by `docs/generate.py`."]
    for path, command in _commands(("arena",), cli):
        context = click.Context(command, info_name=" ".join(path), terminal_width=100, max_content_width=100)
        lines += ["", f"## {' '.join(path)}", "", "```", command.get_help(context), "```"]
    return "\n".join([*lines, ""])


def _commands(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _commands((*path, name), command.commands[name])


def plugins_page() -> str:
    """The built-in defenses, attacks and lower bounds, by the module that holds them, and the built-in data sets."""
    modules: dict[ModuleType, list[Plugin]] = {}
    for plugin in registry().plugins.values():
        if plugin.package == "arena-robustness" and plugin.kind != "dataset":
            modules.setdefault(plugin.module, []).append(plugin)
    lines = [
        "# Plugins",
        "",
        "Generated from the built-in plugins by `docs/generate.py`; `arena plugins show NAME` says",
    ]
    lines += ["the same of every plugin that is installed. Settings go under `[defense.NAME]`, `[attack.NAME]` or"]
    lines += ["`[bound.NAME]` of `arena.toml`; distances are those of images in [0, 1]."]
    for kind in ("defense", "attack", "bound"):
        lines += ["", f"## {kind.title()}s"]
        for module, plugins in modules.items():
            if plugins[0].kind == kind:
                lines += _family(module, plugins)
    rows = [
        (
            f"`{dataset.name}`",
            " x ".join(map(str, dataset.shape)),
            str(dataset.classes),
            ", ".join(dataset.splits),
            ", ".join(f"{norm} {epsilon:g}" for norm, epsilon in dataset.thresholds.items()),
        )
        for dataset in DATASETS.values()
    ]
    lines += ["", "## Data sets", "", *_table(("data set", "shape", "classes", "splits", "thresholds"), rows)]
    return "\n".join([*lines, ""])


def _family(module: ModuleType, plugins: list[Plugin]) -> list[str]:
    """What a module is, with its source; what each of its plugins is; and their settings, with whose they are where not
    all have them."""
    title = module.__name__.removeprefix("arena.plugins.").split(".")[1].replace("_", " ")
    lines = ["", f"### {title}", "", _paragraph(module.__doc__), ""]
    lines += _table(
        (plugins[0].kind, *plugin_facts(plugins[0]), "what it is"),
        [(f"`{p.name}`", *plugin_facts(p).values(), _paragraph(vars(p.cls).get("__doc__"))) for p in plugins],
    )
    owners: dict[tuple[str, str, str, str], list[str]] = {}
    for plugin in plugins:
        for row in settings_rows(plugin.cls.Settings):
            owners.setdefault(row, []).append(f"`{plugin.name}`")
    if owners:
        shared = any(len(names) < len(plugins) for names in owners.values())
        rows = [
            (
                f"`{name}`",
                kind,
                f"`{default}`",
                meaning,
                *(["all" if len(names) == len(plugins) else ", ".join(names)] * shared),
            )
            for (name, kind, default, meaning), names in owners.items()
        ]
        lines += ["", *_table(("setting", "type", "default", "meaning", *(["of"] * shared)), rows)]
    return lines


def _paragraph(text: str | None) -> str:
    """The first paragraph of a docstring, as one line."""
    return " ".join(cleandoc(text or "").partition("\n\n")[0].split())


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in (head, *rows)]
    return [lines[0], "| --- " * (lines[0].count("|") - 1) + "|", *lines[1:]]


def schema_page() -> str:
    """The tables and the views in SQL."""
    lines = [
        "# The database",
        "",
        "Generated from `arena/store/` by `docs/generate.py`. Other programs may rely on it:",
    ]
    lines += ["a change of a table is a new schema version, with a migration.", "", "## Tables"]
    engine = create_mock_engine("sqlite://", executor=lambda *_: None)
    for table in metadata.sorted_tables:
        text = re.sub(r"[ \t]+\n", "\n", str(CreateTable(table).compile(dialect=engine.dialect)).strip())
        lines += ["", f"### {table.name}", "", "```sql", text.replace("\t", "    "), "```"]
    lines += ["", "## Views"]
    for name, query in VIEWS.items():
        lines_of_view = [line.removeprefix(" " * 8) for line in query.strip().split("\n")]
        lines += ["", f"### {name}", "", "```sql", *lines_of_view, "```"]
    return "\n".join([*lines, ""])


def _imports() -> dict[str, set[str]]:
    """For each package those that it imports, lazily or not, but not for annotations alone."""
    uses: dict[str, set[str]] = {}
    for file in PACKAGE.glob("*/**/*.py"):
        name = file.relative_to(PACKAGE).parts[0]
        found = uses.setdefault(name, set())
        for node in _executed(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "arena":
                paths = [node.module.split(".")[1:2] or [alias.name] for alias in node.names]
                found |= {path[0] for path in paths} - {name}
    return {name: used & uses.keys() for name, used in uses.items()}


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _executed(child)


def architecture_picture() -> str:
    """The packages in layers: each imports from layers below it alone; lines lead to what a package needs directly and
    not through another."""
    uses = _imports()
    layers, sorter = [], TopologicalSorter(uses)
    sorter.prepare()
    while sorter.is_active():
        ready = sorter.get_ready()
        layers.append(sorted(ready))
        sorter.done(*ready)
    width, height, gap_x, gap_y = 118, 30, 26, 46
    columns = max(map(len, layers))
    total = columns * (width + gap_x) + gap_x, len(layers) * (height + gap_y) + gap_y
    at = {
        name: (total[0] / 2 + (i - (len(layer) - 1) / 2) * (width + gap_x), total[1] - gap_y - row * (height + gap_y))
        for row, layer in enumerate(layers)
        for i, name in enumerate(layer)
    }
    below = {name: _reachable(uses, name) for name in uses}
    parts = [
        f'<line x1="{at[a][0]:g}" y1="{at[a][1]:g}" x2="{at[b][0]:g}" y2="{at[b][1] - height:g}" stroke="#9aa5b1"/>'
        for a in sorted(uses)
        for b in sorted(uses[a] - set().union(*(below[other] for other in uses[a])))
    ]
    for name, (x, y) in sorted(at.items()):
        box = f'x="{x - width / 2:g}" y="{y - height:g}" width="{width}" height="{height}" rx="6"'
        parts.append(f'<rect {box} fill="#eef2f7" stroke="#52606d"/>')
        parts.append(f'<text x="{x:g}" y="{y - height / 2 + 5:g}" text-anchor="middle">{escape(name)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total[0]:g} {total[1]:g}" font-family="sans-serif"'
    return "\n".join(
        [f'{head} font-size="14">', '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>", ""]
    )


def _reachable(uses: dict[str, set[str]], name: str) -> set[str]:
    found, waiting = set(), set(uses[name])
    while waiting:
        found.add(other := waiting.pop())
        waiting |= uses[other] - found
    return found


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "plugins.md": plugins_page,
    "schema.md": schema_page,
    "architecture.svg": architecture_picture,
}


def main() -> int:
    check, stale = "--check" in sys.argv[1:], []
    for name, page in PAGES.items():
        file, text = DOCS / name, page()
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                file.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"stale: {', '.join(stale)}; run `python docs/generate.py`", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
