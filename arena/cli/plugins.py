"""What `arena plugins` prints."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from arena.interface.registry import registry


def list_plugins(form: str) -> None:
    """Print every plugin with its package, then every problem."""
    found = registry()
    usable = [plugin for plugin in found.plugins.values() if plugin.name in found.names(plugin.kind)]
    rows = [
        {
            "kind": plugin.kind,
            "name": plugin.name,
            "norm": getattr(plugin.cls, "norm", None),
            "access": plugin.cls.access if plugin.kind == "attack" else f"gradient: {plugin.cls.gradient}",
            "package": plugin.package,
            "version": plugin.version,
        }
        for plugin in sorted(usable, key=lambda plugin: (plugin.kind != "defense", plugin.name))
    ]
    if form == "json":
        print(json.dumps({"plugins": rows, "problems": [asdict(problem) for problem in found.problems]}, indent=2))
        return
    table = Table("kind", "name", "norm", "access", "package", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["kind"], row["name"], row["norm"] or "", row["access"], f"{row['package']} {row['version']}")
    console = Console()
    console.print(table)
    for problem in found.problems:
        console.print(f"[red]problem[/red]  {problem.package}: {problem.reason}", soft_wrap=True, highlight=False)


def check(name: str, factor: float | None) -> int:
    """Print what the conformance kit finds; returns the exit code: 1 if a check failed."""
    from arena.testing import check_plugin

    report = check_plugin(name, factor)
    print(report)
    return 0 if report.ok else 1
