"""What a template leaves open for somebody to fill in."""

import re

# As tools replace them (`os.path.expandvars`): `$NAME` as well as `${NAME}`. Within a text only capitals count: `$upstream`,
# `$connectionModuleId` and `$body` are words of routes. `$$NAME` and `\\$NAME` are written so in order to stay.
_variable = r"\$\{[^{}]*\}|(?<![\w$\\])\$[A-Z_][A-Z0-9_]+(?!\w)"
_in_text = re.compile(rf"{_variable}|<[A-Za-z][\w. -]*>")
_variables = re.compile(_variable)
# `$upstream` is what a nested device calls its parent, not a placeholder.
_bare = r"\$(?!upstream\b)[A-Za-z_]\w*|\[\$\w+\]|__[A-Z][A-Z0-9_]*"
_whole = re.compile(_bare).fullmatch
_start = re.compile(_bare).match


def inside(text: str) -> tuple[str, ...]:
    """Placeholders in plain text: `${NAME}`, `$NAME`, `<name>`, or the whole text `$name`, `[$name]` or `__NAME`."""
    return _listed(_whole(text), _in_text.findall(text))


def of_secret(text: str) -> tuple[str, ...]:
    """Placeholders in a password, whose characters can be any: as `inside`, but `$NAME` as the whole text alone."""
    return _listed(
        _whole(text), [placeholder for placeholder in _in_text.findall(text) if not placeholder[1:].isidentifier()]
    )


def at_start(text: str) -> tuple[str, ...]:
    """Placeholders in an image or a registry's address, which may also begin with `$NAME`."""
    return _listed(_start(text), _in_text.findall(text))


def variables(text: str) -> tuple[str, ...]:
    """Placeholders in text with a grammar of its own, where only `${NAME}` and `$NAME` in capitals mean nothing else."""
    return _listed(None, _variables.findall(text))


def _listed(bare: re.Match[str] | None, placeholders: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*([bare.group()] if bare else []), *placeholders]))
