"""`/v1/deployments`: created, changed and listed, with the devices in each status."""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from fastapi import Header, Query, Request

from events.canonical import JsonObject
from events.deployment.advice import Advice
from events.deployment.commands import UpdateDeployment
from events.manifest.document import in_modern_form
from events.rollout.errors import PlanInvalid
from events.rollout.plan_text import plan_text
from events.secrets.references import extract, mask
from events.view_store.series import SAMPLES_MAX, SeriesStore
from events.view_store.targeted import Targeted
from events.views.reading import STATUSES
from services.api.context.deployments import deployment_of, deployment_seen, deployments_seen
from services.api.context.pages import PAGE_MAX, page, place_of
from services.api.context.request import author_of, caller_of, room_of
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import BodyInvalid, Forbidden, NotFound
from services.api.http.openapi import answers
from services.api.http.path_names import DeploymentId, NewDeploymentId, StatusName
from services.api.http.request_costs import CONTENT, LONG
from services.api.v1 import described
from services.api.v1.bodies import CreateBody, UpdateBody
from services.api.v1.devices import POSITION_MAX
from services.api.v1.readiness import readiness_of, report_shape
from services.api.v1.rollouts import create_of, line_of, rollouts_of
from services.api.v1.router import v1_router

router = v1_router(
    read=Access(REGISTRY_READ, scope="handler", at=True), write=Access(REGISTRY_WRITE, scope="handler", cost=CONTENT)
)


@router.get("/deployments", response_model=None, responses=answers(list[described.DeploymentLine]))
@Access(REGISTRY_READ, scope="handler", at=True, cost=LONG)
def list_deployments(request: Request, label: Annotated[list[str] | None, Query()] = None) -> list[JsonObject]:
    """The deployments that carry all of some labels (`?label=team=x`), with their counts, times and rollouts in short."""
    labels = dict(_pair(one) for one in label or [])
    seen = list(deployments_seen(request, labels))
    rollouts = rollouts_of(room_of(request), *(name for name, _, _ in seen))
    return [line_of(request, name, document, dict(counts or {}), rollouts[name]) for name, document, counts in seen]


def _pair(label: str) -> tuple[str, str]:
    name, equals, value = label.partition("=")
    if not equals:
        raise BodyInvalid(f"a label is asked for as name=value, not {label[:80]!r}")
    return name, value


@router.post("/deployments/{name}", status_code=201, response_model=None, responses=answers(described.Created, 201))
def create(request: Request, name: NewDeploymentId, body: CreateBody) -> JsonObject:
    """Create a deployment, validated in full, with its times and its rollout; answers what its author should know.

    `targeted` is how many devices it targets now, `readiness` has what the rules find in its content.
    """
    room = room_of(request)
    deployment, rollout = create_of(name, body)
    try:
        told, checked = room.do_together(author_of(request), deployment, *([] if rollout is None else [rollout]))
    except PlanInvalid as error:
        raise PlanInvalid(name, f"rollout.{error.element}", error.rule) from error
    targeted, advice = targeted_now(request, name, told)
    report, waivers = readiness_of(room, deployment, checked.get(name))
    return {
        "id": name,
        "targeted": targeted,
        "advice": [msgspec.to_builtins(one) for one in advice],
        "readiness": report_shape(request, report, waivers),
        "planText": None if rollout is None else msgspec.to_builtins(plan_text(rollout.plan)),
    }


def targeted_now(request: Request, name: str, advice: Iterable[Advice]) -> tuple[int | None, list[Advice]]:
    """How many devices a deployment targets that was just written, and what its author should know by now.

    Of layers and bases that outrank one another, those are told that have a device in common.
    """
    room = room_of(request)
    targeting = Targeted(room.log, room.views, room.view)
    document, within = deployment_of(room, name), room.within(caller_of(request))
    targeted = targeting.count(name, within=within)
    if targeted is None:
        return None, list(advice)
    met = [one for one in advice if one.rule != "layer-not-above-base" or targeting.meet(name, one.about)]
    return targeted, [*met, *targeting.advice(name, document, targeted, within=within)]


def _masked(content: JsonObject) -> Any:
    return mask(extract(content, new_id=lambda: "0")[0])


@router.put("/deployments/{name}", response_model=None, responses=answers(described.Created))
def update(
    request: Request, name: DeploymentId, body: UpdateBody, if_match: Annotated[str | None, Header()] = None
) -> JsonObject:
    """Change what may change of a deployment; what is left out stays. Says so if a content was sent that is another."""
    room = room_of(request)
    command = UpdateDeployment(name, body.target_condition, body.priority, body.labels, body.metrics, if_match or "*")
    targeted, said = targeted_now(request, name, room.do(command, author_of(request)))
    if body.content is not None and _masked(in_modern_form(body.content)) != _masked(deployment_of(room, name).content):
        said.append(Advice("content-immutable", f"{name} keeps its content; another one is another deployment"))
    return {"id": name, "targeted": targeted, "advice": [msgspec.to_builtins(one) for one in said]}


@router.get("/deployments/{name}/status", response_model=None, responses=answers(described.Counts))
def status(request: Request, name: DeploymentId) -> JsonObject:
    """How many devices are in each status; each count is that of its list."""
    _, counts = deployment_seen(request, name)
    return {"id": name, "counts": dict(counts)}


@router.get("/deployments/{name}/series", response_model=None, responses=answers(described.Series))
@Access(REGISTRY_READ, scope="handler", at=True, cost=LONG)
def series(
    request: Request,
    name: DeploymentId,
    since: Annotated[int, Query(ge=0, le=POSITION_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=SAMPLES_MAX)] = SAMPLES_MAX,
) -> JsonObject:
    """The course of a deployment's counts and metrics, sampled about once a minute; times in milliseconds."""
    if caller_of(request).scope is not None:
        raise Forbidden("they are limited to a scope, and samples are of the whole fleet")
    room = room_of(request)
    deployment_of(room, name)
    samples = SeriesStore(room.client).read(name, since=since, until=room.until, limit=limit)
    return {"id": name, "samples": [msgspec.to_builtins(one) for one in samples]}


@router.get("/deployments/{name}/status/{which}", response_model=None, responses=answers(described.DevicePage))
def members(
    request: Request,
    name: DeploymentId,
    which: StatusName,
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> JsonObject:
    """Who is in a status, page by page: no device twice, and none missed that stood throughout."""
    if which not in STATUSES:
        raise NotFound(f"no status {which[:40]!r}; there are {', '.join(STATUSES)}")
    room, within = room_of(request), room_of(request).within(caller_of(request))
    if within is None:
        deployment_of(room, name)
    else:
        deployment_seen(request, name)
    after = place_of(room.continuations.open(continuation))
    return page(room, room.view.page(name, which, after=after, limit=top, within=within))
