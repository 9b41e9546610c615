"""The names in paths, with the examples that the description of the API gives."""

from typing import Annotated

from fastapi import Path

from events.camel_case import camel_case
from events.readiness.catalogue import BY_ID
from events.rollout.events import RecordedCounts
from events.stored_projection.partition_reader import STATUSES

DEVICE = "1 to 128 ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '"
DEPLOYMENT = "1 to 128 lower-case ASCII letters, digits and - + % _ * ! '"

# Described here and not validated: the deciders reject such names with their own messages, and reading one is a 404.
DEVICE_FORM = {"pattern": r"^[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}$"}
DEPLOYMENT_FORM = {"pattern": r"^[a-z0-9\-+%_*!']{1,128}$"}

DeviceId = Annotated[str, Path(description=DEVICE, examples=["edge-1"], json_schema_extra=DEVICE_FORM)]
ModuleId = Annotated[
    str,
    Path(
        description=f"{DEVICE}; $edgeAgent and $edgeHub are there",
        examples=["sensor"],
        json_schema_extra=DEVICE_FORM,
    ),
]
DeploymentId = Annotated[str, Path(description=DEPLOYMENT, examples=["north"], json_schema_extra=DEPLOYMENT_FORM)]
NewDeploymentId = Annotated[str, Path(description=DEPLOYMENT, examples=["south"], json_schema_extra=DEPLOYMENT_FORM)]
RuleName = Annotated[
    str,
    Path(
        description="a rule, as in docs/reference/readiness.md",
        examples=["privileged"],
        json_schema_extra={"enum": [*BY_ID]},
    ),
]
WaiverName = Annotated[
    str,
    Path(
        description="1 to 64 ASCII letters, digits and . _ @ + -",
        examples=["press-driver"],
        json_schema_extra={"pattern": r"^[A-Za-z0-9._@+\-]{1,64}$"},
    ),
]
RolledOutId = Annotated[str, Path(description=DEPLOYMENT, examples=["phased"], json_schema_extra=DEPLOYMENT_FORM)]
HeldId = Annotated[str, Path(description=DEPLOYMENT, examples=["held"], json_schema_extra=DEPLOYMENT_FORM)]
ACTS = ("start", "pause", "resume", "approve", "skip", "retry", "abort", "rollback")
ActName = Annotated[
    str, Path(description="what is to happen", examples=["start"], json_schema_extra={"enum": list(ACTS)})
]
TALLIED = tuple(map(camel_case, RecordedCounts.__struct_fields__))
TalliedName = Annotated[
    str,
    Path(
        description="healthy, already, failed and so on",
        examples=["target"],
        json_schema_extra={"enum": list(TALLIED)},
    ),
]
WebhookId = Annotated[
    str,
    Path(
        description="1 to 64 lower-case ASCII letters, digits and . _ -, a letter or digit first",
        examples=["siem"],
        json_schema_extra={"pattern": r"^[a-z0-9][a-z0-9._\-]{0,63}$"},
    ),
]
StopName = Annotated[
    str,
    Path(
        description="a stream and a position",
        examples=["p03:17"],
        json_schema_extra={"pattern": r"^(fleet|p[0-9]{2,3}):[0-9]{1,16}$"},
    ),
]
StatusName = Annotated[
    str,
    Path(
        description="target, actual, healthy and so on",
        examples=["target"],
        json_schema_extra={"enum": list(STATUSES)},
    ),
]
