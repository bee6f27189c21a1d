"""arena plugins: what is installed, what one of them takes, whether it keeps its contract, and how to begin one."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from arena.interface.registry import Plugin

_COLUMNS = {"defense": ["gradient"], "attack": ["norm", "access"], "bound": ["norms", "worth", "cheap"]}


@click.group(invoke_without_command=True)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def plugins(context: click.Context, form: str) -> None:
    """List the installed defenses, attacks and lower bounds, and the packages that could not be loaded."""
    if context.invoked_subcommand is None:
        _list(form)


@plugins.command()
@click.argument("name")
def show(name: str) -> None:
    """Say what the attack, defense or bound NAME is, and which settings it takes."""
    from arena.interface.registry import find_any

    for plugin in find_any(name):
        print(_described(plugin))


@plugins.command()
@click.argument("name")
@click.option("--factor", type=click.FloatRange(min=1), help="An attack's stated quality: found over minimal distance.")
@click.option("--timeout", type=click.FloatRange(min=1), help="An attack's seconds for each run.  [default: 120]")
@click.option("--budget", type=click.IntRange(min=1), help="An attack's queries for each sample.  [default: 20000]")
@click.option("--dataset", help="Check it on images of that data set, or of its shape and classes.")
def check(name: str, **options: Any) -> int:
    """Run the conformance kit on a plugin. Exit code 1 if a check fails."""
    from arena.testing import check_plugin

    report = check_plugin(name, **options)
    print(report)
    return 0 if report.ok else 1


@plugins.command()
@click.argument("kind_and_name", nargs=-1, required=True, metavar="[attack|defense|bound|dataset] NAME")
def new(kind_and_name: tuple[str, ...]) -> None:
    """Write an installable package of an attack, or of another kind of plugin, into the folder arena-KIND-NAME."""
    from arena.testing.scaffold import MODULES, NEXT, new_plugin

    *kinds, name = kind_and_name
    kind = next((kind for kind in MODULES if kinds == [kind]), None) if kinds else "attack"
    if kind is None:
        given = " ".join(kind_and_name)
        raise click.UsageError(f"{given}: write arena plugins new attack my-attack; kinds: {', '.join(MODULES)}")
    folder = new_plugin(name, Path.cwd(), kind)
    print(f"wrote {folder}; next: pip install -e {folder.name} && {NEXT[kind]} {name}")


def _list(form: str) -> None:
    from arena.interface.registry import registry

    found = registry()
    usable = [one for one in found.plugins.values() if one.kind in _COLUMNS and one.name in found.names(one.kind)]
    rows: list[dict[str, Any]] = [
        {
            "kind": plugin.kind,
            "name": plugin.name,
            "norm": None,
            "access": None,
            **plugin_facts(plugin),
            "package": plugin.package,
            "version": plugin.version,
        }
        for plugin in sorted(usable, key=lambda plugin: (list(_COLUMNS).index(plugin.kind), plugin.name))
    ]
    if form == "json":
        print(json.dumps({"plugins": rows, "problems": [asdict(problem) for problem in found.problems]}, indent=2))
        return
    for kind, columns in _COLUMNS.items():
        own = [row for row in rows if row["kind"] == kind]
        table = [[row["name"], *(row[key] for key in columns), f"{row['package']} {row['version']}"] for row in own]
        print("\n".join(_aligned([[kind, *columns, "package"], *table])), end="\n\n")
    for problem in found.problems:
        print(f"{click.style('problem', fg='red')}  {problem.package}: {problem.reason}")


def plugin_facts(plugin: Plugin) -> dict[str, str]:
    """What a plugin declares, by the columns of `_COLUMNS`."""
    cls = plugin.cls
    if plugin.kind == "bound":
        return {"norms": ", ".join(cls.norms), "worth": cls.kind, "cheap": "yes" if cls.cheap else "no"}
    if plugin.kind == "attack":
        return {"norm": cls.norm, "access": cls.access}
    return {"gradient": cls.gradient}


def _described(plugin: Plugin) -> str:
    """Everything about one plugin, as text of several lines."""
    cls, model = plugin.cls, plugin.cls.Settings
    what = ", ".join(f"{key} {fact}" for key, fact in plugin_facts(plugin).items())
    lines = [f"{plugin.kind} {plugin.name}, of {plugin.package} {plugin.version}: {what}", ""]
    if plugin.module.__doc__:  # where the source is cited
        lines += [inspect.cleandoc(plugin.module.__doc__).partition("\n")[0], ""]
    if cls.__doc__:
        lines += [inspect.cleandoc(cls.__doc__).partition("\nRaises:")[0].rstrip(), ""]
    if not model.model_fields:
        return "\n".join([*lines, "It has no settings."])
    lines.append(f"Settings, [{plugin.kind}.{plugin.name}] in arena.toml:")
    if "__doc__" in vars(model) and model.__doc__:
        lines += [inspect.cleandoc(model.__doc__), ""]
    table = [["", "type", "default", ""]]
    table += [list(row) for row in settings_rows(model)]
    return "\n".join([*lines, *_aligned(table)])


def settings_rows(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    """Name, type with range, default and meaning of each setting."""
    for name, field in model.model_fields.items():
        default = "(required)" if field.is_required() else json.dumps(field.get_default(call_default_factory=True))
        yield name, _type(field), default, field.description or ""


def _type(field: FieldInfo) -> str:
    """The type of a setting, and the range of its values: int >= 1."""
    kind = field.annotation
    name = kind.__name__ if type(kind) is type else str(kind).replace("typing.", "")
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    limits = [
        f"{sign} {getattr(limit, key):g}"
        for limit in field.metadata
        for key, sign in signs.items()
        if hasattr(limit, key)
    ]
    return f"{name} {', '.join(limits)}".strip()


def _aligned(rows: list[list[str]]) -> Iterable[str]:
    """The rows with their columns under each other, the last one as long as it is: nothing is cut."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
