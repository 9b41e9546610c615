"""The ranks of deployments follow the log, whatever becomes of its end."""

from datetime import date

from events import CreateDeployment, DeleteDeployment
from events.log.keys import FLEET
from events.log.memory import MemoryLog
from events.log.rank_follower import RankFollower, read_ranked
from events.readiness.commands import GrantWaiver
from tests.manifest.contents import content
from tests.producer.logs import producer


class FailedOver(MemoryLog):
    """Answers as another log once it has failed over."""

    def become(self, other: MemoryLog) -> None:
        vars(self).update(vars(other))


def test_deployments_are_ranked_as_the_log_has_them_after_a_failover_that_lost_its_end() -> None:
    log, replica = FailedOver(partitions=1), MemoryLog(partitions=1)
    for opened in (log, replica):
        producer(opened).do(CreateDeployment("a", content()))
    follower = RankFollower(log)
    assert set(follower.current().by_id) == {"a"}
    producer(log).do(CreateDeployment("lost", content()))
    assert set(follower.current().by_id) == {"a", "lost"}
    log.become(replica)
    # As many events as were lost, and then one more.
    for name in ("b", "c"):
        producer(log).do(CreateDeployment(name, content()))
        assert follower.current().by_id == read_ranked(log).by_id
    producer(log).do(DeleteDeployment("b"))
    assert set(follower.current().by_id) == {"a", "c"}
    assert log.head(FLEET) == 5


def test_waivers_are_those_of_the_log_after_a_failover_that_lost_its_end() -> None:
    log, replica = FailedOver(partitions=1), MemoryLog(partitions=1)
    producer(log).do(CreateDeployment("a", content()))
    producer(replica).do(CreateDeployment("a", content()))
    follower = RankFollower(log)
    assert follower.waivers() == set()
    producer(log).do(GrantWaiver("w1", "tag-latest", "it is pinned by digest", date(2099, 1, 1)))
    assert follower.waivers() == {"waiver:w1"}
    log.become(replica)
    producer(log).do(GrantWaiver("w2", "tag-latest", "it is pinned by digest", date(2099, 1, 1)))
    assert follower.waivers() == {"waiver:w2"}
