"""A rule: one check of a manifest or a device before production.

A rule is written as a function whose docstring is the text of reports and of the reference: its first line is the title,
the next paragraph the reason, and after `Remedy:` comes the remedy. `values` fill `{name}` in it.
"""

import enum
import inspect
from collections.abc import Callable, Iterator
from functools import wraps

import msgspec

from events.manifest.problem import Severity
from events.readiness.finding import Hit
from events.readiness.host_facts import HostFacts
from events.readiness.module import Module
from events.readiness.subject import ReadinessSubject

Find = Callable[[ReadinessSubject], Iterator[Hit]]
"""Yields the hits in a subject."""

FindInModule = Callable[[ReadinessSubject, Module], Iterator[Hit]]
"""Yields the hits in one module of a subject."""


class Inspects(enum.Enum):
    """The input that a rule needs."""

    PART = "any manifest, a layer alone included"
    WHOLE = "a standard manifest, or layers merged onto one"
    LAYER = "a layer"
    HOST = "what a device reports of its host"
    NOTHING = "nothing: people check it"


class Rule(msgspec.Struct, frozen=True):
    """A rule of the catalogue. `source` is the origin of the rule, and `fixes` says whether its hits can have a patch.

    `find_in_module` is present if the rule looks at each module on its own.
    """

    id: str
    title: str
    severity: Severity
    inspects: Inspects
    reason: str
    remedy: str
    source: str
    find: Find = lambda _subject: iter(())
    fixes: bool = False
    find_in_module: FindInModule | None = None


def rule(
    rule_id: str,
    severity: Severity,
    inspects: Inspects = Inspects.PART,
    *,
    source: str,
    fixes: bool = False,
    **values: object,
) -> Callable[[Find], Rule]:
    """Return a decorator that makes a rule from a function of a subject."""

    def decorated(find: Find) -> Rule:
        text = inspect.cleandoc(find.__doc__ or "")
        title, _, explanation = (text.format(**values) if values else text).partition(".\n\n")
        reason, _, remedy = explanation.partition("\nRemedy: ")
        return Rule(rule_id, title, severity, inspects, reason, remedy, source, find, fixes)

    return decorated


def module_rule(
    rule_id: str, severity: Severity, *, source: str, fixes: bool = False, **values: object
) -> Callable[[FindInModule], Rule]:
    """Return a decorator that makes a rule from a function of one module; it runs for each module.

    Of the subject, the function may read only `template` and `host`.
    """

    def decorated(function: FindInModule) -> Rule:
        @wraps(function)
        def find(subject: ReadinessSubject) -> Iterator[Hit]:
            for module in subject.modules:
                yield from function(subject, module)

        made = rule(rule_id, severity, Inspects.PART, source=source, fixes=fixes, **values)(find)
        return msgspec.structs.replace(made, find_in_module=function)

    return decorated


def host_rule(
    rule_id: str, severity: Severity, *, source: str
) -> Callable[[Callable[[ReadinessSubject, HostFacts], Iterator[Hit]]], Rule]:
    """Return a decorator that makes a rule from a function of host facts; devices without host facts are skipped."""

    def decorated(function: Callable[[ReadinessSubject, HostFacts], Iterator[Hit]]) -> Rule:
        @wraps(function)
        def find(subject: ReadinessSubject) -> Iterator[Hit]:
            if isinstance(subject.host, HostFacts):
                yield from function(subject, subject.host)

        return rule(rule_id, severity, Inspects.HOST, source=source)(find)

    return decorated
