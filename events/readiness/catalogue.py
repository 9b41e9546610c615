"""All rules, in the order of the checklist."""

from events.readiness.rule import Rule
from events.readiness.rules import (
    host,
    images,
    isolation,
    layers,
    limits,
    manual,
    options,
    registries,
    routes,
    runtime,
    structure,
)

VERSION = 2
"""Raised with every change of what a rule finds: what is kept of the rules of another version is made anew."""

RULES: tuple[Rule, ...] = tuple(
    value
    for context in (structure, layers, images, runtime, limits, options, isolation, registries, routes, host, manual)
    for value in vars(context).values()
    if isinstance(value, Rule)
)

BY_ID = {rule.id: rule for rule in RULES}
