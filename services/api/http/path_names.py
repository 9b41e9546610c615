"""The names in paths, with the examples that the description of the API gives."""

from typing import Annotated, Any

from fastapi import Path

from events.fleet.deployment_status import STATUSES
from events.member_names import camel_case
from events.readiness.catalogue import BY_ID
from events.rollout.events import RecordedCounts

DEVICE = "1 to 128 ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '"
DEPLOYMENT = "1 to 128 lower-case ASCII letters, digits and - + % _ * ! '"

# Described here and not validated: the deciders reject such names with their own messages, and reading one is a 404.
DEVICE_FORM = {"pattern": r"^[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}$"}
DEPLOYMENT_FORM = {"pattern": r"^[a-z0-9\-+%_*!']{1,128}$"}


def _named(description: str, example: str, **form: Any) -> Any:
    return Path(description=description, examples=[example], json_schema_extra=form)


ACTS = ("start", "pause", "resume", "approve", "skip", "retry", "abort", "rollback")
TALLIED = tuple(map(camel_case, RecordedCounts.__struct_fields__))

_WAIVER = "1 to 64 ASCII letters, digits and . _ @ + -"
_WEBHOOK = "1 to 64 lower-case ASCII letters, digits and . _ -, a letter or digit first"

DeviceId = Annotated[str, _named(DEVICE, "edge-1", **DEVICE_FORM)]
ModuleId = Annotated[str, _named(f"{DEVICE}; $edgeAgent and $edgeHub always exist", "sensor", **DEVICE_FORM)]
# Several names for one rule: the tests send each request with the example of its path, and the examples differ in their state.
DeploymentId = Annotated[str, _named(DEPLOYMENT, "north", **DEPLOYMENT_FORM)]
NewDeploymentId = Annotated[str, _named(DEPLOYMENT, "south", **DEPLOYMENT_FORM)]
RolledOutId = Annotated[str, _named(DEPLOYMENT, "phased", **DEPLOYMENT_FORM)]
HeldId = Annotated[str, _named(DEPLOYMENT, "held", **DEPLOYMENT_FORM)]
RuleName = Annotated[str, _named("a rule, as in docs/reference/readiness.md", "privileged", enum=[*BY_ID])]
WaiverName = Annotated[str, _named(_WAIVER, "press-driver", pattern=r"^[A-Za-z0-9._@+\-]{1,64}$")]
ActName = Annotated[str, _named("what the rollout does next", "start", enum=list(ACTS))]
TalliedName = Annotated[str, _named("healthy, already, failed and so on", "target", enum=list(TALLIED))]
WebhookId = Annotated[str, _named(_WEBHOOK, "siem", pattern=r"^[a-z0-9][a-z0-9._\-]{0,63}$")]
StopName = Annotated[str, _named("a stream and a position", "p03:17", pattern=r"^(fleet|p[0-9]{2,3}):[0-9]{1,16}$")]
StatusName = Annotated[str, _named("target, actual, healthy and so on", "target", enum=list(STATUSES))]
