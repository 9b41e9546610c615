"""Findings on an effective configuration, which workers store by its digest, and the deployment that caused each."""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import msgspec

from events import canonical
from events.canonical import JsonObject
from events.manifest.document import AGENT
from events.readiness.catalogue import RULES, VERSION
from events.readiness.check import check, has_input
from events.readiness.finding import Finding, Hit, printable
from events.readiness.pointer import names_of
from events.readiness.profile import Profile
from events.readiness.rule import Rule
from events.readiness.subject import ReadinessSubject, subject_of_sections


class RuleFindings(msgspec.Struct, frozen=True, array_like=True):
    """What the rules of a version found: rule → the modules with a finding, sorted.

    The empty module name is for findings that are not about a module. Rules about hosts are not included.
    """

    version: int
    modules: dict[str, tuple[str, ...]]

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.encode(self)

    @classmethod
    def of(cls, sections: Mapping[str, JsonObject]) -> "RuleFindings":
        """Check the sections; the result depends only on them and on the version of the rules."""
        subject = subject_of_sections(sections, name="")
        pairs = [
            pair for rule in _RULES_OF_ALL if has_input(rule, subject) for pair in _pairs(rule, rule.find(subject))
        ]
        for module in subject.modules:
            pairs += _in_module(module.path, canonical.encode(module.spec), template=subject.template)
        modules: dict[str, set[str]] = {}
        for rule_id, module_name in pairs:
            modules.setdefault(rule_id, set()).add(module_name)
        return cls(VERSION, {rule_id: tuple(sorted(names)) for rule_id, names in modules.items()})


_RULES_OF_MODULES = tuple((rule, rule.find_in_module) for rule in RULES if rule.find_in_module is not None)
_RULES_OF_ALL = tuple(rule for rule in RULES if rule.find_in_module is None)


# A new deployment makes a configuration for each stack that it joins. Nearly all of their modules are in other configurations,
# too, and the rules that look at one module on its own took two thirds of the time of a check.
@lru_cache(maxsize=4096)
def _in_module(path: tuple[str, ...], spec: bytes, *, template: bool) -> tuple[tuple[str, str], ...]:
    """Return what the rules of modules find in one module, as (rule, module)."""
    group, name = path
    sections: dict[str, JsonObject] = {AGENT: {group: {name: msgspec.json.decode(spec)}}}
    subject = subject_of_sections(sections, name="", template=template)
    (module,) = subject.modules
    return tuple(pair for rule, find in _RULES_OF_MODULES for pair in _pairs(rule, find(subject, module)))


def _pairs(rule: Rule, hits: Iterable[Hit]) -> Iterator[tuple[str, str]]:
    return ((rule.id, printable(hit.module)) for hit in hits)


_decoder = msgspec.json.Decoder(RuleFindings)


def read_findings(data: bytes | None) -> RuleFindings | None:
    """Read the bytes of `to_bytes`; `None` without data, or if another version of the rules wrote them."""
    findings = None if data is None else _decoder.decode(data)
    return findings if findings is not None and findings.version == VERSION else None


def findings_of(sections: Mapping[str, JsonObject]) -> tuple[Finding, ...]:
    """Return the findings of all rules but those about hosts; the severities are those of the catalogue."""
    # Every rule, because readers apply their own profile to the stored findings.
    return check(subject_of_sections(sections, name=""), Profile("every rule", {}), now=0).findings


def written_in(stack: ReadinessSubject, pointer: str) -> str:
    """Return the name of the document that wrote an element of the merge; `pointer` is that of a finding on the merge."""
    match names_of(pointer):
        # The third name is `properties.desired`, and the rest is the path in the section.
        case [_, twin, *path]:
            return stack.documents[stack.location(twin, tuple(path[1:])).document].name
        case _:
            return stack.last.name
