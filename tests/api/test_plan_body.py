"""A rollout's plan in a body is read as the plan that the log stores, and an answer says it as a body does."""

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from events.member_names import camel_json, camel_schema
from events.rollout.plan import Failure, Gate, Joiners, Offline, OnFailure, Phase, Rate, RolloutPlan, Spread, Window
from services.api.v1.bodies import PlanBody

numbers = st.integers(0, 10_000)
percentages = st.floats(0, 100)
texts = st.text(max_size=8)
gates = st.builds(Gate, st.none() | percentages, numbers, numbers, numbers, numbers)
phases = st.builds(Phase, st.none() | percentages, st.none() | numbers, st.none() | texts, gates, st.booleans(), texts)
plans = st.builds(
    RolloutPlan,
    st.lists(phases, max_size=3).map(tuple),
    st.builds(Failure, st.none() | percentages, st.none() | numbers, numbers, st.sampled_from(OnFailure)),
    texts,
    st.booleans(),
    st.sampled_from(Offline),
    numbers,
    st.sampled_from(Joiners),
    st.none() | st.builds(Spread, texts, numbers),
    st.none() | st.builds(Rate, percentages, percentages),
    st.lists(st.builds(Window, texts, texts, numbers), max_size=2).map(tuple),
    st.booleans(),
)
body = TypeAdapter[RolloutPlan](PlanBody)


@given(plans)
def test_what_an_answer_says_of_a_plan_can_be_sent_as_a_plan(plan: RolloutPlan) -> None:
    assert body.validate_python(camel_json(plan)) == plan


def test_a_body_may_leave_out_what_has_a_default_and_write_phases_and_durations_short() -> None:
    short = {"phases": ["10%", "50", 60, {"percent": 100, "gate": {"soakSeconds": "30m"}}], "offlineSeconds": "2h"}
    plan = RolloutPlan(
        (Phase(percent=10), Phase(count=50), Phase(count=60), Phase(percent=100, gate=Gate(soak_seconds=1800))),
        offline_seconds=7200,
    )
    assert body.validate_python(short) == plan


def members(schema: Any) -> Iterator[str]:
    """The names of the members of every object that a schema describes."""
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
    if isinstance(schema, dict | list):
        for part in schema.values() if isinstance(schema, dict) else schema:
            yield from members(part)


def test_a_plan_is_described_with_the_same_members_in_a_body_and_in_an_answer() -> None:
    described = set(members(camel_schema(RolloutPlan)))
    assert {"phases", "soakSeconds", "answeredMin", "perMinute", "atMost", "cron"} <= described
    assert set(members(body.json_schema())) == described
