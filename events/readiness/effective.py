"""Findings on an effective configuration, which workers store by its digest, and the deployment that caused each."""

from collections.abc import Mapping

import msgspec

from events import canonical
from events.canonical import JsonObject
from events.readiness.catalogue import VERSION
from events.readiness.check import check
from events.readiness.finding import Finding
from events.readiness.pointer import names_of
from events.readiness.profile import Profile
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
        modules: dict[str, set[str]] = {}
        for finding in findings_of(sections):
            modules.setdefault(finding.rule, set()).add(finding.module)
        return cls(VERSION, {rule: tuple(sorted(names)) for rule, names in modules.items()})


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
