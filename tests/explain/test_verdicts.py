"""Stories of one device, and what is said of them, word by word."""

from typing import Any

import msgspec
import pytest

from events.deployment.events import (
    AdmissionChanged,
    Admitted,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentEvent,
    Ended,
    NotStarted,
    Schedule,
)
from events.device.events import (
    ConfigurationSet,
    DeviceEvent,
    DeviceRegistered,
    DeviceUpdated,
    ModuleCreated,
    PropertiesReported,
    TwinPatched,
)
from events.device.state import DeviceDocument
from events.envelope import Vector
from events.explain.assessment import contests
from events.explain.explanation import Explanation
from events.explain.explanation_text import runs, verdict
from events.explain.verdict import ExplainedDevice, LoggedDeployment, Obstacle, Reason, Standpoint, Verdict, Weighed
from events.fleet.assignments import Assignment, AssignmentStatus, Layer, Own
from events.manifest.document import DEVICE, ContentKind
from events.query.evaluate import twin_row
from events.rollout.events import (
    DevicesAdmitted,
    PhaseOpened,
    RollbackBegan,
    RolloutAborted,
    RolloutCreated,
    RolloutEvent,
    RolloutPaused,
    RolloutStarted,
)
from events.rollout.plan import Phase, RolloutPlan
from tests.explain.explained import DeviceTexts, texts_of
from tests.fleet.histories import History
from tests.rollout.given import EVIDENCE, admitted, deployment, devices
from tests.workers.system import base, layer

D0 = ("d0", DeviceRegistered())
SOUTH = ("d0", TwinPatched(tags={"site": "south", "floor": 3}))
TWO_PHASES = RolloutPlan((Phase(percent=10), Phase(percent=100)))
ON: dict[str, Any] = {"target_condition": "*"}

Event = tuple[str, DeviceEvent | DeploymentEvent | RolloutEvent]


def story(*events: Event) -> History:
    history = History()
    for subject, event in events:
        if isinstance(event, DeviceEvent):
            history.device(subject, event)
        else:
            history.deployment(subject, event)  # type: ignore[arg-type]
    return history


def made(
    name: str, content: dict[str, Any] | None = None, condition: str = "*", priority: int = 1, **how: Any
) -> Event:
    return (name, DeploymentCreated(content or base("m"), condition, priority, **how))


def rolled(name: str, *events: RolloutEvent, plan: RolloutPlan = TWO_PHASES) -> tuple[Event, ...]:
    return (
        made(name, admission=NotStarted()),
        *((f"rollout:{name}", event) for event in (RolloutCreated(plan, "user:ada"), *events)),
    )


