"""Which permissions a route requires, path by path, as docs/reference/api.md says it, and how it treats scopes."""

import itertools
import re

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Match

from events import (
    AcknowledgeDesired,
    CreateDeployment,
    CreateModule,
    DeleteModule,
    PatchTags,
    PatchTwin,
    RegisterDevice,
    ReplaceTwin,
    ReportProperties,
    RetireDevice,
    UpdateDevice,
    UpdateModule,
)
from events.access.commands import DefinePolicy, DeletePolicy, IssueToken, RevokeToken
from events.deployment.commands import DeploymentCommand
from events.device.commands import SetConfiguration
from events.readiness.commands import WaiverCommand, WithdrawWaiver
from events.rollout.commands import AbortRollout, CreateRollout, RecordResults, RolloutCommand
from events.rollout.plan import Phase, RolloutPlan
from events.webhook.commands import DefineWebhook, DeleteWebhook, PauseWebhook, ResumeWebhook
from services.api.app import add_routes
from services.api.auth.permissions import needed_for
from services.api.http.access import ADMIN, AUDIT_READ, TWIN_READ, TWIN_WRITE, Access, Open, Permissions, access_of
from services.api.http.access import REGISTRY_READ as READ
from services.api.http.access import REGISTRY_WRITE as WRITE
from services.api.http.access import SERVICE_CONNECT as CONNECT
from services.api.http.route_index import RouteIndex, RoutesUndeclared
from services.api.http.router import DeclaringRouter
from services.api.v1.events import _KINDS


@pytest.fixture(scope="module")
def routes() -> RouteIndex:
    return add_routes(FastAPI(openapi_url=None))


@pytest.mark.parametrize(
    ("methods", "path", "permissions"),
    [
        ("GET", "/healthz", Open.ANYBODY),
        ("GET", "/readyz", Open.ANYBODY),
        ("GET", "/openapi.json", Open.ANYBODY),
        ("GET", "/docs", Open.ANYBODY),
        ("GET", "/docs/start.js", Open.ANYBODY),
        ("GET", "/docs/any", Open.ANYBODY),
        ("GET", "/v1/me", Open.AUTHENTICATED),
        ("GET", "/metrics", READ),
        ("GET", "/devices", READ),
        ("POST", "/devices", WRITE),
        ("GET", "/devices/a", READ),
        ("PUT DELETE", "/devices/a", WRITE),
        ("POST", "/devices/a/applyConfigurationContent", WRITE),
        ("GET", "/statistics/devices", READ),
        ("GET", "/statistics/service", READ),
        ("GET", "/twins/a", TWIN_READ),
        ("PUT PATCH", "/twins/a", TWIN_WRITE),
        ("POST", "/twins/a/methods", TWIN_WRITE),
        ("GET", "/twins/a/modules/m", TWIN_READ),
        ("PUT PATCH", "/twins/a/modules/m", TWIN_WRITE),
        ("POST", "/twins/a/modules/m/methods", TWIN_WRITE),
        ("GET", "/configurations", READ),
        ("GET", "/configurations/a", READ),
        ("PUT DELETE", "/configurations/a", WRITE),
        ("GET", "/v1/devices", TWIN_READ),
        ("GET", "/v1/devices/a/effective", TWIN_READ),
        ("GET", "/v1/devices/a/explain", TWIN_READ),
        ("GET", "/v1/devices/a/assignments", TWIN_READ),
        ("GET", "/v1/devices/a/readiness", TWIN_READ),
        ("GET", "/v1/devices/a/personal", ADMIN),
        ("GET", "/v1/deployments", READ),
        ("GET", "/v1/deployments/a", READ),
        ("POST PUT", "/v1/deployments/a", WRITE),
        ("GET", "/v1/deployments/a/status/target", READ),
        ("GET", "/v1/deployments/a/rollout", READ),
        ("PUT", "/v1/deployments/a/rollout", WRITE),
        ("POST", "/v1/deployments/a/rollout/start", WRITE),
        ("GET", "/v1/rollouts", READ),
        ("GET", "/v1/readiness", READ),
        ("GET", "/v1/readiness/privileged", READ),
        ("GET", "/v1/waivers", READ),
        ("GET", "/v1/waivers/a", READ),
        ("PUT DELETE", "/v1/waivers/a", WRITE),
        ("GET", "/v1/updates/a/b/1.0", READ),
        ("PUT DELETE", "/v1/updates/a/b/1.0", WRITE),
        ("GET", "/v1/groups/a/deployments/1", READ),
        ("PUT DELETE", "/v1/groups/a/deployments/1", WRITE),
        ("POST", "/v1/groups/a/deployments/1/cancel", WRITE),
        ("GET", "/deviceUpdate/x/updates", READ),
        ("POST", "/deviceUpdate/x/updates:import", WRITE),
        ("PUT DELETE", "/deviceUpdate/x/management/groups/a/deployments/1", WRITE),
        ("GET", "/deviceUpdate/x/management/deviceDiagnostics/a/b", READ),
        ("PUT", "/deviceUpdate/x/management/deviceDiagnostics/a/b", WRITE),
        ("GET", "/v1/diff", READ | TWIN_READ),
        ("POST", "/v1/events", CONNECT),
        ("POST", "/v1/preview", CONNECT),
        ("GET", "/v1/webhooks", ADMIN),
        ("GET PUT DELETE", "/v1/webhooks/a", ADMIN),
        ("POST", "/v1/webhooks/a/test", ADMIN),
        ("GET", "/v1/blocked", READ),
        ("GET", "/v1/blocked/p03:17", READ),
        ("POST", "/v1/blocked/p03:17", ADMIN),
        ("GET", "/v1/audit/events", AUDIT_READ),
        ("GET", "/v1/audit/events/p03/17/causes", AUDIT_READ),
        ("GET", "/v1/audit/fetches/a", AUDIT_READ),
        ("GET", "/v1/audit/export", AUDIT_READ),
        ("GET", "/v1/stream", READ | CONNECT),
        # What is asked by POST is a read; by any other method it is about a device or a deployment of that name.
        ("POST", "/devices/query", TWIN_READ),
        ("GET", "/devices/query", READ),
        ("PUT DELETE", "/devices/query", WRITE),
        ("POST", "/configurations/testQueries", READ),
        ("PUT DELETE", "/configurations/testQueries", WRITE),
    ],
)
def test_a_route_requires_what_it_declares(
    routes: RouteIndex, methods: str, path: str, permissions: Permissions
) -> None:
    for method in methods.split():
        route = routes.match(method, path)
        assert (route.exists, route.access.own, route.access.permissions) == (True, False, permissions)


