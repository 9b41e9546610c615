"""The exact limits of deployments, and the words of advice and refusals."""

from typing import Any

import pytest

from events.deployment.advice import another_type
from events.deployment.commands import CreateDeployment
from events.deployment.decide import QUERY_CHARACTERS_MAX, TIME_MAX, check
from events.deployment.errors import DeploymentNotFound, MetricsInvalid, PriorityInvalid, ScheduleInvalid
from events.deployment.facts import Schedule
from tests.manifest.contents import content

QUERY = "select * from devices where tags.a = 1"
LONGEST = QUERY + " " * (QUERY_CHARACTERS_MAX - len(QUERY))


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
            "is a number on 3 devices, a boolean on 1 device and text on 2; the condition compares it with text ('…')",
        ),
        (
            "number",
            "is text on 2 devices, a boolean on 1 device and a number on 3; the condition compares it with a number (a number)",
        ),
        (
            "boolean",
            "is a number on 3 devices, text on 2 devices and a boolean on 1; the condition compares it with a boolean (true or false)",
        ),
    ],
)
def test_a_property_of_another_type_is_told_with_the_devices_that_have_it(kind: str, said: str) -> None:
    advice = another_type("base", ("tags", "floor"), kind, {"string": 2, "number": 3, "boolean": 1})
    assert said in advice.message


def test_types_that_no_device_has_are_not_told() -> None:
    advice = another_type("base", ("tags", "floor"), "number", {"string": 500, "boolean": 0})
    assert "is text on 500 devices and a number on 0; " in advice.message
