"""The counts that a commit stores of each deployment are the sizes of its lists, and both follow from the assignments."""

import base64
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from events.bitmaps import from_bytes, to_bytes
from events.deployment.events import AdmissionChanged, DeploymentCreated, DeploymentUpdated, Kept
from events.device.events import DesiredDelivered, DeviceRegistered, PropertiesReported
from events.envelope import Vector
from events.fleet.deployment_status import STATUSES, Applied
from events.manifest.document import DEVICE
from events.projection_store.deployment_reads import DeploymentReads, counts_in
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.memory import MemoryProjectionStore
from events.stored_projection.not_applied import ranks_of, targets_of
from events.stored_projection.partition_reader import STATUS_ARRAYS, STATUS_HASHES, PartitionReading, StoredAssignments
from events.stored_projection.stored_partition import StoredPartition
from tests.fleet.histories import History, Model, histories
from tests.fleet.test_laws import run, steps
from tests.shortening import examples, is_short

LAWS = settings(derandomize=True, deadline=None, max_examples=examples(300))


def expected_status(stored: StoredPartition) -> dict[str, dict[str, BitMap]]:
    """The status sets of every deployment, device by device from the assignments and the answers."""
    assignments, ranks, targets = StoredAssignments(stored), ranks_of(stored), targets_of(stored)
    sets = {name: from_bytes(data) for name, data in stored.hashes["sets"].items()}
    undelivered = {name: from_bytes(data) for name, data in stored.hashes["undelivered"].items()}
    result: dict[str, dict[str, BitMap]] = {}
    for layer, rank in ranks.items():
        status = result[layer.id] = {name: BitMap() for name in STATUSES}
        for module, members in targets[layer].items() if rank.is_open else ():
            status["target"] |= members
            status["actual"] |= BitMap(device for device in members if assignments.of(device).has(layer, module))
        lacking = BitMap().union(*(undelivered.get(module or DEVICE, BitMap()) for module in targets[layer]))
        for device in status["actual"]:
            unhealthy = device in sets["unhealthy"]
            if rank.own:
                names = ["pending", "unknown"] if device in lacking else ["healthy"]
            else:
                is_healthy = device in sets["healthy"]
                holds = {
                    "reportedSuccessful": device in sets["succeeded"],
                    "reportedFailed": device in sets["failed"],
                    "healthy": is_healthy,
                    "unhealthy": unhealthy,
                    "unknown": not is_healthy and not unhealthy,
                    "pending": not unhealthy and device not in sets["acknowledged"],
                }
                names = [name for name, is_true in holds.items() if is_true]
            for name in names:
                status[name].add(device)
    return result


def sizes(sets: dict[str, BitMap]) -> dict[str, int]:
    """The size of each set."""
    return {name: len(members) for name, members in sets.items()}


def with_answers_and_phases(data: st.DataObject, history: History) -> History:
    """A history that goes on with answers of devices and deliveries to them, and with admissions of single devices."""
    live = sorted(Model(history).twins)
    deployed = sorted(Model(history).deployments)
    for device in live:
        if version := data.draw(st.sampled_from([0, 1, 1, 1, 1, 2, 3])):
            code = data.draw(st.sampled_from([200, 500]))
            answer = {"lastDesiredVersion": version, "lastDesiredStatus": {"code": code}}
            statuses = {"edgeAgent": {"runtimeStatus": "running"}, "edgeHub": {"runtimeStatus": "running"}}
            modules = {"a": {"runtimeStatus": data.draw(st.sampled_from(["running", "failed"]))}}
            report = {**answer, "systemModules": statuses, "modules": modules}
            history.device(f"{device}/$edgeAgent", PropertiesReported(report))
            history.device(f"{device}/$edgeHub", PropertiesReported(answer))
    for _ in range(data.draw(st.integers(0, 4))):
        if live:
            versions = data.draw(st.dictionaries(st.sampled_from([DEVICE, "a", "b"]), st.integers(1, 4), min_size=1))
            history.device(data.draw(st.sampled_from(live)), DesiredDelivered(versions))
        if deployed:
            members = BitMap(data.draw(st.sets(st.integers(0, 5))))
            devices = {"0": base64.b64encode(to_bytes(members)).decode()}
            history.deployment(data.draw(st.sampled_from(deployed)), AdmissionChanged(Kept(devices)))
    return history


