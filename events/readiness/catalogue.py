"""All readiness rules, in the order of the checklist."""

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
"""The version of the rules. A change of what a rule finds raises it, and stored findings of another version are discarded."""

# The order of the definitions is the order of the checklist, and of findings in reports.
RULES: tuple[Rule, ...] = tuple(
    value
    for module in (structure, layers, images, runtime, limits, options, isolation, registries, routes, host, manual)
    for value in vars(module).values()
    if isinstance(value, Rule)
)

BY_ID = {rule.id: rule for rule in RULES}
