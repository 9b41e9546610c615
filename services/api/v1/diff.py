"""`/v1/diff`: what changed between two points in time, why, and by whom."""

from typing import Annotated

from fastapi import Query, Request

from events.log.keys import FLEET, partition_of
from services.api.context.point_in_time import AT_CHARACTERS_MAX, AT_FORM, AtMode, PastContexts
from services.api.http.access import REGISTRY_READ, TWIN_READ, Access
from services.api.http.errors import BodyInvalid
from services.api.http.path_names import DEPLOYMENT, DEPLOYMENT_FORM, DEVICE, DEVICE_FORM
from services.api.http.request_costs import LONG
from services.api.v1.changes import ComparedContexts, of_deployment, of_device, of_fleet
from services.api.v1.diff_answer import Diff
from services.api.v1.router import v1_router

ThisDevice = Annotated[str | None, Query(description=f"Only this device: {DEVICE}.", json_schema_extra=DEVICE_FORM)]
ThisDeployment = Annotated[
    str | None, Query(description=f"Only this deployment: {DEPLOYMENT}.", json_schema_extra=DEPLOYMENT_FORM)
]

router = v1_router()


@router.get("/diff")
@Access(REGISTRY_READ | TWIN_READ, at="it has two points in time of its own, `from` and `to`", cost=LONG)
def diff(
    request: Request,
    *,
    first: Annotated[
        str,
        Query(
            alias="from",
            max_length=AT_CHARACTERS_MAX,
            pattern=AT_FORM,
            description="The earlier point in time, as `at`.",
            examples=["fleet:1"],
        ),
    ],
    last: Annotated[
        str | None,
        Query(
            alias="to",
            max_length=AT_CHARACTERS_MAX,
            pattern=AT_FORM,
            description="The later point in time, as `at`. The default is now.",
        ),
    ] = None,
    device: ThisDevice = None,
    deployment: ThisDeployment = None,
    mode: AtMode = "in-effect",
) -> Diff:
    """What changed between two points in time: removals first, with the events in between. Secrets appear as `***`."""
    if device is not None and deployment is not None:
        raise BodyInvalid(
            "`device` and `deployment` cannot both be set; a diff is of a device, a deployment or the fleet"
        )
    past: PastContexts = request.app.state.past
    before, after = past.point_in_time(first), past.point_in_time(last)
    behind = [stream for stream in before.positions if before.positions[stream] > after.positions[stream]]
    if behind or before.time > after.time:
        raise BodyInvalid(f"`to` ({after.text([FLEET])}) must not be before `from` ({before.text([FLEET])})")
    fleet = past.fleet_events()
    skipped = fleet.skipped(FLEET)
    envelopes = fleet.upto(after.positions[FLEET], after=before.positions[FLEET])
    events = tuple(envelope for envelope in envelopes if envelope.position not in skipped)
    both = ComparedContexts(past.context_at(before, mode), past.context_at(after, mode), events)
    if device is not None:
        return of_device(both, device, skipped=fleet.skipped(partition_of(device, both.after.log.partitions)))
    return of_fleet(both) if deployment is None else of_deployment(both, deployment)
