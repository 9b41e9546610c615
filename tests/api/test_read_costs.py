"""What a read costs follows from its answer: the bytes that Redis sends for it, beside few and beside many deployments."""

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from events.clock import now_ms
from events.deployment.commands import CreateDeployment
from events.deployment.events import NotStarted
from events.device.commands import PatchTags, RegisterDevice
from events.rollout.commands import CreateRollout, StartRollout
from events.rollout.plan import Phase, RolloutPlan
from events.update.commands import DeployUpdate, ImportUpdate
from events.update.names import UpdateId
from services.api.app import add_routes
from tests.api.serving import api
from tests.servers import redis_server
from tests.workers.system import System, base
from workers.projector import Projector

pytestmark = pytest.mark.redis_server

UPDATE = UpdateId("contoso", "camera", "1.0")
UPDATE_API = {"api-version": "2022-10-01"}
PATH_VALUES = {
    "{provider}/{name}/{version}": UPDATE.text,
    "{provider}/names/{name}/versions/{version}": "contoso/names/camera/versions/1.0",
    "{provider}/names/{name}": "contoso/names/camera",
    "{provider}": "contoso",
    "{device_id}": "d1",
    "{device}": "d1",
    "{name}": "near",
    "{group}": "north",
    "{deployment}": "first",
    "{which}": "target",
    "{device_class}": "default",
    "{stream}": "fleet",
    "{position}": "1",
    "{module_id}": "$edgeAgent",
    "{rule}": "privileged",
}
PARAMETERS = {
    "/v1/stream": {"follow": "false"},
    "/v1/diff": {"from": "fleet:1", "device": "d1"},
    "/v1/deployments/{name}/rollout/devices/{which}": {"limit": "10"},
}

GROWING = {
    "/configurations": "lists all, as the hub does",
    "/v1/audit/events": "a page of the log, which has more events",
    "/v1/audit/events/{stream}/{position}/causes": "searches the log after the event, up to a limit",
    "/v1/audit/export": "exports the log, which has more events",
    "/v1/deployments": "lists all",
    "/v1/devices/{device_id}/explain": "has a verdict on each deployment",
    "/v1/rollouts": "lists all",
    "/v1/stream": "reads the newest events beside the answer, up to a limit",
}
"""Paths whose answer has to do with all deployments, or with the length of the log."""

MARGIN = 1000
"""The bytes by which a cost may differ: positions and versions have more digits."""


def far(numbers: range) -> Iterator[CreateDeployment | CreateRollout | StartRollout]:
    """Deployments that have nothing to do with what is read; half of them with a rollout, of which half run."""
    for number in numbers:
        name = f"far-{number}"
        yield CreateDeployment(name, base("m"), "tags.site = 'far'", number, admission=NotStarted())
        if number % 2:
            yield CreateRollout(name, RolloutPlan((Phase(percent=50),)))
        if number % 4 == 1:
            yield StartRollout(name)


def paths() -> list[str]:
    """The templates of all paths that can be read."""
    app = FastAPI(openapi_url=None)
    add_routes(app)
    return sorted({str(route.path) for route in iter_route_contexts(app.routes) if "GET" in (route.methods or ())})


def path_of(template: str) -> str:
    path = template
    for name, value in PATH_VALUES.items():
        path = path.replace(name, value)
    return re.sub(r"{\w+(:path)?}", "x", path)


@pytest.mark.full
def test_only_answers_about_all_deployments_cost_more_beside_more_of_them() -> None:
    with redis_server() as server:
        system = System(server.url)
        projector = Projector(system.log, system.projections, clock=now_ms)

        def do(*commands: object) -> None:
            system.do(*commands)
            for number in range(system.log.partitions):
                projector.drain(number, go_on=lambda: True)

        def sent() -> int:
            return int(system.log.client.info("stats")["total_net_output_bytes"])

        do(*(RegisterDevice(f"d{number}") for number in range(8)))
        do(*(PatchTags(f"d{number}", {"site": "near" if number < 4 else "far"}) for number in range(8)))
        do(*(PatchTags(f"d{number}", {"ADUGroup": "north"}) for number in range(2)))
        do(ImportUpdate(UPDATE, base("m")), DeployUpdate("north", "first", UPDATE))
        do(CreateDeployment("near", base("m"), "tags.site = 'near'", 1, admission=NotStarted()))
        do(CreateRollout("near", RolloutPlan((Phase(percent=50),))), StartRollout("near"))
        do(*far(range(10)))
        with api(system) as http:

            def cost_of(template: str) -> int:
                parameters = {**PARAMETERS.get(template, {}), **(UPDATE_API if "{instance}" in template else {})}
                # What a process reads once does not count; what it reads again after each commit does.
                http.get(path_of(template), params=parameters)
                do(PatchTags("d7", {"at": now_ms()}))
                before = sent()
                answer = http.get(path_of(template), params=parameters)
                assert answer.status_code != 500, answer.text
                return sent() - before

            def costs() -> dict[str, int]:
                # The process also reads by the clock, such as what it caches for a second; not three times at the same place.
                return {template: min(cost_of(template) for _ in range(3)) for template in paths()}

            few = costs()
            do(*far(range(10, 150)))
            many = costs()
        system.close()
    grown = {template: (cost, many[template]) for template, cost in few.items() if many[template] > cost + MARGIN}
    assert not {template: costs for template, costs in grown.items() if template not in GROWING}
