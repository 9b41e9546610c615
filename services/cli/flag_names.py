"""The flag that sets each member of a request, so that errors of the API name what the user typed."""

import re
from collections.abc import Mapping

from events.member_names import body_name, renamed

FLAGS: Mapping[str, str] = {
    "approvalByAnother": "--approve-by-another",
    "condition": "--condition",
    "deployments": "--deployment",
    "description": "--description",
    "devices": "--device",
    "endAt": "--end",
    "failure.answeredMin": "--answered",
    "failure.count": "--fail-count",
    "failure.percent": "--fail-percent",
    "kinds": "--kind",
    "labels": "--label",
    "offline": "--offline",
    "offlineSeconds": "--offline-after",
    "phases": "--phase",
    "phases[].count": "--phase",
    "phases[].gate.answeredMin": "--answered",
    "phases[].gate.deviceTimeoutSeconds": "--device-timeout",
    "phases[].gate.phaseTimeoutSeconds": "--timeout",
    "phases[].gate.soakSeconds": "--soak",
    "phases[].gate.successPercent": "--success",
    "phases[].percent": "--phase",
    "phases[]": "--phase",
    "policy.answeredMin": "--answered",
    "policy.count": "--count",
    "policy.percent": "--percent",
    "policy.update": "--roll-back-to",
    "priority": "--priority",
    "rate.perMinute": "--rate",
    "reason": "--reason",
    "restore": "--restore",
    "rollbackTo": "--rollback-to",
    "schedule.end": "--end",
    "schedule.start": "--start",
    "schedule.zone": "--zone",
    "spread.atMost": "--per-tag",
    "spread.tag": "--per-tag",
    "startAt": "--start",
    "statusReason": "--status-reason",
    "targetCondition": "--condition",
    "until": "--until",
    "why": "--why",
    "windows": "--window",
    "windows[]": "--window",
    "windows[].cron": "--window",
    "windows[].minutes": "--window-minutes",
    "windows[].zone": "--zone",
}
"""Path of a member in a request body → flag. Members that come from a file (`--file`, `--plan`, a manifest) have no flag."""

# Flags that can be repeated: a message about one of them needs its number, as in "--phase number 2".
_REPEATED = {"--phase", "--window"}
_INDEX = re.compile(r"\[([0-9]+)\]")


def in_flags(message: str) -> str:
    """A message of the API with flags in place of the members that it names."""
    return renamed(message, _flag)


def _flag(name: str) -> str:
    member = body_name(name)
    flag, index = FLAGS.get(_INDEX.sub("[]", member)), _INDEX.search(member)
    if flag is None:
        return f"`{member}`"
    return f"{flag} number {int(index[1]) + 1}" if index is not None and flag in _REPEATED else flag
