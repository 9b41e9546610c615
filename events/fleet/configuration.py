"""Effective configurations: the merge of a stack of deployments, content-addressed, computed once and shared."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

import msgspec

from events import canonical
from events.canonical import JsonObject
from events.fleet.deployments import Deployment
from events.manifest.document import DEVICE, MODULE, desired_status
from events.manifest.merge import merge, over_limit
from events.readiness.effective import RuleFindings

AGENT = "$edgeAgent"
HUB = "$edgeHub"
_UNREPORTED = frozenset({"configuration", "imagePullPolicy", "startupOrder"})


class Configuration(msgspec.Struct, frozen=True, eq=False, dict=True):
    """The effective configuration of a device: the desired properties of each module twin, as canonical bytes by module."""

    digest: str
    sections: dict[str, msgspec.Raw]
    section_digests: dict[str, str]
    statuses: tuple[tuple[str, str], ...]
    """Module name → desired status, sorted; the system modules as `$edgeAgent` and `$edgeHub`."""

    @classmethod
    def of(cls, sections: Mapping[str, JsonObject]) -> "Configuration":
        """The configuration of sections; equal sections give an equal digest."""
        encoded = {module: canonical.encode(section) for module, section in sorted(sections.items())}
        digests = {module: hashlib.sha256(data).hexdigest() for module, data in encoded.items()}
        return cls(
            canonical.digest(digests)[:32],
            {module: msgspec.Raw(data) for module, data in encoded.items()},
            digests,
            tuple(sorted(desired_status(sections).items())),
        )

    @property
    def module_ids(self) -> frozenset[str]:
        """The modules with a section, and the modules that the agent must run."""
        return _named_in(bytes(self.sections.get(AGENT, b"{}"))) | (self.sections.keys() - {DEVICE, MODULE})

    @property
    def is_of_modules(self) -> bool:
        """Whether it is a configuration of an edge device's modules and not empty; otherwise it is for one twin."""
        return bool(self.sections) and not self.sections.keys() & {DEVICE, MODULE}

    @cached_property
    def findings(self) -> RuleFindings:
        """The findings of the readiness rules."""
        return RuleFindings.of({module: msgspec.json.decode(section) for module, section in self.sections.items()})

    @cached_property
    def runtime_mark(self) -> int:
        """A mark of the modules that the agent must run, equal where it has nothing new to report; 0 without modules."""
        if not self.statuses:
            return 0
        # Members that the agent neither acts on nor reports (contract/edge.md §1.2) are left out: no report would come, and a
        # rollout's gate would wait for ever.
        agent = msgspec.json.decode(bytes(self.sections[AGENT]))
        specs = (_reported_specs(agent.get("modules")), _reported_specs(agent.get("systemModules")))
        return 1 + int.from_bytes(hashlib.sha256(canonical.encode(specs)).digest()[:4], "big") % (2**32 - 2)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Configuration":
        """The configuration of the bytes of its sections."""
        return cls.of(msgspec.json.decode(data))


def _reported_specs(group: object) -> JsonObject:
    specs = group if isinstance(group, dict) else {}
    return {
        name: {member: value for member, value in spec.items() if member not in _UNREPORTED}
        for name, spec in specs.items()
        if isinstance(spec, dict)
    }


def module_ids(sections: Mapping[str, JsonObject]) -> set[str]:
    """The modules of a configuration: those with a section, and those that the agent must run."""
    listed = sections.get(AGENT, {}).get("modules")
    return (set(sections) - {DEVICE, MODULE}) | (set(listed) if isinstance(listed, dict) else set())


# Many configurations have the same agent section, so it is decoded once.
@lru_cache(maxsize=4096)
def _named_in(agent: bytes) -> frozenset[str]:
    return frozenset(module_ids({AGENT: msgspec.json.decode(agent)})) - {AGENT}


class ConfigurationOverLimit(msgspec.Struct, frozen=True):
    """A merge that is not applied because it is over a limit; the device keeps its configuration."""

    reason: str


def effective(stack: Sequence[Deployment]) -> Configuration | ConfigurationOverLimit:
    """The merge of a base and its layers, ascending (contract/hub.md §3.3), or the limit that it exceeds."""
    base, *layers = stack
    sections = merge(base.content, [layer.content for layer in layers])
    reason = over_limit(sections)
    return ConfigurationOverLimit(reason) if reason else Configuration.of(sections)


NOTHING = Configuration.of({})
