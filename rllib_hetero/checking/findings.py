"""What a check finds, and the report of all of them."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "note"]
_WIDTH = 100
_COLUMN = 13  # of the first column: "cannot tell" and a gap


@dataclass(frozen=True)
class Fault:
    """One thing that a check saw.

    Attributes:
        severity: "error": training fails or learns something else. "warning": probably not
            what is meant. "note": worth knowing.
        seen: What was seen, where.
        mend: What to do about it; empty where there is nothing to do.
        agent: Whose it is. A fault of the same agent with the same `mend` is the same fault.
    """

    severity: Severity
    seen: str
    mend: str = ""
    agent: Hashable = None


def error(seen: str, mend: str, agent: Hashable = None) -> Fault:
    """A fault that must be mended before training."""
    return Fault("error", seen, mend, agent)


def warning(seen: str, mend: str, agent: Hashable = None) -> Fault:
    """A fault that is probably not meant."""
    return Fault("warning", seen, mend, agent)


def note(seen: str, mend: str = "", agent: Hashable = None) -> Fault:
    """Something worth knowing."""
    return Fault("note", seen, mend, agent)


@dataclass(frozen=True)
class Finding:
    """A fault, under the name of the check that saw it.

    Attributes:
        check: The check's name.
        severity: "error", "warning" or "note".
        seen: What was seen, where.
        mend: What to do about it; may be empty for notes.
    """

    check: str
    severity: Severity
    seen: str
    mend: str


@dataclass
class Report:
    """What `check_env` found. `print(report)` shows it.

    Attributes:
        subject: What was checked, in words.
        findings: All findings, in the order of the checks.
        passed: Names of the checks that found neither errors nor warnings.
        untold: Name of each check that could not be made, and why.
        summary: How much was tried, in words.
    """

    subject: str
    findings: list[Finding] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    untold: dict[str, str] = field(default_factory=dict)
    summary: str = ""

    @property
    def ok(self) -> bool:
        """Whether there are no errors. Warnings, notes and what cannot be told do not count."""
        return not self.of("error")

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [f for f in self.findings if f.severity == severity]

    def add(self, check: str, faults: list[Fault]) -> None:
        """Takes the faults of one check, repetitions counted."""
        if not any(f.severity != "note" for f in faults):
            self.passed.append(check)
        groups: dict[Hashable, list[Fault]] = {}
        for fault in faults:
            groups.setdefault((fault.severity, fault.mend, fault.agent), []).append(fault)
        for first, *more in groups.values():
            again = f" (and {len(more)} more like it)" if more else ""
            self.findings.append(Finding(check, first.severity, first.seen + again, first.mend))

    def __str__(self) -> str:
        lines = [f"{self.subject}: {self.summary}" if self.summary else self.subject]
        if self.passed:
            lines += _row("ok", ", ".join(self.passed))
        order: tuple[Severity, ...] = ("error", "warning", "note")
        alike: dict[Hashable, list[Finding]] = {}
        for finding in sorted(self.findings, key=lambda f: order.index(f.severity)):
            # What other agents do alike is shown once.
            key = finding.mend or finding.seen
            alike.setdefault((finding.severity, finding.check, key), []).append(finding)
        for finding, *others in alike.values():
            more = f"; {counted(len(others), 'other agent')} alike" if others else ""
            lines += _row(finding.severity, f"{finding.check}: {finding.seen}{more}")
            if finding.mend:
                lines += _row("", f"-> {finding.mend}")
        for check, why in self.untold.items():
            lines += _row("cannot tell", f"{check}: {why}")
        lines.append(", ".join(counted(len(self.of(s)), s) for s in order[:2]) + ".")
        return "\n".join(lines)


def _row(first: str, text: str) -> list[str]:
    gap = " " * _COLUMN
    # Agent ids and shapes are not to be cut at their hyphens.
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first.ljust(_COLUMN),
        subsequent_indent=gap,
        break_on_hyphens=False,
        break_long_words=False,
    )


def counted(n: int, what: str) -> str:
    """As in "no errors", "1 error", "2 errors"."""
    return f"{n or 'no'} {what}{'' if n == 1 else 's'}"
