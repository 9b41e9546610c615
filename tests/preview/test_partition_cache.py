"""What is remembered from one look to the next."""

from events import CreateDeployment, RegisterDevice
from events.deployment.commands import DeleteDeployment
from events.preview.partition_cache import PartitionCache
from tests.preview.test_stories import PARTITIONS, Stand
from tests.workers.system import base


def test_configurations_that_nobody_has_any_more_are_forgotten_by_and_by() -> None:
    stand = Stand(*(RegisterDevice(f"d{number}") for number in range(4)))
    recall = PartitionCache(stand.log, stand.projections)
    most = 0
    for turn in range(100):
        stand.do(CreateDeployment(f"c{turn}", base("m", image=f"example.com/a:{turn}.0.0"), "*", 1))
        if turn:
            stand.do(DeleteDeployment(f"c{turn - 1}"))
        found = recall.at(stand.log.heads(), range(PARTITIONS))
        most = max(most, len(recall.configurations))
    named = {digest for one in found.values() for digest in one.configurations}
    assert named <= recall.configurations.keys()
    assert most < 80
