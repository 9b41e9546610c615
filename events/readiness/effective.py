"""What the rules say of an effective configuration: what is kept of that by its digest, and which deployment wrote what."""

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

EVERY_RULE = Profile("every rule", {})
"""Nothing is off: profiles are applied when findings are read."""


class RuleFindings(msgspec.Struct, frozen=True, array_like=True):
    """What the rules of a version found: rule → the modules it stopped at, sorted.

    The empty name stands for what is about no module. Rules on hosts are not among them.
    """

    version: int
    modules: dict[str, tuple[str, ...]]

    def to_bytes(self) -> bytes:
        """Canonical bytes."""
        return canonical.encode(self)

    @classmethod
    def of(cls, sections: Mapping[str, JsonObject]) -> "RuleFindings":
        """A pure function of the sections and of the rules' version."""
        modules: dict[str, set[str]] = {}
        for finding in findings_of(sections):
            modules.setdefault(finding.rule, set()).add(finding.module)
        return cls(VERSION, {rule: tuple(sorted(names)) for rule, names in modules.items()})


_decoder = msgspec.json.Decoder(RuleFindings)


def read_found(data: bytes | None) -> RuleFindings | None:
    """Read what `to_bytes` wrote; `None` where nothing is kept, or what rules of another version found."""
    findings = None if data is None else _decoder.decode(data)
    return findings if findings is not None and findings.version == VERSION else None


def findings_of(sections: Mapping[str, JsonObject]) -> tuple[Finding, ...]:
    """The findings of every rule on an effective configuration, those on hosts aside; severities are the catalogue's."""
    return check(subject_of_sections(sections, name=""), EVERY_RULE, now=0).findings


def written_in(stack: ReadinessSubject, pointer: str) -> str:
    """The document of a stack that wrote an element of the merge last; `pointer` is as in a finding on the merge."""
    names = names_of(pointer)
    if len(names) < len(("modulesContent", "twin")):
        return stack.last.name
    _, twin, *path = names
    return stack.documents[stack.location(twin, path[1:]).document].name
