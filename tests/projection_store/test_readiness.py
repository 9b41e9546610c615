"""The readiness of the fleet: counts are sizes of lists, follow what devices run, and come back byte for byte."""

import datetime as dt
from operator import attrgetter
from typing import Any

import msgspec
import pytest

from events import CreateDeployment, DeleteDeployment, PatchTags, RegisterDevice, UpdateDeployment
from events.access.scope import Scope
from events.canonical import encode
from events.device.commands import RetireDevice, SetConfiguration
from events.projection_store.memory import MemoryProjectionStore
from events.projection_store.readiness import FleetReadiness, RuleCount
from events.readiness.catalogue import RULES, VERSION
from events.readiness.effective import RuleFindings
from events.readiness.waiver import Waiver
from events.stored_projection.stored_partition import Writes
from tests.projection_store.test_query_engine import PARTITIONS, Fleet
from tests.workers.system import base, layer
from workers.projector import Projector
from workers.restored import rebuild

NOW = 1_800_000_000_000
LATER = dt.date(2030, 1, 1)
EVERY = [rule.id for rule in RULES]
PRIVILEGED = {
    "type": "docker",
    "settings": {"image": "example.com/p:1", "createOptions": '{"HostConfig":{"Privileged":true}}'},
}


def privileged(*modules: str) -> dict[str, Any]:
    """A layer whose modules may do everything."""
    paths = {
        f"properties.desired.modules.{name}": {**PRIVILEGED, "status": "running", "restartPolicy": "always"}
        for name in modules
    }
    return {"modulesContent": {"$edgeAgent": paths}}


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    fleet.do(*(RegisterDevice(f"d{number}") for number in range(6)), RegisterDevice("leaf", edge=False))
    fleet.do(
        *(PatchTags(f"d{number}", {"n": number}) for number in range(6)),
        CreateDeployment("base", base("m"), "tags.n >= 2", 1),
        CreateDeployment("open", privileged("p"), "tags.n >= 4", 2),
    )
    return fleet


def readiness(fleet: Fleet) -> FleetReadiness:
    return FleetReadiness(fleet.log, fleet.projections)


def counts(fleet: Fleet, *waivers: Waiver, now: int = NOW, scope: Scope | None = None) -> dict[str, RuleCount]:
    """Counts that are not zero, each held against its list, read in pages of two."""
    within = None if scope is None else lambda number: fleet.query_engine.within(number, scope.condition)
    reader = readiness(fleet)
    found = reader.counts(EVERY, waivers=waivers, now=now, within=within)
    for rule, count in found.items():
        for which in ("found", "waived"):
            listed, location = [], (0, -1)
            while location is not None:
                members = reader.members(rule, attrgetter(which), waivers=waivers, now=now)
                page, location = fleet.fleet_projection.page_of(members, after=location, limit=2, within=within)
                listed += page
            assert len(listed) == len(set(listed)) == getattr(count, which), (rule, which)
    return {rule: count for rule, count in found.items() if count != RuleCount()}


def who(fleet: Fleet, rule: str, *waivers: Waiver, waived: bool = False) -> set[str]:
    part = attrgetter("waived" if waived else "found")
    members = readiness(fleet).members(rule, part, waivers=waivers, now=NOW)
    return set(fleet.fleet_projection.page_of(members, limit=100)[0])


def waiver(**members: Any) -> Waiver:
    return Waiver(**{"rule": "privileged", "who": "user:ada", "why": "so be it", "until": LATER, **members})


def test_a_rule_counts_the_devices_that_run_what_it_stops_at(fleet: Fleet) -> None:
    found = counts(fleet)
    assert found["privileged"] == RuleCount(2)
    assert who(fleet, "privileged") == {"d4", "d5"}
    assert found["log-config"] == RuleCount(4)
    assert who(fleet, "log-config") == {"d2", "d3", "d4", "d5"}


def test_counts_follow_devices_conditions_and_deletes(fleet: Fleet) -> None:
    fleet.do(UpdateDeployment("open", "tags.n >= 3"))
    assert who(fleet, "privileged") == {"d3", "d4", "d5"}
    fleet.do(RetireDevice("d4"), PatchTags("d5", {"n": 0}))
    # Who is not targeted any more keeps what it has.
    assert who(fleet, "privileged") == {"d3", "d5"}
    fleet.do(DeleteDeployment("open"))
    assert who(fleet, "privileged") == {"d5"}
    fleet.do(SetConfiguration("d0", privileged("q")))
    assert who(fleet, "privileged") == {"d0", "d5"}
    # By hand there is no agent yet: that is found as well, and on nobody else.
    assert who(fleet, "ea-missing") == {"d0"}
    counts(fleet)


def test_a_configuration_goes_with_what_was_found_in_it(fleet: Fleet) -> None:
    for command in (DeleteDeployment("open"), *(RetireDevice(f"d{number}") for number in range(6))):
        fleet.do(command)
        for number in range(PARTITIONS):
            hashes = fleet.projections.load(number).hashes
            assert hashes["readiness"].keys() == hashes["configurations"].keys()
    assert counts(fleet) == {}