@pytest.mark.parametrize(
    ("methods", "path", "owner", "permissions"),
    [
        ("GET", "/v1/devices/a/desired", ("a", None), TWIN_READ),
        ("POST", "/v1/devices/a/reports", ("a", None), TWIN_WRITE),
        ("GET", "/devices/a/modules", ("a", None), READ),
        ("GET", "/devices/a/modules/m", ("a", "m"), READ),
        ("PUT DELETE", "/devices/a/modules/m", ("a", "m"), WRITE),
        ("GET", "/devices/a/modules/$edgeHub/devicesAndModulesInDeviceScope", ("a", "$edgeHub"), READ),
        ("GET", "/devices/a/modules/$edgeHub/deviceAndModuleInDeviceScope", ("a", "$edgeHub"), READ),
        ("POST", "/devices/a/modules/$edgeHub/devicesAndModulesInTargetDeviceScope", ("a", "$edgeHub"), READ),
        ("POST", "/devices/a/modules/$edgeHub/getDeviceAndModuleOnBehalfOf", ("a", "$edgeHub"), READ),
    ],
)
def test_a_device_owns_its_desired_its_reports_and_its_modules_and_others_require_a_permission(
    routes: RouteIndex, methods: str, path: str, owner: tuple[str, str | None], permissions: Permissions
) -> None:
    for method in methods.split():
        route = routes.match(method, path)
        assert (route.exists, route.access.permissions) == (True, permissions)
        own = route.access.own
        assert own
        assert (route.device_id, own if isinstance(own, str) else route.module_id) == owner


@pytest.mark.parametrize(
    ("method", "path", "permissions"),
    [
        ("GET", "/nowhere", READ),
        ("PUT", "/nowhere", WRITE),
        ("get", "/nowhere", WRITE),
        ("GET", "/v1/tokens/a", READ),
        ("GET", "/healthz/..", READ),
        ("OPTIONS", "*", READ),
        ("GET", "//devices", READ),
        ("GET", "/v1", READ),
        ("GET", "/V1/me", READ),
        ("GET", "/devices/a%2Fmodules/m", READ),
        ("POST", "/healthz", Open.ANYBODY),
        ("HEAD", "/v1/me", Open.AUTHENTICATED),
        ("HEAD", "/v1/webhooks", ADMIN),
        ("HEAD", "/v1/deployments/a", READ),
        ("PATCH", "/v1/deployments/a", WRITE),
        ("PATCH", "/devices/query", WRITE),
        ("get", "/twins/a", TWIN_WRITE),
        ("DELETE", "/v1/events", CONNECT),
    ],
)
def test_a_path_or_a_method_that_is_not_there_is_authorized_all_the_same(
    routes: RouteIndex, method: str, path: str, permissions: Permissions
) -> None:
    route = routes.match(method, path)
    assert (route.exists, route.access.permissions) == (False, permissions)


@pytest.mark.parametrize("name", ["query", "testQueries", "modules", "$edgeHub", "..", "a/b", "a%2Fb", "", "x:cancel"])
def test_a_request_is_authorized_for_the_route_that_answers_it(name: str) -> None:
    app = FastAPI(openapi_url=None)
    routes = add_routes(app)
    paths = {re.sub(r"\{[^}]+\}", name, context.path or "") for context in iter_route_contexts(app.routes)}
    for path, method in itertools.product(sorted(paths), ("GET", "POST", "PUT", "PATCH", "DELETE", "get")):
        scope = {"type": "http", "method": method, "path": path, "root_path": ""}
        answering = next((one for one in app.routes if one.matches(dict(scope))[0] is Match.FULL), None)
        route = routes.match(method, path)
        assert route.exists is (answering is not None), (method, path)
        if answering is not None:
            declared = [
                access_of(context.original_route)
                for context in iter_route_contexts([answering])
                if method in (context.methods or ())
            ]
            assert route.access in declared, (method, path)