def big(kilobytes: int) -> dict[str, Any]:
    texts = {f"x{number}": "y" * 4000 for number in range(kilobytes // 4)}
    return {"modulesContent": {"m": {f"properties.desired.x{kilobytes}": texts}}}


def device_content(path: str, value: Any) -> dict[str, Any]:
    return {"deviceContent": {f"properties.desired.{path}": value}}


OPENED = (RolloutStarted(), PhaseOpened(0, EVIDENCE), admitted(5))
FOR_MODULES = {"moduleContent": {"properties.desired.rate": 5}}

STORIES: dict[str, tuple[History, str, str]] = {
    "it applies": (story(D0, made("a", priority=7)), "a", "a applies as the base, with priority 7"),
    "a layer applies": (
        story(D0, made("a"), made("b", layer("m"), priority=2), made("c", layer("n"), priority=3)),
        "b",
        "b applies as layer 1 of 2, with priority 2",
    ),
    "another value": (
        story(D0, SOUTH, made("a", condition="tags.site = 'north'")),
        "a",
        "it does not get a: tags.site is 'south', wanted 'north'",
    ),
    "one of several values": (
        story(D0, SOUTH, made("a", condition="tags.site = 'north' OR tags.site = 'east' OR tags.site = 'west'")),
        "a",
        "it does not get a: tags.site is 'south', wanted 'north', 'east' or 'west'",
    ),
    "nothing there": (
        story(D0, made("a", condition="tags.site = 'north'")),
        "a",
        "it does not get a: tags.site is missing, wanted 'north'",
    ),
    "not equal to what is not there": (
        story(D0, made("a", condition="tags.site != 'north'")),
        "a",
        (
            "it does not get a: tags.site is missing, wanted anything but 'north' (a comparison with a missing property is "
            "unknown, also with !=, and a condition targets a device only if it is true)"
        ),
    ),
    "another type": (
        story(D0, SOUTH, made("a", condition="tags.floor = '3'")),
        "a",
        "it does not get a: tags.floor is 3 (a number), wanted the text '3'",
    ),
    "not more than": (
        story(D0, SOUTH, made("a", condition="tags.floor > 3")),
        "a",
        "it does not get a: tags.floor is 3, wanted > 3",
    ),
    "not, and something else": (
        story(D0, SOUTH, made("a", condition="NOT tags.site = 'south' AND tags.floor < 2")),
        "a",
        "it does not get a: tags.site is 'south', wanted anything but 'south', and tags.floor is 3, wanted < 2",
    ),
    "none of several": (
        story(D0, SOUTH, made("a", condition="tags.site = 'north' OR (tags.floor = 2 AND tags.ring = 'late')")),
        "a",
        (
            "it does not get a: one of these would have to change: tags.site is 'south', wanted 'north'; or "
            "(tags.floor is 3, wanted 2, and tags.ring is missing, wanted 'late')"
        ),
    ),
    "what is reported": (
        story(
            D0,
            ("d0", PropertiesReported({"os": {"name": "a"}})),
            made("a", condition="properties.reported.os.name = 'b'"),
        ),
        "a",
        "it does not get a: properties.reported.os.name is 'a', wanted 'b'",
    ),
    "an empty condition": (
        story(D0, made("a", condition="")),
        "a",
        "it does not get a: its condition is empty, so it targets no device",
    ),
    "outside the scope of its author": (
        story(D0, SOUTH, made("a", scope="tags.site = 'north'")),
        "a",
        "it does not get a: its author is limited to a scope: tags.site is 'south', wanted 'north'",
    ),
    "not edge-capable": (
        story(("d0", DeviceRegistered(edge=False)), made("a")),
        "a",
        "it does not get a: the device is not edge-capable, and the deployment sets modules of edge devices",
    ),
    "a higher priority": (
        story(D0, made("a", priority=1), made("b", priority=2)),
        "a",
        "it does not get a: b wins, with priority 2 over 1",
    ),
    "the same priority": (
        story(D0, made("a", priority=2), made("b", priority=2)),
        "a",
        "it does not get a: b wins, which has the same priority 2 and was created later",
    ),
    "not targeted, and outranked as well": (
        story(D0, SOUTH, made("a", condition="tags.site = 'north'"), made("b", priority=2)),
        "a",
        "it does not get a: tags.site is 'south', wanted 'north'; and if it did target the device: b wins, with priority 2 over 1",
    ),
    "a layer that is not above": (
        story(D0, made("a", priority=3), made("b", layer("m"), priority=3)),
        "b",
        (
            "it does not get b: its priority 3 is not above that of the base a, 3, and a layer applies only with a higher "
            "priority than its base"
        ),
    ),
    "a newer layer": (
        story(D0, made("a"), made("b", layer("m"), priority=3), made("c", layer("n"), priority=3)),
        "b",
        "it does not get b: the layer c has the same priority 3 and was created later",
    ),
    "no base": (
        story(D0, made("b", layer("m"))),
        "b",
        "it does not get b: it is a layer, and no base targets the device",
    ),
    "to be started": (
        story(D0, made("a", admission=NotStarted())),
        "a",
        "it does not get a: it has not started: it targets no device until an operator starts it",
    ),
    "to start at a time": (
        story(D0, made("a", admission=NotStarted(), schedule=Schedule(start_at=7_200_000))),
        "a",
        "it does not get a: it starts 1970-01-01T02:00:00+00:00 (UTC), in 1 h: until then it targets no device",
    ),
    "ended": (
        story(D0, made("a"), ("a", AdmissionChanged(Ended()))),
        "a",
        "it does not get a: it has ended: it targets no device",
    ),
    "for others by name": (
        story(D0, made("a", admission=Admitted(("d1", "d2")))),
        "a",
        "it does not get a: it is for 2 named devices, and this device is not one of them",
    ),
    "not in this phase": (
        story(D0, *rolled("a", *OPENED)),
        "a",
        "it does not get a: its rollout has not admitted it yet: phase 1 of 2 is open; its turn comes with phase 2 of 2 (100 %)",
    ),
    "in a later phase by its condition": (
        story(
            D0, SOUTH, *rolled("a", *OPENED, plan=RolloutPlan((Phase(count=1), Phase(condition="tags.site = 'south'"))))
        ),
        "a",
        (
            "it does not get a: its rollout has not admitted it yet: phase 1 of 2 is open; its turn comes with phase 2 of 2 "
            "(tags.site = 'south')"
        ),
    ),
    "a rollout that was not started": (
        story(D0, *rolled("a")),
        "a",
        "it does not get a: it has not started: it targets no device until its rollout is started",
    ),
    "a paused rollout": (
        story(D0, *rolled("a", *OPENED, RolloutPaused("too hot"))),
        "a",
        "it does not get a: its rollout is paused: too hot",
    ),
    "an aborted rollout": (
        story(D0, *rolled("a", *OPENED, RolloutAborted("no more"))),
        "a",
        "it does not get a: its rollout is aborted: no more; devices that were admitted keep it, and no other device gets it",
    ),
    "rolled back": (
        story(D0, *rolled("a", *OPENED, RollbackBegan("it hurts", ""))),
        "a",
        "it does not get a: its rollout is rolling back to what else targets each device: it hurts",
    ),
    "admitted by a rollout": (
        story(D0, *rolled("a", *OPENED, DevicesAdmitted(0, devices(0), 1, "", ((1, 1),)))),
        "a",
        "a applies as the base, with priority 1",
    ),
    "over a limit": (
        story(D0, made("a"), made("b", big(20), priority=2), made("c", big(16), priority=3)),
        "c",
        "it does not get c: the merged configuration would exceed a limit: the desired properties of m have 36024 bytes, more than 32768",
    ),
    "set by hand": (
        story(D0, made("a"), ("d0", ConfigurationSet(base("n")))),
        "a",
        (
            "it does not get a: a configuration was set on the device by hand; it stays until the deployments that apply to the "
            "device change"
        ),
    ),
    "its own twin": (
        story(D0, made("a", device_content("rate", 5), priority=4)),
        "a",
        "a applies to the device's own twin, with priority 4",
    ),
    "the twin of a module": (
        story(D0, ("d0", ModuleCreated("cam")), made("a", FOR_MODULES, "FROM devices.modules WHERE moduleId = 'cam'")),
        "a/cam",
        "a applies to the twin of the module cam, with priority 1",
    ),
    "a module that it has not": (
        story(D0, made("a", FOR_MODULES, "FROM devices.modules WHERE moduleId = 'cam'")),
        "a/cam",
        "it does not get a for the module cam: the device has no module cam",
    ),
    "a module's own tag": (
        story(
            D0,
            ("d0", ModuleCreated("cam")),
            ("d0/cam", TwinPatched(tags={"lens": "wide"})),
            made("a", FOR_MODULES, "FROM devices.modules WHERE tags.lens = 'tele'"),
        ),
        "a/cam",
        "it does not get a for the module cam: of cam, tags.lens is 'wide', wanted 'tele'",
    ),
    "carried for a group": (
        story(D0, made("update+north+2", priority=4)),
        "update+north+2",
        "update+north+2 (deployment 2 of the group north) applies as the base, with priority 4",
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_what_is_said_of(name: str) -> None:
    history, of, sentence = STORIES[name]
    assert texts_of(history, now=3_600_000).verdicts[of] == sentence


def test_an_event_that_workers_have_not_come_to_is_said_to_be_undecided() -> None:
    history = story(D0, made("a", condition="tags.site = 'north'"), ("d0", TwinPatched(tags={"site": "north"})))
    behind = texts_of(history, applied=Vector(1, 1))
    assert behind.verdicts["a"] == (
        "a is not evaluated yet: its condition is true, and the workers have not processed that yet (p00 at 1 of 2)"
    )


def test_an_event_that_takes_a_deployment_away_and_is_not_applied_is_told_beside_the_verdict() -> None:
    history = story(D0, ("d0", TwinPatched(tags={"site": "north"})), made("a", condition="tags.site = 'north'"), SOUTH)
    behind = texts_of(history, applied=Vector(2, 1))
    assert behind.verdicts["a"] == (
        "a applies as the base, with priority 1; its inputs have changed since, and the workers have not processed that yet "
        "(p00 at 2 of 3)"
    )


def test_a_disabled_device_waits_for_no_phase() -> None:
    history = story(D0, ("d0", DeviceUpdated(edge=True, enabled=False)), *rolled("a", *OPENED))
    assert texts_of(history, enabled=False).verdicts["a"] == (
        "it does not get a: it is disabled, and a rollout admits only enabled devices"
    )


def answers_of(history: History) -> str:
    found: DeviceTexts = texts_of(history)
    return found.answer


def test_the_answer_says_what_runs_and_what_targets_it_in_vain() -> None:
    history = story(
        D0, made("a"), made("b", layer("m"), priority=2), made("c", priority=0), made("d", condition="tags.x = 1")
    )
    assert answers_of(history) == (
        "d0 runs a + b; it does not get c: a wins, with priority 1 over 0; 1 other deployment does not target it"
    )


def test_the_answer_says_what_an_unmanaged_device_keeps_and_who_has_never_had_anything() -> None:
    gone = story(D0, SOUTH, made("a", condition="tags.site = 'south'"), ("a", DeploymentDeleted()))
    assert answers_of(gone) == "d0 runs nothing: no base targets it"
    assert answers_of(story(D0, made("a"), made("b", layer("m"), priority=2))) == "d0 runs a + b"
    walked = texts_of(gone, by_way_of=Vector(2, 1))
    assert walked.answer == "d0 is unmanaged: no deployment targets it any more, and it keeps the configuration from a"


def test_no_value_is_longer_than_a_sentence_bears() -> None:
    history = story(D0, ("d0", TwinPatched(tags={"x": "y" * 4000})), made("a", condition="tags.x = 'z'"))
    assert len(texts_of(history).verdicts["a"]) < 250
    assert msgspec.to_builtins(texts_of(history).weighed[0].condition)["value"] == "y" * 4000


def test_who_sets_what_is_told_with_the_values_of_all_who_disagree() -> None:
    assignment = Assignment(
        AssignmentStatus.MANAGED, (Layer("a", 1), Layer("b", 2)), "x", {}, own=Own("y", (Layer("c", 3), Layer("d", 4)))
    )
    contents = {
        "a": base("m", image="example.com/a:1"),
        "b": layer("m"),
        "c": device_content("rate", 5),
        "d": device_content("rate", {"$secret": "s1"}),
    }
    settings = contests(assignment, contents)
    assert [(one.module, one.path, one.winner.deployment, [side.value for side in one.losers]) for one in settings] == [
        ("$edgeAgent", "properties.desired.modules.m.settings.image", "b", ["example.com/a:1"]),
        (DEVICE, "properties.desired.rate", "d", [5]),
    ]
    assert settings[1].winner.value == "***"


def test_what_a_rollback_brought_back_says_so() -> None:
    explanation = Explanation("d0", DeviceDocument(1, 1), ExplainedDevice(twin_row("d0", {}, {})), Standpoint())
    one = Weighed(
        "a",
        1,
        ContentKind.EDGE,
        1,
        layered=False,
        verdict=Verdict.NOT_APPLIED,
        obstacle=Obstacle(Reason.RESTORED),
        holds=True,
    )
    logged = LoggedDeployment(deployment())
    assert verdict(one, msgspec.structs.replace(explanation, deployments={"a": logged})).startswith(
        "it does not get a: a rollback restored the device's previous configuration"
    )
    held = {"wanted": (Layer("b", 2),), "reason": "too big"}
    assignments = {status: Assignment(status, (Layer("a", 1),), "x", {"m": 2}, **held) for status in AssignmentStatus}
    texts = {status: runs(assignment) for status, assignment in assignments.items()}
    assert texts == {
        AssignmentStatus.MANAGED: "runs a",
        AssignmentStatus.UNMANAGED: "is unmanaged: no deployment targets it any more, and it keeps the configuration from a",
        AssignmentStatus.OVER_LIMIT: "keeps a, as b does not fit: too big",
        AssignmentStatus.BY_HAND: "runs a configuration that was set by hand",
        AssignmentStatus.RESTORED: "runs the configuration that a rollback restored",
    }
