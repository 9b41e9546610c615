"""A read of one deployment costs what that deployment has, however many others there are."""

from collections.abc import Callable

import pytest

from events import CreateDeployment, DeleteDeployment, PatchTags, RegisterDevice
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.series import Sample, SeriesStore
from services.embedded_redis import EmbeddedRedis
from tests.workers.system import PARTITIONS, System, base, fresh_system
from workers.projector import Projector

pytestmark = pytest.mark.redis_server


def applied(system: System) -> None:
    """Bring every partition to the head."""
    projector = Projector(system.log, system.projections, clock=lambda: 0)
    for number in range(PARTITIONS):
        projector.drain(number, go_on=lambda: True)


def cost_of(system: System, read: Callable[[], object]) -> tuple[int, int]:
    """The commands that Redis carries out for a read, and the bytes that it answers with."""

    def totals() -> tuple[int, int]:
        statistics = system.log.client.info("stats")
        return statistics["total_commands_processed"], statistics["total_net_output_bytes"]

    # What asking for the totals costs is the same each time.
    first, second = totals(), totals()
    read()
    third = totals()
    commands, answered = (2 * second[index] - first[index] for index in range(2))
    return third[0] - commands, third[1] - answered


READS: dict[str, Callable[[FleetProjection], object]] = {
    "status": lambda projection: projection.status("one"),
    "status in a scope": lambda projection: projection.status("one", within=projection.live),
    "targeted": lambda projection: projection.targeted("one"),
    "targets": lambda projection: projection.targets("one"),
    "twins": lambda projection: projection.twins("one"),
    "metrics": lambda projection: projection.metrics({"one": {"rows": ""}}),
    "a list": lambda projection: list(projection.members("one", "actual")),
    "totals": lambda projection: projection.totals(),
    "blocked": lambda projection: projection.blocked(),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_of_one_deployment_asks_for_nothing_of_the_others(shared_redis: EmbeddedRedis, name: str) -> None:
    with fresh_system(shared_redis) as system:
        system.do(*(RegisterDevice(f"d{number}") for number in range(40)))
        system.do(*(PatchTags(f"d{number}", {"site": number % 3}) for number in range(40)))
        metrics = {"rows": "SELECT deviceId FROM devices WHERE tags.site = 1"}
        system.do(CreateDeployment("one", base("m"), "tags.site = 1", 10, metrics=metrics))

        def created(first: int, count: int) -> None:
            numbers = range(first, first + count)
            system.do(
                *(CreateDeployment(f"n{number:03}", base("m"), f"tags.site = {number % 3}", 5) for number in numbers)
            )
            applied(system)

        # Readers that have read nothing yet.
        created(100, 3)
        reader = FleetProjection(system.projections, partitions=PARTITIONS)
        few = cost_of(system, lambda: READS[name](reader))
        created(200, 120)
        reader = FleetProjection(system.projections, partitions=PARTITIONS)
        many = cost_of(system, lambda: READS[name](reader))
        assert many[0] == few[0]
        # A few digits more, in the positions and numbers of the checkpoints.
        assert many[1] <= few[1] + 40 * PARTITIONS


def test_the_counts_of_all_deployments_are_read_again_only_after_a_commit(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system:
        system.do(
            RegisterDevice("d"), *(CreateDeployment(f"n{number}", base("m"), "*", number) for number in range(50))
        )
        applied(system)
        projection = system.fleet_projection
        counts = projection.fleet_counts()
        _, unchanged = cost_of(system, projection.fleet_counts)
        assert projection.fleet_counts() is counts
        _, checkpoints = cost_of(system, lambda: system.projections.read_each(range(PARTITIONS)))
        assert unchanged <= checkpoints
        system.do(PatchTags("d", {"site": 1}))
        applied(system)
        assert projection.fleet_counts() is not counts
        assert projection.status()["n49"]["actual"] == 1


def test_a_deployment_that_is_created_again_under_its_id_is_read_at_its_new_place(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system:
        system.do(RegisterDevice("d"), RegisterDevice("e"), CreateDeployment("one", base("m"), "deviceId = 'd'"))
        applied(system)
        # The same reader before and after, which remembers where the sets were.
        assert list(system.fleet_projection.members("one", "actual")) == ["d"]
        system.do(DeleteDeployment("one"))
        applied(system)
        assert list(system.fleet_projection.members("one", "actual")) == []
        assert not system.fleet_projection.targets("one").get(0)
        system.do(CreateDeployment("one", base("m"), "deviceId = 'e'"))
        applied(system)
        assert list(system.fleet_projection.members("one", "actual")) == ["e"]


def test_only_the_deployments_whose_numbers_changed_get_another_sample(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system:
        series = SeriesStore(system.log.client)
        names = [f"n{number:04}" for number in range(1500)]
        series.add(1, {name: Sample(1, {"target": 1}, {}) for name in names})
        series.add(2, {name: Sample(2, {"target": 1 + (name == "n0700")}, {}) for name in names})
        assert [sample.at for sample in series.read("n0700")] == [1, 2]
        assert [sample.at for sample in series.read("n1499")] == [1]
