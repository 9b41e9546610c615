"""The exact limits of deployments, and the words of advice and refusals."""

from typing import Any

import pytest

from events.deployment.advice import advice, another_type
from events.deployment.commands import CreateDeployment, DeleteDeployment
from events.deployment.decider import TIME_MAX, check
from events.deployment.errors import (
    DeploymentEtagMismatch,
    DeploymentNotFound,
    MetricsInvalid,
    PriorityInvalid,
    ScheduleInvalid,
)
from events.deployment.events import DeploymentCreated, DeploymentDeleted, Schedule
from events.deployment.state import etag_of
from events.query.errors import LENGTH_MAX
from tests.deployment.given import document_of, given
from tests.manifest.contents import content

QUERY = "select * from devices where tags.a = 1"
LONGEST = QUERY + " " * (LENGTH_MAX - len(QUERY))


def create(**members: Any) -> CreateDeployment:
    return CreateDeployment(**{"deployment_id": "base", "content": content(), **members})


@pytest.mark.parametrize("members", [{"schedule": Schedule(0, TIME_MAX)}, {"metrics": {"m": LONGEST}}], ids=range(2))
def test_what_is_at_a_limit_is_within_it(members: dict[str, Any]) -> None:
    check(create(**members))


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"schedule": Schedule(-1, 5)}, ScheduleInvalid),
        ({"schedule": Schedule(0, TIME_MAX + 1)}, ScheduleInvalid),
        ({"metrics": {"m": LONGEST + " "}}, MetricsInvalid),
    ],
    ids=range(3),
)
def test_what_is_past_a_limit_is_refused(members: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        check(create(**members))


def test_an_integer_of_128_bits_is_shown_in_decimal_and_a_longer_one_is_not() -> None:
    assert str(2**128 - 1)[:30] in str(PriorityInvalid("base", 2**128 - 1))
    assert f"{2**128:x}"[:30] in str(PriorityInvalid("base", 2**128))


def test_why_a_deployment_is_not_there_is_said_where_it_is_known() -> None:
    assert str(DeploymentNotFound("a")) == "there is no deployment 'a'"
    assert str(DeploymentNotFound("a", why="it was deleted")) == "there is no deployment 'a': it was deleted"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "string",
            "is a number on 3 devices, a boolean on 1 device and text on 2; the condition compares it with text",
        ),
        (
            "number",
            "is text on 2 devices, a boolean on 1 device and a number on 3; the condition compares it with a number",
        ),
        (
            "boolean",
            "is a number on 3 devices, text on 2 devices and a boolean on 1; the condition compares it with a boolean",
        ),
    ],
)
def test_a_property_of_another_type_is_told_with_the_devices_that_have_it(kind: str, said: str) -> None:
    advice = another_type("base", ("tags", "floor"), kind, {"string": 2, "number": 3, "boolean": 1})
    assert said in advice.message


def test_types_that_no_device_has_are_not_told() -> None:
    advice = another_type("base", ("tags", "floor"), "number", {"string": 500, "boolean": 0})
    assert "is text on 500 devices and a number on 0; " in advice.message


CONTENTS: dict[str, dict[str, Any]] = {
    "edge": content(),
    "module": {"moduleContent": {"properties.desired.a": 1}},
    "device": {"deviceContent": {"properties.desired.a": 1}},
}
ASKED = "SELECT deviceId FROM devices WHERE"
CONDITIONS = {"edge": "*", "module": "FROM devices.modules WHERE moduleId = 'm'", "device": "*"}


@pytest.mark.parametrize(
    ("kind", "where", "said"),
    [
        (
            "edge",
            "properties.reported.modules.a.exitCode = 1",
            "the edge agent reports properties.reported.modules, not the device",
        ),
        ("edge", "properties.reported.systemModules.a = 1", "the edge agent reports properties.reported.systemModules"),
        ("edge", "properties.reported.model = 'x'", ""),
        ("edge", "properties.desired.modules.a = 1", ""),
        ("edge", "tags.modules.a = 1", ""),
        ("edge", "tags.a.modules = 1", ""),
        ("edge", "configurations.base.status = 'Applied'", "the status of an edge deployment"),
        ("edge", "configurations.other.status = 'Applied'", ""),
        ("module", "configurations.base.status = 'Applied'", "the status is in the twins of modules"),
        ("module", "configurations.other.status = 'Applied'", ""),
        ("module", "tags.a = 1", ""),
        ("device", "configurations.base.status = 'Applied'", ""),
    ],
)
def test_a_metric_that_asks_the_wrong_twin_is_told_where_to_ask(kind: str, where: str, said: str) -> None:
    metrics = {"m": f"{ASKED} {where}"}
    document = document_of(DeploymentCreated(CONTENTS[kind], CONDITIONS[kind], 10, metrics=metrics))
    messages = [one.message for one in advice("base", document, []) if one.rule == "metric-never-matches"]
    assert len(messages) == bool(said)
    assert all(said in message for message in messages)


@pytest.mark.parametrize("if_match", ['"', '"x', 'x"', "x"])
def test_an_etag_with_a_quote_on_one_side_alone_does_not_match(if_match: str) -> None:
    created = DeploymentCreated(content(), "*", 10)
    etag = etag_of(document_of(created))
    for wrong in (if_match, f'"{etag}', f'{etag}"', f'"{etag}x', f'x{etag}"'):
        given(created).when(DeleteDeployment("base", if_match=wrong)).refused(DeploymentEtagMismatch)
    for right in (etag, f'"{etag}"', "*", '"*"'):
        given(created).when(DeleteDeployment("base", if_match=right)).then(DeploymentDeleted())
