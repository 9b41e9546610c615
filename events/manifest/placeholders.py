"""What a template leaves open for somebody to fill in."""

import re

_in_text = re.compile(r"\$\{[^{}]*\}|<[A-Za-z][\w. -]*>")
_braces = re.compile(r"\$\{[^{}]*\}")
# `$upstream` is what a nested device calls its parent, not a placeholder.
_bare = r"\$(?!upstream\b)[A-Za-z_]\w*|\[\$\w+\]|__[A-Z][A-Z0-9_]*"
_whole = re.compile(_bare).fullmatch
_start = re.compile(_bare).match


def inside(text: str) -> tuple[str, ...]:
    """Placeholders in plain text: `${NAME}`, `<name>`, or the whole text `$NAME`, `[$name]` or `__NAME`."""
    return _listed(_whole(text), _in_text.findall(text))


def at_start(text: str) -> tuple[str, ...]:
    """Placeholders in an image or a registry's address, which may also begin with `$NAME`."""
    return _listed(_start(text), _in_text.findall(text))


def braced(text: str) -> tuple[str, ...]:
    """Placeholders in text with a grammar of its own, where only `${NAME}` cannot mean anything else."""
    return _listed(None, _braces.findall(text))


def _listed(bare: re.Match[str] | None, others: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*([bare.group()] if bare else []), *others]))
