"""What right a request needs, path by path, as docs/reference/api.md says it."""

import pytest

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
from events.access.rights import Right
from events.deployment.commands import DeploymentCommand
from events.device.commands import SetConfiguration
from events.readiness.commands import WaiverCommand, WithdrawWaiver
from events.rollout.commands import AbortRollout, CreateRollout, RecordResults, RolloutCommand
from events.rollout.plan import Phase, Plan
from events.webhook.commands import DefineWebhook, DeleteWebhook, PauseWebhook, ResumeWebhook
from services.api.auth.permissions import Needed, Open, Own, device_of, heeds_scopes, needed, needed_for, owner
from services.api.v1.facts import _KINDS

READ, WRITE = frozenset({Right.REGISTRY_READ}), frozenset({Right.REGISTRY_WRITE})
TWIN_READ, TWIN_WRITE = frozenset({Right.TWIN_READ}), frozenset({Right.TWIN_WRITE})
ADMIN, CONNECT = frozenset({Right.ADMIN}), frozenset({Right.SERVICE_CONNECT})
AUDIT = frozenset({Right.AUDIT_READ})


@pytest.mark.parametrize(
    ("path", "to_read", "to_write"),
    [
        ("/healthz", Open.ANYBODY, Open.ANYBODY),
        ("/openapi.json", Open.ANYBODY, Open.ANYBODY),
        ("/metrics", READ, WRITE),
        ("/devices", READ, WRITE),
        ("/devices/a", READ, WRITE),
        ("/devices/a/modules", (Own.DEVICE, READ), (Own.DEVICE, WRITE)),
        ("/devices/a/modules/m", (Own.DEVICE, READ), (Own.DEVICE, WRITE)),
        ("/statistics/devices", READ, WRITE),
        ("/twins/a", TWIN_READ, TWIN_WRITE),
        ("/twins/a/modules/m", TWIN_READ, TWIN_WRITE),
        ("/configurations/a", READ, WRITE),
        ("/v1/devices", TWIN_READ, TWIN_WRITE),
        ("/v1/devices/a/effective", TWIN_READ, TWIN_WRITE),
        ("/v1/devices/a/desired", (Own.DEVICE, TWIN_READ), (Own.DEVICE, TWIN_WRITE)),
        ("/v1/devices/a/reports", (Own.DEVICE, TWIN_READ), (Own.DEVICE, TWIN_WRITE)),
        ("/v1/deployments/a", READ, WRITE),
        ("/v1/deployments/a/rollout/start", READ, WRITE),
        ("/v1/rollouts", READ, WRITE),
        ("/v1/readiness", READ, WRITE),
        ("/v1/readiness/privileged", READ, WRITE),
        ("/v1/devices/a/readiness", TWIN_READ, TWIN_WRITE),
        ("/v1/waivers", READ, WRITE),
        ("/v1/waivers/a", READ, WRITE),
        ("/v1/facts", ADMIN, CONNECT),
        ("/v1/preview", ADMIN, CONNECT),
        ("/v1/tokens/a", ADMIN, ADMIN),
        ("/v1/webhooks", ADMIN, ADMIN),
        ("/v1/devices/a/personal", ADMIN, ADMIN),
        ("/v1/me", Open.AUTHENTICATED, Open.AUTHENTICATED),
        ("/v1/blocked/p03:17", READ, ADMIN),
        ("/v1/webhooks/a", ADMIN, ADMIN),
        ("/v1/webhooks/a/test", ADMIN, ADMIN),
        ("/v1/audit/facts", AUDIT, AUDIT),
        ("/v1/audit/facts/p03/17/causes", AUDIT, AUDIT),
        ("/v1/audit/export", AUDIT, AUDIT),
        ("/v1/stream", READ | CONNECT, READ | CONNECT),
        ("/nowhere", READ, WRITE),
        ("/healthz/..", READ, WRITE),
        ("*", READ, WRITE),
    ],
)
def test_a_path_needs_what_the_table_says(path: str, to_read: Needed, to_write: Needed) -> None:
    assert needed("GET", path) == to_read
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        assert needed(method, path) == to_write


def test_what_is_asked_by_post_is_a_read_and_by_any_other_method_about_somebody_of_that_name() -> None:
    assert needed("POST", "/devices/query") == TWIN_READ
    assert needed("POST", "/configurations/testQueries") == READ
    assert needed("PUT", "/devices/query") == WRITE
    assert needed("DELETE", "/configurations/testQueries") == WRITE


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        ("/v1/devices/a/desired", ("a", None)),
        ("/v1/devices/a/reports", ("a", None)),
        ("/devices/a/modules", ("a", None)),
        ("/devices/a/modules/m", ("a", "m")),
        ("/devices/a", None),
        ("/twins/a", None),
        ("/v1/devices/a/effective", None),
    ],
)
def test_a_device_owns_its_desired_its_reports_and_its_modules(path: str, whose: tuple[str, str | None] | None) -> None:
    assert owner(path) == whose


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/webhooks", "/v1/webhooks/a", "/metrics", "/nowhere"])
def test_a_path_that_does_not_know_scopes_is_closed_to_them(path: str) -> None:
    assert not heeds_scopes("GET", path)


@pytest.mark.parametrize(
    ("path", "device"),
    [
        ("/devices/a", "a"),
        ("/twins/a/modules/m", "a"),
        ("/v1/devices/a/desired", "a"),
        ("/devices", None),
        ("/devices/query", None),
        ("/v1/deployments/a", None),
        ("/v1/facts", None),
        ("/statistics/devices", None),
    ],
)
def test_a_path_is_about_one_device_or_about_more(path: str, device: str | None) -> None:
    assert device_of("POST", path) == device


@pytest.mark.parametrize(
    ("path", "heeds"),
    [
        ("/v1/readiness", True),
        ("/v1/readiness/privileged", True),
        ("/v1/devices/a/readiness", True),
        ("/v1/waivers", False),
        ("/v1/waivers/a", False),
        ("/metrics", False),
        ("/v1/tokens", False),
    ],
)
def test_a_path_that_does_not_heed_scopes_is_closed_to_whoever_is_scoped(path: str, *, heeds: bool) -> None:
    assert heeds_scopes("GET", path) is heeds


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
    assert needed_for(CreateRollout("a", Plan((Phase(percent=100.0),)))) == needed_for(AbortRollout("a")) == WRITE
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
