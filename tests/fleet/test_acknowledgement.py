"""Who has acknowledged what: golden stories of one device, and a plain reading of any history."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from events.deployment.events import DeploymentCreated, DeploymentDeleted
from events.device.events import DesiredDelivered, DeviceEvent, DeviceRegistered, DeviceRetired, PropertiesReported
from events.envelope import Vector
from events.explain.device_report import DeviceReport, HubReport, ModuleStatus, report_text
from events.fleet.assignments import NO_ASSIGNMENT, Assignment, AssignmentChange
from events.projection_store.memory import MemoryProjectionStore
from events.properties import merge_patch
from events.stored_projection.partition_reader import PartitionReading
from events.stored_projection.stored_partition import ARRAYS, HASHES
from tests.fleet.histories import History, histories
from tests.fleet.test_laws import run, steps
from tests.workers.system import answer_of, base, hub_answer_of, layer

LAWS = settings(derandomize=True, deadline=None, max_examples=30)
ROUTES = {"modulesContent": {"$edgeHub": {"properties.desired.routes.up": "FROM /messages/* INTO $upstream"}}}
RATE = {"modulesContent": {"cam": {"properties.desired.rate": 5}}}
PASSWORD = {
    "modulesContent": {
        "$edgeAgent": {
            "properties.desired.runtime.settings.registryCredentials.acr": {
                "address": "example.com",
                "username": "u",
                "password": "p",
            }
        }
    }
}
AGENT, HUB = "d/$edgeAgent", "d/$edgeHub"


class Story:
    """One device `d`, applied and kept event by event."""

    def __init__(self, *events: tuple[str, Any]) -> None:
        self._history, self._store = History(), MemoryProjectionStore()
        self._vectors: list[Vector] = []
        self.tell(("d", DeviceRegistered()), *events)

    def tell(self, *events: tuple[str, Any]) -> "Story":
        for subject, event in events:
            if isinstance(event, DeviceEvent):
                self._history.device(subject, event)
            else:
                self._history.deployment(subject, event)
            self._vectors.append(Vector(len(self._history.partition), len(self._history.fleet)))
        self._store = MemoryProjectionStore()
        run(self._history, self._vectors, store=self._store, reload=True)
        return self

    @property
    def reading(self) -> PartitionReading:
        return PartitionReading(self._store.load(0))

    def of(self, name: str) -> set[str]:
        """The statuses that the device has with a deployment, beside being targeted."""
        return {status for status, members in self.reading.status(name).named().items() if members} - {"target"}

    @property
    def assignment(self) -> Assignment:
        kept = self._store.load(0)
        number = int.from_bytes(kept.arrays["assignment_of"][:4], "little")
        return msgspec.json.decode(kept.hashes["assignments"][str(number)], type=Assignment)

    def agent(self, code: int = 200, **statuses: str) -> tuple[str, DeviceEvent]:
        return AGENT, PropertiesReported(answer_of(self.assignment.agent_version, code=code, **statuses))

    def hub(self, code: int = 200) -> tuple[str, DeviceEvent]:
        return HUB, PropertiesReported(hub_answer_of(self.assignment.versions["$edgeHub"], code=code))

    def delivered(self) -> tuple[str, DeviceEvent]:
        return "d", DesiredDelivered(self.assignment.deliverable)


def made(name: str, content: Mapping[str, Any], priority: int = 1) -> tuple[str, DeploymentCreated]:
    return name, DeploymentCreated(dict(content), "*", priority)


def well() -> Story:
    """A device that is well with a base of one module."""
    story = Story(made("base", base("cam")))
    return story.tell(story.agent(cam="running"), story.hub())


WAITS = {"actual", "unknown", "pending"}
IS_WELL = {"actual", "healthy"}


def test_both_system_modules_answer_for_a_base() -> None:
    story = Story(made("base", base("cam")))
    assert story.of("base") == WAITS
    story.tell(story.agent(cam="running"))
    assert story.of("base") == {*WAITS, "reportedSuccessful"}
    story.tell(story.hub())
    assert story.of("base") == {*IS_WELL, "reportedSuccessful"}


def test_a_layer_that_changes_only_routes_waits_for_the_hub() -> None:
    story = well().tell(made("routes", ROUTES, 5))
    assert story.of("routes") == {*WAITS, "reportedSuccessful"}
    story.tell(story.hub())
    assert story.of("routes") == {*IS_WELL, "reportedSuccessful"}


def test_a_hub_that_answers_for_the_former_version_has_not_acknowledged_the_new_one() -> None:
    story = well()
    former = story.hub()
    story.tell(made("routes", ROUTES, 5), former)
    assert "pending" in story.of("routes")


@pytest.mark.parametrize("code", [400, 412, 500])
def test_a_hub_that_fails_makes_the_device_unhealthy(code: int) -> None:
    story = well().tell(made("routes", ROUTES, 5))
    story.tell(story.hub(code))
    assert story.of("routes") == {"actual", "unhealthy", "reportedSuccessful"}


def test_a_layer_that_changes_only_what_a_module_is_told_waits_for_the_module() -> None:
    story = well().tell(made("rate", RATE, 5))
    assert story.of("rate") == {*WAITS, "reportedSuccessful"}
    story.tell(story.agent(cam="running"), story.hub())
    assert "pending" in story.of("rate"), "neither system module can answer for a module"
    story.tell(("d", DesiredDelivered({"cam": 1})))
    assert "pending" in story.of("rate"), "that is the version before"
    story.tell(story.delivered())
    assert story.of("rate") == {*IS_WELL, "reportedSuccessful"}


def test_a_later_version_than_the_expected_one_is_an_acknowledgement_too() -> None:
    story = well().tell(made("rate", RATE, 5), made("routes", ROUTES, 6))
    story.tell(("d", DesiredDelivered({"cam": 9})), (HUB, PropertiesReported(hub_answer_of(9))))
    assert story.of("routes") == {*IS_WELL, "reportedSuccessful"}


@pytest.mark.parametrize("who", ["agent", "hub"])
def test_406_is_an_answer_and_no_failure(who: str) -> None:
    story = Story(made("base", base("cam")))
    story.tell(story.agent(406 if who == "agent" else 200, cam="running"), story.hub(406 if who == "hub" else 200))
    assert story.of("base") - {"reportedSuccessful", "reportedFailed"} == {"actual", "unknown"}


def test_states_of_modules_that_were_reported_before_the_answer_do_not_count() -> None:
    story = well().tell(made("next", base("cam", image="example.com/a:2.0.0"), 2))
    agent = {"lastDesiredVersion": story.assignment.agent_version, "lastDesiredStatus": {"code": 200}}
    story.tell((AGENT, PropertiesReported(agent)))
    assert story.of("next") == {"actual", "unknown", "reportedSuccessful"}, "it was running before it was replaced"
    story.tell((AGENT, PropertiesReported({"modules": {"cam": {"runtimeStatus": "running"}}})))
    assert story.of("next") == {*IS_WELL, "reportedSuccessful"}


def test_a_stale_failure_does_not_count_either() -> None:
    story = Story(made("base", base("cam")))
    story.tell(story.agent(cam="failed"), story.hub(), made("next", base("cam", image="example.com/a:2.0.0"), 2))
    agent = {"lastDesiredVersion": story.assignment.agent_version, "lastDesiredStatus": {"code": 200}}
    story.tell((AGENT, PropertiesReported(agent)))
    assert story.of("next") == {"actual", "unknown", "reportedSuccessful"}


def test_an_agent_that_is_told_nothing_new_of_its_modules_need_not_report_them_again() -> None:
    """Agents report differences alone (contract/edge.md §1.2): there will be no other report."""
    story = well().tell(made("acr", PASSWORD, 5))
    assert "pending" in story.of("acr")
    agent = {"lastDesiredVersion": story.assignment.agent_version, "lastDesiredStatus": {"code": 200}}
    story.tell((AGENT, PropertiesReported(agent)))
    assert story.of("acr") == {*IS_WELL, "reportedSuccessful"}


def test_a_device_that_never_heard_of_what_came_and_went_need_not_report_its_modules_again() -> None:
    story = well().tell(made("next", base("cam", image="example.com/a:2.0.0"), 2), ("next", DeploymentDeleted()))
    agent = {"lastDesiredVersion": story.assignment.agent_version, "lastDesiredStatus": {"code": 200}}
    story.tell((AGENT, PropertiesReported(agent)))
    assert story.of("base") == {*IS_WELL, "reportedSuccessful"}


def test_a_section_that_is_gone_has_nobody_who_could_answer() -> None:
    story = well().tell(made("extra", layer("x", v=1), 5))
    story.tell(story.agent(cam="running", x="running"), story.delivered())
    assert "healthy" in story.of("extra")
    story.tell(("extra", DeploymentDeleted()))
    story.tell(story.agent(cam="running"))
    assert "healthy" in story.of("base")


def test_a_configuration_of_a_device_or_module_is_acknowledged_by_having_it() -> None:
    story = well()
    story.tell(made("own", {"deviceContent": {"properties.desired.x": 1}}))
    story.tell(
        (
            "of-cam",
            DeploymentCreated(
                {"moduleContent": {"properties.desired.y": 1}}, "FROM devices.modules WHERE moduleId = 'cam'", 1
            ),
        )
    )
    assert story.of("own") == story.of("of-cam") == WAITS
    assert story.of("base") == {*WAITS, "reportedSuccessful"}, "cam is part of what the base runs"
    story.tell(("d", DesiredDelivered({"cam": story.assignment.deliverable["cam"]})))
    assert (story.of("own"), story.of("of-cam")) == (WAITS, IS_WELL)
    assert story.of("base") == {*IS_WELL, "reportedSuccessful"}, "no agent reads the device's own twin"
    story.tell(story.delivered())
    assert story.of("own") == IS_WELL


# -- any history


@st.composite
def answered_histories(draw: st.DrawFn) -> History:
    """Histories in which hubs answer and sections are delivered, at any time and of any version."""
    plain, history = draw(histories(by_hand=True)), History()
    history.fleet = plain.fleet
    live: set[str] = set()
    for envelope in plain.partition:
        history.device(envelope.subject, envelope.event)
        if isinstance(envelope.event, DeviceRegistered):
            live.add(envelope.subject)
        elif isinstance(envelope.event, DeviceRetired):
            live.discard(envelope.subject)
        for device in sorted(live) if draw(st.integers(0, 2)) == 0 else ():
            _draw_answer(draw, history, device)
    return history


_VERSIONS = st.sampled_from([1, 2, 3, 9, 9, 9, 9])
_MODULES = st.fixed_dictionaries(
    {
        name: st.fixed_dictionaries({"runtimeStatus": st.sampled_from(["running", "running", "stopped"])})
        for name in "ab"
    }
)


def _draw_answer(draw: st.DrawFn, history: History, device: str) -> None:
    kind = draw(st.sampled_from(["agent", "hub", "delivered", "everything", "everything"]))
    if kind in {"agent", "everything"}:
        patch = answer_of(draw(_VERSIONS), code=draw(st.sampled_from([200] * 6 + [406, 500])))
        patch = {**patch, "modules": draw(_MODULES)}
        without_modules = draw(st.integers(0, 3)) == 0
        history.device(f"{device}/$edgeAgent", PropertiesReported(hub_answer_of(9) if without_modules else patch))
    if kind in {"hub", "everything"}:
        patch = hub_answer_of(draw(_VERSIONS), code=draw(st.sampled_from([200] * 6 + [400, 406])))
        history.device(f"{device}/$edgeHub", PropertiesReported(patch))
    if kind in {"delivered", "everything"}:
        names = ["a", "b", "$device"] if kind == "everything" else [draw(st.sampled_from(["a", "b", "c", "$device"]))]
        history.device(device, DesiredDelivered({name: draw(_VERSIONS) for name in names}))


class Plain:
    """One device as a person would keep book of it."""

    def __init__(self) -> None:
        self.assignment: Assignment = NO_ASSIGNMENT
        self.reported: dict[str, dict[str, Any]] = {"$edgeAgent": {}, "$edgeHub": {}}
        self.delivered: dict[str, int] = {}
        self.seen: Any = None

    def take(self, module_id: str, event: DeviceEvent, sections: Mapping[str, Mapping[str, Any]]) -> None:
        match event:
            case DesiredDelivered(versions):
                for name, version in versions.items():
                    self.delivered[name] = max(version, self.delivered.get(name, 1))
            case PropertiesReported(patch) if module_id in self.reported:
                self.reported[module_id] = merge_patch(self.reported[module_id], patch)
                tells_modules = module_id == "$edgeAgent" and {"modules", "systemModules"} & patch.keys()
                if tells_modules and self.has_answered("$edgeAgent"):
                    self.seen = specs(sections)
            case _:
                pass

    def has_answered(self, module_id: str) -> bool:
        reported, version = self.reported[module_id], self.assignment.versions.get(module_id, 0)
        return bool(version) and reported.get("lastDesiredVersion", 0) >= version and self.code(module_id) is not None

    def code(self, module_id: str) -> int | None:
        return (self.reported[module_id].get("lastDesiredStatus") or {}).get("code")

    def judged(self, sections: Mapping[str, Mapping[str, Any]], statuses: Mapping[str, str]) -> set[str]:
        needed = {"$edgeAgent"} | ({"$edgeHub"} & sections.keys() & self.assignment.versions.keys())
        modules = (sections.keys() | set((sections.get("$edgeAgent", {}).get("modules")) or {})) - needed - {"$edgeHub"}
        versions = self.assignment.module_versions
        has_all = all(self.delivered.get(name, 1) >= versions.get(name, 1) for name in modules)
        acknowledged = has_all and all(map(self.has_answered, needed))
        is_ok = self.has_answered("$edgeAgent") and self.code("$edgeAgent") == 200
        is_fresh = is_ok and (not statuses or self.seen == specs(sections))
        found = self.runtime()
        is_desired = all(found.get(name) == status for name, status in statuses.items())
        failed = any(self.has_answered(name) and self.code(name) not in {200, 406} for name in needed)
        told = set()
        if acknowledged:
            told.add("acknowledged")
        if acknowledged and is_fresh and is_desired and all(self.code(name) == 200 for name in needed):
            told.add("healthy")
        if failed or (is_fresh and not is_desired):
            told.add("unhealthy")
        return told

    def runtime(self) -> dict[str, Any]:
        agent = self.reported["$edgeAgent"]
        system = {f"${name}": one for name, one in (agent.get("systemModules") or {}).items()}
        every = {**(agent.get("modules") or {}), **system}
        return {name: one.get("runtimeStatus") for name, one in every.items() if isinstance(one, dict)}


def specs(sections: Mapping[str, Mapping[str, Any]]) -> tuple[Any, Any]:
    agent = sections.get("$edgeAgent", {})
    return agent.get("modules") or {}, agent.get("systemModules") or {}


def test_the_sets_are_what_a_plain_reading_of_each_device_gives() -> None:
    seen: dict[str, int] = dict.fromkeys(["acknowledged", "healthy", "unhealthy", "none"], 0)

    @LAWS
    @given(data=st.data(), history=answered_histories())
    def hold(data: st.DataObject, history: History) -> None:
        vectors, store = data.draw(steps(history)), MemoryProjectionStore()
        assignment_changes = run(history, vectors, store=store, reload=data.draw(st.booleans()))
        kept = store.load(0)
        sections, statuses = _contents(history, vectors)
        plain = _plain(history, assignment_changes, sections, ids=_ids(kept.hashes["ids"]))
        reading = PartitionReading(kept)
        for ordinal, device in plain.items():
            wanted = device.judged(sections[device.assignment.configuration], statuses[device.assignment.configuration])
            found = {name for name in ("acknowledged", "healthy", "unhealthy") if ordinal in reading.set(name)}
            assert found == wanted
            for name in wanted or {"none"}:
                seen[name] += 1

    hold()
    assert min(seen.values()) > 3, seen


def _contents(history: History, vectors: list[Vector]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, str]]]:
    """Every configuration that was ever had, by its digest: its sections, and how its modules should be."""
    sections: dict[str, dict[str, Any]] = {NO_ASSIGNMENT.configuration: {}}
    statuses: dict[str, dict[str, str]] = {NO_ASSIGNMENT.configuration: {}}
    for end in range(1, len(vectors) + 1):
        store = MemoryProjectionStore()
        run(history, vectors[:end], store=store)
        for digest, data in store.load(0).hashes["configurations"].items():
            sections[digest] = msgspec.json.decode(data)
            agent = sections[digest].get("$edgeAgent", {})
            every = {**(agent.get("modules") or {})}
            if "edgeAgent" in (agent.get("systemModules") or {}):
                every["$edgeAgent"] = {"status": "running"}
            statuses[digest] = {name: one["status"] for name, one in every.items() if "status" in one}
    return sections, statuses


def _ids(pages: Mapping[str, bytes]) -> list[str]:
    return [name for page in sorted(pages, key=int) for name in msgspec.json.decode(pages[page], type=list[str])]


def _plain(
    history: History,
    assignment_changes: list[AssignmentChange],
    sections: Mapping[str, Mapping[str, Any]],
    *,
    ids: list[str],
) -> dict[int, Plain]:
    """By ordinal, the devices that are left at the end."""
    devices: dict[int, Plain] = {}
    ordinal_of: dict[str, int] = {}
    left, count = list(assignment_changes), 0

    def decide(upto: int) -> None:
        while left and left[0].after.partition <= upto:
            for move in left.pop(0).moves:
                for ordinal in move.ordinals():
                    if ordinal in devices:
                        devices[ordinal].assignment = move.after

    for envelope in history.partition:
        decide(envelope.position - 1)
        name, _, module_id = envelope.subject.partition("/")
        if isinstance(envelope.event, DeviceRegistered):
            assert ids[count] == name
            ordinal_of[name], devices[count] = count, Plain()
            count += 1
        elif isinstance(envelope.event, DeviceRetired):
            del devices[ordinal_of.pop(name)]
        elif name in ordinal_of:
            device = devices[ordinal_of[name]]
            device.take(module_id, envelope.event, sections[device.assignment.configuration])
    decide(len(history.partition))
    return devices


@LAWS
@given(data=st.data(), history=answered_histories())
def test_answers_of_all_kinds_are_rebuilt_from_events_and_assignment_changes_byte_by_byte(
    data: st.DataObject, history: History
) -> None:
    vectors, store, again = data.draw(steps(history)), MemoryProjectionStore(), MemoryProjectionStore()
    assignment_changes = run(history, vectors, store=store, reload=True)
    run(history, [*(assignment_change.after for assignment_change in assignment_changes), vectors[-1]], store=again)
    one, other = store.load(0), again.load(0)
    for name in HASHES:
        assert one.hashes[name] == other.hashes[name], name
    for name in ARRAYS:
        assert one.arrays[name] == other.arrays[name], name


ANSWERED = DeviceReport(
    says="",
    at=1_763_733_802_000,
    version=3,
    wanted_version=3,
    code=200,
    description=None,
    status="pending",
    hub=None,
    undelivered=(),
    stale=False,
    modules={"cam": ModuleStatus("running", "running")},
)
BY_AGENT = "its agent answered code 200 for version 3, which it should have, on 2025-11-21 14:03:22 UTC: "


@pytest.mark.parametrize(
    ("reported", "says"),
    [
        (
            replace(ANSWERED, status="healthy", hub=HubReport(2, 2, 200)),
            f"{BY_AGENT}healthy; all modules are as desired",
        ),
        (
            replace(ANSWERED, hub=HubReport(2, 3, 200)),
            f"{BY_AGENT}pending; all modules are as desired; its $edgeHub answered for version 2 last; it should have 3",
        ),
        (
            replace(ANSWERED, hub=HubReport(None, 3, None)),
            f"{BY_AGENT}pending; all modules are as desired; its $edgeHub never answered; it should have 3",
        ),
        (
            replace(ANSWERED, status="unhealthy", hub=HubReport(3, 3, 400)),
            f"{BY_AGENT}unhealthy; all modules are as desired; its $edgeHub answered code 400 for version 3, which it should have",
        ),
        (
            replace(ANSWERED, undelivered=("cam", "x")),
            f"{BY_AGENT}pending; all modules are as desired; cam, x do not have their desired properties yet",
        ),
        (
            replace(ANSWERED, status="unknown", stale=True),
            f"{BY_AGENT}unknown; the states of its modules were reported before that answer",
        ),
    ],
)
def test_an_explanation_says_which_answer_is_missing_or_bad(reported: DeviceReport, says: str) -> None:
    assert report_text(reported) == says
