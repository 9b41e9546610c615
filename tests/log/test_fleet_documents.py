import pytest

from events.deployment.commands import CreateDeployment
from events.deployment.events import DeploymentCreated
from events.envelope import Principal
from events.log.fleet_documents import deployments, matches_labels
from events.log.memory import MemoryLog
from events.producer.producer import Producer
from tests.deployment.given import document_of
from tests.manifest.contents import content


@pytest.mark.parametrize(
    ("labels", "matches"),
    [
        ({}, True),
        ({"site": "a"}, True),
        ({"site": "a", "line": "1"}, True),
        ({"site": "b"}, False),
        ({"site": "a", "shift": "x"}, False),
        ({"Site": "a"}, False),
    ],
)
def test_a_deployment_matches_when_it_carries_all_the_labels_with_their_values(
    labels: dict[str, str], *, matches: bool
) -> None:
    document = document_of(DeploymentCreated(content(), labels={"site": "a", "line": "1"}))
    assert matches_labels(document, labels) is matches


def test_a_list_by_labels_is_in_the_order_of_ids() -> None:
    log = MemoryLog()
    producer = Producer(log, by=Principal.parse("user:ada"))
    for name, site in {"c": "a", "a": "a", "b": "b"}.items():
        producer.do(CreateDeployment(name, content(), labels={"site": site}))
    assert [name for name, _ in deployments(log, labels={"site": "a"})] == ["a", "c"]
    assert [name for name, _ in deployments(log)] == ["a", "b", "c"]
