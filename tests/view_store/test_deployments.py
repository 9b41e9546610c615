import pytest

from events.deployment.facts import DeploymentCreated
from events.view_store.deployments import labelled, matches_labels
from tests.deployment.given import standing
from tests.manifest.contents import content


@pytest.mark.parametrize(
    ("wanted", "matches"),
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
    wanted: dict[str, str], *, matches: bool
) -> None:
    document = standing(DeploymentCreated(content(), labels={"site": "a", "line": "1"}))
    assert matches_labels(document, wanted) is matches


def test_a_list_by_labels_is_in_the_order_of_ids() -> None:
    documents = {
        name: standing(DeploymentCreated(content(), labels={"site": site}))
        for name, site in {"c": "a", "a": "a", "b": "b"}.items()
    }
    assert [name for name, _ in labelled(documents.items(), {"site": "a"})] == ["a", "c"]
    assert [name for name, _ in labelled(documents.items(), {})] == ["a", "b", "c"]
