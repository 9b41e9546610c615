"""Profiles: which rules hold where, and how much; and the labels of a deployment that say otherwise."""

from collections.abc import Mapping

import msgspec

from events.manifest.problem import Severity
from events.readiness.catalogue import BY_ID

OFF = "off"
PROFILE_LABEL = "readiness.profile"
RULE_LABEL = "readiness."

_SEVERITIES: dict[str, Severity | None] = {**{severity.value: severity for severity in Severity}, OFF: None}


class Profile(msgspec.Struct, frozen=True):
    """What a profile changes: rule → severity, `None` for off. Every other rule has the severity of the catalogue."""

    name: str
    changes: dict[str, Severity | None]

    def severity_of(self, rule_id: str) -> Severity | None:
        """How much a rule's findings weigh; `None` if it is off."""
        return self.changes[rule_id] if rule_id in self.changes else BY_ID[rule_id].severity


_SMALL: dict[str, Severity | None] = dict.fromkeys(("hub-optimize", "hub-protocol-heads", "hub-ttl-long"))

PRODUCTION = Profile("production", _SMALL)
DEVELOPMENT = Profile(
    "development",
    {
        **_SMALL,
        **dict.fromkeys(
            (
                "cap-add",
                "create-options-unchunked",
                "devices",
                "host-ports-any-address",
                "log-config",
                "module-not-routed",
            )
        ),
        **dict.fromkeys(("registry-password-clear", "res-cpu", "res-memory", "runtime-registry", "sysmod-storage")),
        **dict.fromkeys(("dev-cert-temporary", "dev-engine-moby", "update-mode")),
        **dict.fromkeys(
            ("debug-ports", "image-debug", "privileged", "registry-admin-user", "tag-latest", "tag-rolling-runtime"),
            Severity.INFO,
        ),
    },
)
CONSTRAINED = Profile(
    "constrained",
    {
        "hub-optimize": Severity.WARNING,
        "hub-protocol-heads": Severity.WARNING,
        "hub-ttl-long": Severity.WARNING,
        "res-memory": Severity.ERROR,
        "gc-enabled": Severity.WARNING,
        "vol-unused": Severity.WARNING,
    },
)

PROFILES = {profile.name: profile for profile in (PRODUCTION, DEVELOPMENT, CONSTRAINED)}


def labelled(profile: Profile, labels: Mapping[str, str]) -> tuple[Profile, tuple[str, ...]]:
    """The profile that a deployment's labels choose and change, and the labels that say nothing known."""
    unknown = []
    chosen = labels.get(PROFILE_LABEL)
    if chosen in PROFILES:
        profile = PROFILES[chosen]
    elif chosen is not None:
        unknown.append(PROFILE_LABEL)
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
