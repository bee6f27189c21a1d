"""What the conformance kit found, one line a check."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

KIT = str(Path(__file__).parent)


@dataclass(frozen=True)
class Finding:
    """One check: its name, whether the plugin passed, and what was seen (on failure also how to mend it)."""

    check: str
    passed: bool
    message: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.check:<13} {self.message}"


@dataclass
class Report:
    """All findings about one plugin. `ok`: it passed every check. `str(report)`: one readable text."""

    subject: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(finding.passed for finding in self.findings)

    def add(self, check: str, passed: bool, message: str) -> bool:
        """Note one finding; returns `passed`."""
        self.findings.append(Finding(check, bool(passed), message))
        return passed

    @contextmanager
    def guard(self, check: str, complaint: str = "") -> Iterator[None]:
        """Whatever the block raises becomes a failed finding, `complaint` before it."""
        try:
            yield
        except Exception as failure:
            self.add(check, False, f"{complaint}{describe(failure)}")

    def __str__(self) -> str:
        passed = sum(finding.passed for finding in self.findings)
        head = f"{self.subject}: {passed} of {len(self.findings)} checks passed"
        return "\n".join([head, *(f"  {finding}" for finding in self.findings)])


def describe(failure: BaseException) -> str:
    """One line: what was raised, and on which line of the plugin."""
    frames = [frame for frame in traceback.extract_tb(failure.__traceback__) if not frame.filename.startswith(KIT)]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    return f"{type(failure).__name__}: {' '.join(str(failure).split())}{where}"
