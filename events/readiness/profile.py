"""Profiles: the severity of each rule in an environment, and the labels of a deployment that override it."""

from collections.abc import Mapping

import msgspec

from events.manifest.problem import Severity
from events.readiness.catalogue import BY_ID

OFF = "off"
PROFILE_LABEL = "readiness.profile"
RULE_LABEL = "readiness."

_SEVERITIES: dict[str, Severity | None] = {**{severity.value: severity for severity in Severity}, OFF: None}


class Profile(msgspec.Struct, frozen=True):
    """A profile's changes: rule → severity, `None` for off. Every other rule has the severity of the catalogue."""

    name: str
    changes: dict[str, Severity | None]

    def severity_of(self, rule_id: str) -> Severity | None:
        """Return the severity of a rule's findings; `None` if the rule is off."""
        return self.changes[rule_id] if rule_id in self.changes else BY_ID[rule_id].severity


# These rules save memory and disk space, which matters only on small devices.
_CONSTRAINED_ONLY: dict[str, Severity | None] = dict.fromkeys(("hub-optimize", "hub-protocol-heads", "hub-ttl-long"))

PRODUCTION = Profile("production", _CONSTRAINED_ONLY)
DEVELOPMENT = Profile(
    "development",
    {
        **_CONSTRAINED_ONLY,
        **dict.fromkeys(("cap-add", "create-options-unchunked", "devices", "host-ports-any-address", "log-config")),
        **dict.fromkeys(("dev-cert-temporary", "dev-engine-moby", "module-not-routed", "registry-password-clear")),
        **dict.fromkeys(("res-cpu", "res-memory", "runtime-registry", "sysmod-storage", "update-mode")),
        **dict.fromkeys(
            ("debug-ports", "image-debug", "privileged", "registry-admin-user", "tag-latest", "tag-rolling-runtime"),
            Severity.INFO,
        ),
    },
)
CONSTRAINED = Profile(
    "constrained",
    {**dict.fromkeys((*_CONSTRAINED_ONLY, "gc-enabled", "vol-unused"), Severity.WARNING), "res-memory": Severity.ERROR},
)

PROFILES = {profile.name: profile for profile in (PRODUCTION, DEVELOPMENT, CONSTRAINED)}


def labelled(profile: Profile, labels: Mapping[str, str]) -> tuple[Profile, tuple[str, ...]]:
    """Return the profile with the overrides of a deployment's labels, and the labels that are unknown."""
    unknown = []
    chosen = labels.get(PROFILE_LABEL)
    if chosen in PROFILES:
        profile = PROFILES[chosen]
    elif chosen is not None:
        unknown.append(PROFILE_LABEL)
    # After the choice of the profile, so that labels of rules override it, whatever their order.
    changes = dict(profile.changes)
    for label, value in labels.items():
        rule_id = label.removeprefix(RULE_LABEL)
        if not label.startswith(RULE_LABEL) or label == PROFILE_LABEL:
            continue
        if rule_id in BY_ID and value in _SEVERITIES:
            changes[rule_id] = _SEVERITIES[value]
        else:
            unknown.append(label)
    return Profile(profile.name, changes), tuple(unknown)
