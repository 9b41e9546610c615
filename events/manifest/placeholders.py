"""Placeholders: the parts of a template that a build replaces."""

import re

# Tools replace `$NAME` and `${NAME}` (`os.path.expandvars`). Within a text only capitals are placeholders, because routes
# use `$upstream`, `$connectionModuleId` and `$body`. `$$NAME` and `\\$NAME` are escapes.
_variable = r"\$\{[^{}]*\}|(?<![\w$\\])\$[A-Z_][A-Z0-9_]+(?!\w)"
_in_text = re.compile(rf"{_variable}|<[A-Za-z][\w. -]*>")
_variables = re.compile(_variable)
# `$upstream` is not a placeholder: a nested device names its parent so.
_bare = r"\$(?!upstream\b)[A-Za-z_]\w*|\[\$\w+\]|__[A-Z][A-Z0-9_]*"
_whole = re.compile(_bare).fullmatch
_start = re.compile(_bare).match


def inside(text: str) -> tuple[str, ...]:
    """Return placeholders in plain text: `${NAME}`, `$NAME`, `<name>`, or the whole text `$name`, `[$name]` or `__NAME`."""
    return _listed(_whole(text), _in_text.findall(text))


def of_secret(text: str) -> tuple[str, ...]:
    """Return placeholders in a password: those of `inside`, but `$NAME` only as the whole text, as passwords can have `$`."""
    return _listed(
        _whole(text), [placeholder for placeholder in _in_text.findall(text) if not placeholder[1:].isidentifier()]
    )


def at_start(text: str) -> tuple[str, ...]:
    """Return placeholders in an image or a registry's address, which can also begin with `$NAME`."""
    return _listed(_start(text), _in_text.findall(text))


def variables(text: str) -> tuple[str, ...]:
    """Return placeholders in text with its own grammar: only `${NAME}` and `$NAME` in capitals."""
    return _listed(None, _variables.findall(text))


def _listed(bare: re.Match[str] | None, placeholders: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*([bare.group()] if bare else []), *placeholders]))