def check_counts(store: MemoryProjectionStore) -> Counter[str]:
    """Check the stored counts and lists of every deployment against its assignments; returns what there was to count."""
    stored, projection, seen = store.load(0), FleetProjection(store, partitions=1), Counter[str]()
    expected, counts = expected_status(stored), counts_in(stored)
    assert counts.keys() == expected.keys()
    assert projection.status() == {name: sizes(sets) for name, sets in expected.items()}
    whole = PartitionReading(store.read(0, hashes=STATUS_HASHES, arrays=STATUS_ARRAYS))
    names, everyone = sorted(expected), BitMap(range(100))
    # Several deployments in one read, and each in a read of its own.
    (several,) = DeploymentReads(store).readings([0], *names)
    for name in names:
        readings = (whole, several, *DeploymentReads(store).readings([0], name))
        assert all(reading.status(name).named() == expected[name] for reading in readings)
        assert projection.status(name)[name] == sizes(expected[name])
        targeted = sum(len(members) for members in whole.targeted_assignments(name))
        assert projection.targeted(name) == counts[name].targeted == targeted
        by_module = list(several.by_module(name))
        twins = {"target": sum(len(target) for target, _ in by_module)}
        twins["actual"] = sum(len(actual) for _, actual in by_module)
        assert projection.twins(name)[name] == twins
        # A reader with a scope counts by the lists.
        assert projection.status(name, within=lambda _: everyone)[name] == sizes(expected[name])
        assert projection.twins(name, within=lambda _: everyone)[name] == twins
        assert projection.targeted(name, within=lambda _: everyone) == targeted
        seen.update(status for status, members in expected[name].items() if members)
    for field, in_part in stored.hashes["applied"].items():
        assert Applied.from_bytes(in_part).members <= from_bytes(stored.hashes["targets"][field])
        seen[f"stored as {in_part[:1].decode()}"] += 1
    seen.update(assignment.status.value for assignment in StoredAssignments(stored).by_number.values())
    return seen


def test_every_stored_count_is_the_size_of_its_list_after_any_history() -> None:
    seen = Counter[str]()

    @LAWS
    @given(data=st.data(), history=histories(by_hand=True, own_of_ten=3, modules_of_ten=3), reload=st.booleans())
    def hold(data: st.DataObject, history: History, *, reload: bool) -> None:
        store = MemoryProjectionStore()
        history = with_answers_and_phases(data, history)
        run(history, data.draw(steps(history)), store=store, reload=reload)
        seen.update(check_counts(store))

    hold()
    # The histories come to every status, and to both forms of the stored sets; the few of the short run, to most.
    assert is_short or {*STATUSES, "stored as +", "stored as -", "managed", "by hand", "unmanaged"} <= seen.keys()


def test_a_device_over_a_limit_does_not_count_for_a_deployment_that_targets_it_no_more() -> None:
    history, store = History(), MemoryProjectionStore()
    for device in ("d0", "d1"):
        history.device(device, DeviceRegistered())

    def configuration(member: str, condition: str) -> DeploymentCreated:
        content = {"deviceContent": {f"properties.desired.{member}": "x" * 20_000}}
        return DeploymentCreated(content=content, target_condition=condition)

    history.deployment("first", configuration("first", "*"))
    run(history, [Vector(2, 1)], store=store)
    assert check_counts(store)["actual"] == 1
    # Two configurations that are over the limit together replace the first on d0, which keeps the first.
    update = DeploymentUpdated(target_condition="deviceId = 'd1'", priority=0, labels={}, metrics={})
    history.deployment("first", update)
    history.deployment("second", configuration("second", "deviceId = 'd0'"))
    history.deployment("third", configuration("third", "deviceId = 'd0'"))
    store = MemoryProjectionStore()
    run(history, [Vector(2, 1), Vector(2, 4)], store=store)
    check_counts(store)
    status = FleetProjection(store, partitions=1).status()
    assert {name: (counts["target"], counts["actual"]) for name, counts in status.items()} == {
        "first": (1, 1),
        "second": (1, 0),
        "third": (1, 0),
    }
    stored = StoredAssignments(store.load(0)).of(0).own_part
    assert [layer.id for layer in stored.stack] == ["first"]