@pytest.mark.parametrize(
    ("method", "path", "scope", "device"),
    [
        ("GET", "/devices/a", "device", "a"),
        ("PUT", "/devices/a", "new device", "a"),
        ("DELETE", "/devices/a", "device", "a"),
        ("PUT", "/devices/query", "new device", "query"),
        ("PATCH", "/twins/a/modules/m", "device", "a"),
        ("GET", "/v1/devices/a/desired", "device", "a"),
        ("GET", "/v1/devices/a/readiness", "device", "a"),
        ("GET", "/v1/devices/a/personal", "device", "a"),
        ("GET", "/devices", "handler", None),
        ("POST", "/devices/query", "handler", None),
        ("GET", "/v1/deployments/a", "handler", None),
        ("POST", "/v1/events", "handler", None),
        ("POST", "/v1/preview", "handler", None),
        ("GET", "/statistics/devices", "handler", None),
        ("GET", "/v1/readiness", "handler", None),
        ("GET", "/v1/readiness/privileged", "handler", None),
        ("GET", "/v1/waivers", "closed", None),
        ("GET", "/v1/waivers/a", "closed", None),
        ("GET", "/v1/updates", "closed", None),
        ("GET", "/deviceUpdate/x/management/devices/a", "closed", None),
        ("GET", "/v1/diff", "closed", None),
        ("GET", "/v1/stream", "closed", None),
        ("GET", "/v1/webhooks", "closed", None),
        ("GET", "/v1/webhooks/a", "closed", None),
        ("GET", "/v1/audit/fetches/a", "closed", "a"),
        ("GET", "/devices/a/modules/$edgeHub/deviceAndModuleInDeviceScope", "closed", "a"),
        ("GET", "/metrics", "closed", None),
        ("GET", "/v1/tokens", "closed", None),
        ("GET", "/nowhere", "closed", None),
    ],
)
def test_a_route_is_about_a_device_of_the_scope_or_keeps_within_it_or_is_closed(
    routes: RouteIndex, method: str, path: str, scope: str, device: str | None
) -> None:
    route = routes.match(method, path)
    assert (route.access.scope, route.device_id) == (scope, device)


@pytest.mark.parametrize(
    ("access", "path", "problem"),
    [
        (None, "/undeclared", "GET /undeclared declares nothing"),
        (Access(READ, scope="device"), "/devices/{name}", "its path names none"),
        (Access(READ, own=True), "/devices", "its path names none"),
        (Access(READ, scope="handler"), "/devices/{device_id}", "leaves the device of its path to the handler"),
        (Access(READ), "/{tenant}/devices", "begins with a variable"),
        (Access(READ), "/v1/{tenant}/devices", "begins with a variable"),
    ],
)
def test_an_api_with_a_route_that_declares_nothing_or_nothing_that_fits_does_not_start(
    access: Access | None, path: str, problem: str
) -> None:
    app, router = FastAPI(openapi_url=None), DeclaringRouter(read=access)
    router.add_api_route(path, lambda: None, methods=["GET"])
    app.include_router(router)
    with pytest.raises(RoutesUndeclared, match=problem.replace("{", r"\{")):
        add_routes(app)


def test_every_command_needs_the_right_of_its_path() -> None:
    of_twins = {AcknowledgeDesired, PatchTags, PatchTwin, ReplaceTwin, ReportProperties}
    of_the_registry = {
        *(RegisterDevice, UpdateDevice, RetireDevice, CreateModule, UpdateModule, DeleteModule, SetConfiguration),
        *(*DeploymentCommand.__args__, *RolloutCommand.__args__, *WaiverCommand.__args__),
    }
    # How devices stand is read from projections, and nothing that a caller says.
    assert set(_KINDS.values()) == (of_twins | of_the_registry) - {RecordResults}
    assert needed_for(PatchTags("a", {})) == TWIN_WRITE
    assert needed_for(PatchTwin("a")) == TWIN_WRITE
    assert needed_for(ReplaceTwin("a")) == TWIN_WRITE
    assert needed_for(ReportProperties("a", {})) == TWIN_WRITE
    assert needed_for(UpdateDevice("a")) == WRITE
    assert needed_for(CreateModule("a", "m")) == WRITE
    assert needed_for(CreateDeployment("a", {}, "*")) == WRITE
    assert (
        needed_for(CreateRollout("a", RolloutPlan((Phase(percent=100.0),)))) == needed_for(AbortRollout("a")) == WRITE
    )
    assert needed_for(WithdrawWaiver("a")) == WRITE
    for command in (
        DefinePolicy("a", (), None, None),
        DeletePolicy("a"),
        IssueToken("a", "a", "read", ""),
        RevokeToken("a"),
        DefineWebhook("a", ""),
        PauseWebhook("a", ""),
        ResumeWebhook("a"),
        DeleteWebhook("a"),
    ):
        assert needed_for(command) == ADMIN
