"""A readiness policy keeps deployments out whose content is not ready, whatever command brings them."""

import datetime as dt
from typing import Any

import pytest

from events import CreateDeployment
from events.deployment.events import NotStarted
from events.log.memory import MemoryLog
from events.manifest.problem import Severity
from events.producer.errors import Together
from events.producer.readiness import ReadinessPolicy, report_on
from events.readiness.commands import GrantWaiver
from events.readiness.errors import NotReady
from events.readiness.profile import DEVELOPMENT, PRODUCTION
from events.rollout.commands import CreateRollout
from events.rollout.plan import Phase, RolloutPlan
from events.update.commands import DeployUpdate, ImportUpdate
from events.update.names import UpdateId
from tests.producer.logs import producer
from tests.readiness.manifests import READY, manifest

LATEST = manifest(("agent/modules/temp/settings/image", "registry.example.com/temp:latest"))
POLICY = ReadinessPolicy(PRODUCTION, Severity.WARNING)
NOW = 1_800_000_000_000
DAY = dt.date(2027, 1, 15)
"""The day of that time, which is the last one of a waiver."""


def create(name: str = "line", content: Any = LATEST, **members: Any) -> CreateDeployment:
    return CreateDeployment(name, content, target_condition="*", **members)


def refusal(log: MemoryLog, *commands: Any, readiness_policy: ReadinessPolicy = POLICY) -> Exception | None:
    """Why the last command is refused; then nothing of it may be in the log."""
    sender = producer(log, readiness_policy=readiness_policy, clock=lambda: NOW)
    sender.submit(commands[:-1]).raise_if_refused()
    heads = log.heads()
    report = sender.submit(commands[-1:])
    if not report.refused:
        return None
    assert log.heads() == heads
    return report.refused[0].error


def test_what_is_ready_comes_in_and_what_is_not_says_what_to_mend() -> None:
    log = MemoryLog(partitions=1)
    assert refusal(log, create("fine", READY)) is None
    error = refusal(log, create())
    assert isinstance(error, NotReady)
    assert [one.rule for one in error.findings] == ["tag-latest"]
    assert "warning tag-latest at /content/modulesContent/$edgeAgent/properties.desired/modules/temp" in str(error)


@pytest.mark.parametrize(
    ("readiness_policy", "labels"),
    [
        (ReadinessPolicy(PRODUCTION, Severity.ERROR), {}),
        (ReadinessPolicy(DEVELOPMENT, Severity.WARNING), {}),
        (POLICY, {"readiness.profile": "development"}),
        (POLICY, {"readiness.tag-latest": "off"}),
    ],
)
def test_a_finding_that_the_policy_allows_keeps_no_deployment_out(
    readiness_policy: ReadinessPolicy, labels: dict[str, str]
) -> None:
    assert refusal(MemoryLog(partitions=1), create(labels=labels), readiness_policy=readiness_policy) is None


@pytest.mark.parametrize(
    ("terms", "lets_in"),
    [
        ({"until": DAY}, True),
        ({"until": DAY - dt.timedelta(1)}, False),
        ({"until": DAY, "deployment": "line"}, True),
        ({"until": DAY, "deployment": "other"}, False),
        ({"until": DAY, "module": "temp"}, True),
        ({"until": DAY, "module": "alarm"}, False),
        ({"until": DAY, "rule": "privileged"}, False),
    ],
)
def test_a_waiver_lets_in_what_it_is_for_through_its_last_day(terms: dict[str, Any], *, lets_in: bool) -> None:
    waiver = GrantWaiver("one", **{"rule": "tag-latest", "reason": "so be it", **terms})
    assert (refusal(MemoryLog(partitions=1), waiver, create()) is None) is lets_in


def test_a_deployment_with_its_rollout_has_to_pass_as_well() -> None:
    log = MemoryLog(partitions=1)
    heads = log.heads()
    rollout = CreateRollout("line", RolloutPlan((Phase(percent=100.0),)))
    with pytest.raises(NotReady, match="tag-latest"):
        producer(log, readiness_policy=POLICY).do(Together((create(admission=NotStarted()), rollout)))
    assert log.heads() == heads


def test_an_update_that_becomes_a_deployment_has_to_pass_as_well() -> None:
    update = UpdateId("contoso", "camera", "1.0")
    error = refusal(MemoryLog(partitions=1), ImportUpdate(update, LATEST), DeployUpdate("north", "1", update))
    assert isinstance(error, NotReady)


def test_a_report_is_on_the_content_as_it_will_stand_with_secrets_in_references() -> None:
    secret = manifest(("agent/runtime/settings/registryCredentials/own/password", "hunter2-hunter2"))
    report = report_on(create(content=secret), PRODUCTION, waivers=(), now=NOW)
    assert (report.findings, report.profile) == ((), "production")


def test_the_report_of_a_new_deployment_is_that_of_the_check_that_let_it_in() -> None:
    log = MemoryLog(partitions=1)
    sender = producer(log, readiness_policy=ReadinessPolicy(PRODUCTION, Severity.ERROR), clock=lambda: NOW)
    sender.do(Together((GrantWaiver("one", "tag-latest", "so be it", DAY), create())))
    checked = sender.readiness["line"]
    assert [one.rule for one in checked.report.findings] == ["tag-latest"]
    sender.do(create("next"))
    checked = sender.readiness["next"]
    assert (checked.report.findings, list(checked.waivers)) == ((), ["one"])
    assert [one.finding.rule for one in checked.report.waived] == ["tag-latest"]
