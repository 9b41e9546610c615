"""The report for people: findings by rule, each with its remedy."""

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from events.manifest.problem import Severity
from events.readiness.catalogue import BY_ID
from events.readiness.finding import Finding
from events.terminal import visible
from services.cli.check.check_result import CheckedFile, CheckResult, summary

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_COLUMN = max(len(severity.value) for severity in Severity) + 2


def show(console: Console, files: CheckResult) -> None:
    """Print the findings of every file, most severe first, and a summary line."""
    for checked in files.checked:
        _show_file(console, checked)
    _line(console, 0, Text(summary(files), "bold"))


def _show_file(console: Console, checked: CheckedFile) -> None:
    _line(console, 0, Text.assemble((checked.source.location, "bold"), f" ({checked.report.profile})"))
    for finding in checked.fixed:
        _line(console, 0, Text.assemble((f"{'fixed':<{_COLUMN}}", "green"), f"{finding.rule}: {finding.message}"))
    new = checked.new
    for rule_id, findings in groupby(new, key=lambda finding: finding.rule):
        _show_rule(console, checked, rule_id, list(findings))
    for waived in checked.report.waived:
        text = f"{waived.finding.message} ({waived.waiver})"
        _line(console, 0, Text.assemble((f"{'waived':<{_COLUMN}}", "dim"), text))
    for waiver in checked.report.expired:
        _line(console, 0, Text.assemble((f"{'expired':<{_COLUMN}}", "magenta"), f"the waiver of {waiver}"))
    for label in checked.report.unknown_labels:
        _line(console, 0, Text(f"{'label':<{_COLUMN}}{label} names no rule, profile or severity"))
    if not new:
        _line(console, 0, Text("no new findings", "green"))
    console.print()


def _show_rule(console: Console, checked: CheckedFile, rule_id: str, findings: Sequence[Finding]) -> None:
    rule = BY_ID[rule_id]
    severity = findings[0].severity
    head = Text.assemble((f"{severity.value:<{_COLUMN}}", _STYLES[severity]), (rule_id, "bold"), f"  {rule.title}")
    _line(console, 0, head)
    for finding in findings:
        at = _at(checked, finding)
        fixable = " [can be fixed]" if finding.fixable else ""
        _line(console, _COLUMN, Text.assemble(finding.message, (fixable, "green"), (f"  {at}", "dim")))
    _line(console, _COLUMN, Text(f"Remedy: {rule.remedy}", "italic"))


def _at(checked: CheckedFile, finding: Finding) -> str:
    line, source = checked.line(finding), checked.source_of(finding)
    if source is checked.source:
        return f"line {line.line}" if line is not None else ""
    return f"{source.location}:{line.line}" if line is not None else source.location


def _line(console: Console, indent: int, text: Text) -> None:
    # Output in a pipe is searched line by line, so a line is not wrapped there.
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent), expand=False))
    else:
        console.file.write(f"{' ' * indent}{visible(text.plain)}\n")
