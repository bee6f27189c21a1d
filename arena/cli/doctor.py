"""`arena doctor`."""

from __future__ import annotations

import click

from arena.errors import visible


@click.command()
def doctor() -> int:
    """Say what this installation can do, and what is wrong with it. Exit code 1 if something must be mended."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from arena.doctor import examine

    findings = examine()
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        table.add_row(finding.about, Text(visible(finding.says), style="" if finding.sound else "red"))
    Console(highlight=False).print(table)
    to_mend = sum(not finding.sound for finding in findings)
    print(f"{to_mend} to mend" if to_mend else "all sound")
    return 1 if to_mend else 0
