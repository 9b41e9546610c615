"""A rule: one check of a manifest or a device before production."""

import enum
from collections.abc import Callable, Iterator
from typing import TypedDict

import msgspec
from typing_extensions import Unpack

from events.manifest.problem import Severity
from events.readiness.finding import Hit
from events.readiness.host_facts import HostFacts
from events.readiness.module import Module
from events.readiness.subject import ReadinessSubject

Find = Callable[[ReadinessSubject, int], Iterator[Hit]]
"""Yields the hits in a subject at a time in milliseconds."""


class Inspects(enum.Enum):
    """The input that a rule needs."""

    PART = "any manifest, a layer alone included"
    WHOLE = "a standard manifest, or layers merged onto one"
    LAYER = "a layer"
    HOST = "what a device reports of its host"
    NOTHING = "nothing: people check it"


class Rule(msgspec.Struct, frozen=True):
    """A rule of the catalogue. `source` is the origin of the rule, and `fixes` says whether its hits can have a patch."""

    id: str
    title: str
    severity: Severity
    inspects: Inspects
    reason: str
    remedy: str
    source: str
    find: Find
    fixes: bool = False


class RuleText(TypedDict):
    """The texts of a rule; its title is the docstring of its function."""

    reason: str
    remedy: str
    source: str


def rule(
    rule_id: str,
    severity: Severity,
    *,
    inspects: Inspects = Inspects.PART,
    fixes: bool = False,
    **text: Unpack[RuleText],
) -> Callable[[Callable[[ReadinessSubject], Iterator[Hit]]], Rule]:
    """Return a decorator that makes a rule from a function of a subject."""

    def decorated(function: Callable[[ReadinessSubject], Iterator[Hit]]) -> Rule:
        def find(subject: ReadinessSubject, _now: int) -> Iterator[Hit]:
            return function(subject)

        return Rule(rule_id, _title(function), severity, inspects, find=find, fixes=fixes, **text)

    return decorated


def module_rule(
    rule_id: str, severity: Severity, *, fixes: bool = False, **text: Unpack[RuleText]
) -> Callable[[Callable[[ReadinessSubject, Module], Iterator[Hit]]], Rule]:
    """Return a decorator that makes a rule from a function of one module; it runs for each module."""

    def decorated(function: Callable[[ReadinessSubject, Module], Iterator[Hit]]) -> Rule:
        def find(subject: ReadinessSubject, _now: int) -> Iterator[Hit]:
            for module in subject.modules:
                yield from function(subject, module)

        return Rule(rule_id, _title(function), severity, Inspects.PART, find=find, fixes=fixes, **text)

    return decorated


def host_rule(
    rule_id: str, severity: Severity, **text: Unpack[RuleText]
) -> Callable[[Callable[[ReadinessSubject, HostFacts, int], Iterator[Hit]]], Rule]:
    """Return a decorator that makes a rule from a function of host facts; devices without host facts are skipped."""

    def decorated(function: Callable[[ReadinessSubject, HostFacts, int], Iterator[Hit]]) -> Rule:
        def find(subject: ReadinessSubject, now: int) -> Iterator[Hit]:
            if subject.host is not None:
                yield from function(subject, subject.host, now)

        return Rule(rule_id, _title(function), severity, Inspects.HOST, find=find, **text)

    return decorated


def by_hand(rule_id: str, title: str, **text: Unpack[RuleText]) -> Rule:
    """Return a rule for a point of the checklist that only people can check."""
    return Rule(rule_id, title, Severity.INFO, Inspects.NOTHING, find=lambda *_: iter(()), **text)


def _title(function: Callable[..., Iterator[Hit]]) -> str:
    # One text is both the docstring and the title in reports, so that the two cannot differ.
    return (function.__doc__ or "").removesuffix(".")