def test_what_is_kept_follows_from_the_configuration_alone(fleet: Fleet) -> None:
    for number in range(PARTITIONS):
        hashes = fleet.projections.load(number).hashes
        assert hashes["readiness"]
        for digest, data in hashes["readiness"].items():
            assert data == RuleFindings.of(msgspec.json.decode(hashes["configurations"][digest])).to_bytes()


def test_a_rebuild_and_a_worker_that_starts_anew_have_the_same_bytes(fleet: Fleet) -> None:
    fleet.do(UpdateDeployment("open", "tags.n >= 1"), SetConfiguration("d0", privileged("q")))
    elsewhere = MemoryProjectionStore()
    for number in range(PARTITIONS):
        rebuild(number, log=fleet.log, recorded=fleet.projections, into=elsewhere)
        assert elsewhere.load(number) == fleet.projections.load(number)
        before = fleet.projections.load(number)
        assert Projector(fleet.log, fleet.projections, clock=lambda: 1).drain(number, go_on=lambda: True)
        assert fleet.projections.load(number) == before


def test_what_rules_of_another_version_found_is_not_shown_and_made_anew_with_the_next_commit(fleet: Fleet) -> None:
    expected, stored_partitions = counts(fleet), [fleet.projections.load(number) for number in range(PARTITIONS)]
    old = encode([VERSION - 1, {"privileged": ["gone"]}])
    for number, one in enumerate(stored_partitions):
        hashes: Any = {"readiness": dict.fromkeys(one.hashes["readiness"], old)}
        assert fleet.projections.commit(number, Writes(one.checkpoint, one.checkpoint, hashes, {}, None))
    assert counts(fleet) == expected
    fleet.write(*(PatchTags(f"d{number}", {"seen": True}) for number in range(6)))
    for number in range(PARTITIONS):
        assert Projector(fleet.log, fleet.projections, clock=lambda: 1).drain(number, go_on=lambda: True)
        assert fleet.projections.load(number).hashes["readiness"] == stored_partitions[number].hashes["readiness"]


def test_a_waiver_takes_findings_out_of_the_count_until_its_last_day_is_over(fleet: Fleet) -> None:
    assert counts(fleet, waiver())["privileged"] == RuleCount(0, 2)
    assert who(fleet, "privileged", waiver(), waived=True) == {"d4", "d5"}
    over = int(dt.datetime(2030, 1, 2, tzinfo=dt.UTC).timestamp() * 1000)
    assert counts(fleet, waiver(), now=over)["privileged"] == RuleCount(2)
    assert counts(fleet, waiver(rule="log-config"))["privileged"] == RuleCount(2)


def test_a_waiver_for_a_module_leaves_other_modules_alone(fleet: Fleet) -> None:
    fleet.do(CreateDeployment("more", privileged("q"), "tags.n = 5", 3))
    assert counts(fleet, waiver(module="p"))["privileged"] == RuleCount(1, 2)
    assert who(fleet, "privileged", waiver(module="p")) == {"d5"}
    assert counts(fleet, waiver(module="p"), waiver(module="q"))["privileged"] == RuleCount(0, 2)


def test_a_waiver_for_a_deployment_is_for_what_that_deployment_wrote(fleet: Fleet) -> None:
    fleet.do(CreateDeployment("more", privileged("q"), "tags.n = 5", 3))
    assert counts(fleet, waiver(deployment="open"))["privileged"] == RuleCount(1, 2)
    assert who(fleet, "privileged", waiver(deployment="open")) == {"d5"}
    assert counts(fleet, waiver(deployment="base"))["privileged"] == RuleCount(2)
    # Two layers write one module: the upper one wrote what the rule stops at.
    fleet.do(CreateDeployment("again", privileged("q"), "tags.n = 5", 4))
    assert counts(fleet, waiver(deployment="open"), waiver(deployment="more"))["privileged"] == RuleCount(1, 2)
    assert counts(fleet, waiver(deployment="open"), waiver(deployment="again"))["privileged"] == RuleCount(0, 2)


def test_a_deployment_that_is_gone_waives_nothing_any_more(fleet: Fleet) -> None:
    fleet.do(PatchTags("d5", {"n": 0}), DeleteDeployment("open"))
    assert who(fleet, "privileged", waiver(deployment="open")) == {"d5"}
    # Another of the same id did not write it.
    fleet.do(CreateDeployment("open", layer("x"), "tags.n = 7", 2))
    assert who(fleet, "privileged", waiver(deployment="open")) == {"d5"}


def test_counts_within_a_scope_are_of_its_devices_alone(fleet: Fleet) -> None:
    found = counts(fleet, scope=Scope("tags.n <= 4"))
    assert (found["privileged"], found["log-config"]) == (RuleCount(1), RuleCount(3))


def test_nobody_is_counted_who_never_had_a_configuration() -> None:
    fleet = Fleet()
    fleet.do(RegisterDevice("d0"), CreateDeployment("base", base("m"), "tags.n = 1", 1))
    assert counts(fleet) == {}
