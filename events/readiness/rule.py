"""A rule: one question that a manifest or a device is asked before production."""

import enum
from collections.abc import Callable, Iterator

import msgspec

from events.manifest.problem import Severity
from events.readiness.finding import Hit
from events.readiness.host_facts import HostFacts
from events.readiness.subject import Module, ReadinessSubject

Find = Callable[[ReadinessSubject, int], Iterator[Hit]]
"""Hits in a subject at a time in milliseconds."""


class Inspects(enum.Enum):
    """What a rule has to see before it can say anything."""

    PART = "any manifest, a layer alone included"
    WHOLE = "a standard manifest, or layers merged onto one"
    LAYER = "a layer"
    HOST = "what a device reports of its host"
    NOTHING = "no program: somebody has to see to it"


class Rule(msgspec.Struct, frozen=True):
    """A rule of the catalogue. `source` says where it comes from, `fixes` whether its hits can carry a patch."""

    id: str
    title: str
    severity: Severity
    inspects: Inspects
    reason: str
    remedy: str
    source: str
    find: Find
    fixes: bool = False


def rule(
    rule_id: str,
    title: str,
    severity: Severity,
    *,
    reason: str,
    remedy: str,
    source: str,
    inspects: Inspects = Inspects.PART,
    fixes: bool = False,
) -> Callable[[Callable[[ReadinessSubject], Iterator[Hit]]], Rule]:
    """Make a rule of a function that looks through a subject."""

    def made(function: Callable[[ReadinessSubject], Iterator[Hit]]) -> Rule:
        def find(subject: ReadinessSubject, _now: int) -> Iterator[Hit]:
            return function(subject)

        return Rule(rule_id, title, severity, inspects, reason, remedy, source, find, fixes)

    return made


def module_rule(
    rule_id: str, title: str, severity: Severity, *, reason: str, remedy: str, source: str, fixes: bool = False
) -> Callable[[Callable[[ReadinessSubject, Module], Iterator[Hit]]], Rule]:
    """Make a rule of a function that looks at one module."""

    def made(function: Callable[[ReadinessSubject, Module], Iterator[Hit]]) -> Rule:
        def find(subject: ReadinessSubject, _now: int) -> Iterator[Hit]:
            for module in subject.modules:
                yield from function(subject, module)

        return Rule(rule_id, title, severity, Inspects.PART, reason, remedy, source, find, fixes)

    return made


def host_rule(
    rule_id: str, title: str, severity: Severity, *, reason: str, remedy: str, source: str
) -> Callable[[Callable[[ReadinessSubject, HostFacts, int], Iterator[Hit]]], Rule]:
    """Make a rule of a function that looks at a device's host facts, beside what the device is to run."""

    def made(function: Callable[[ReadinessSubject, HostFacts, int], Iterator[Hit]]) -> Rule:
        def find(subject: ReadinessSubject, now: int) -> Iterator[Hit]:
            if subject.host is not None:
                yield from function(subject, subject.host, now)

        return Rule(rule_id, title, severity, Inspects.HOST, reason, remedy, source, find)

    return made


def by_hand(rule_id: str, title: str, *, reason: str, remedy: str, source: str) -> Rule:
    """A point of the checklist that no program can see."""
    return Rule(rule_id, title, Severity.INFO, Inspects.NOTHING, reason, remedy, source, _nothing)


def _nothing(_subject: ReadinessSubject, _now: int) -> Iterator[Hit]:
    return iter(())
