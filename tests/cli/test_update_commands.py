"""`twinfold update` and `twinfold group`, as an operator types them."""

import json
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import served
from tests.servers import eventually
from tests.workers.system import System, base

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

Run = Callable[..., str]
V1, V2 = "contoso/camera/1.0", "contoso/camera/1.1"


@pytest.fixture
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as both:
        yield both


@pytest.fixture
def twinfold(serving: tuple[System, httpx.Client]) -> Run:
    _, http = serving

    def run(*arguments: str, given: str = "", code: int = 0) -> str:
        command = [sys.executable, "-m", "services.cli", *arguments, "--api-url", str(http.base_url)]
        ran = waiting.run(command, input=given)
        assert ran.returncode == code, ran.stderr
        assert "Traceback" not in ran.stderr
        return ran.stderr if code else ran.stdout

    return run


def test_an_operator_imports_deploys_looks_and_cancels(serving: tuple[System, httpx.Client], twinfold: Run) -> None:
    system, _ = serving
    manifest = json.dumps({"content": base("m")})
    assert twinfold("update", "import", V1, "-", given=manifest) == f"{V1} is imported\n"
    twinfold("update", "import", V2, "-", "--condition", "tags.model = 'x'", "--description", "new", given=manifest)
    assert [one["update"] for one in json.loads(twinfold("update", "list", "--json"))] == [V2, V1]
    assert "tags.model = 'x'" in twinfold("update", "list")
    assert json.loads(twinfold("update", "show", V1))["content"] == base("m")
    twinfold("device", "create", "edge-1", "--tag", "ADUGroup=north", "--tag", "model=x")
    twinfold("group", "define", "west", "--condition", "tags.model = 'x'", "--priority", "7")
    system.settle()
    assert [one["devices"] for one in json.loads(twinfold("group", "list", "--json"))] == [0, 1, 1]
    assert "north" in twinfold("group", "list")
    policy = ("--roll-back-to", V1, "--percent", "20", "--count", "3", "--answered", "5")
    told = twinfold("update", "deploy", V2, "north", "--id", "1", "--start", "2090-01-01T12:00:00", *policy)
    assert told.splitlines() == [
        f"{V2} is deployed to north as 1: inactive",
        "A phase passes when all admitted devices answered.",
        (
            "It fails when at least 20 % of the admitted devices and at least 3 devices failed, "
            "once at least 5 devices answered; a gate that cannot be reached any more only pauses it."
        ),
        "Then it rolls back: the deployment ends; its devices get the content of update contoso/camera/1.0.",
    ]
    told = twinfold("update", "deploy", V2, "north", "--id", "2")
    assert told.startswith(f"{V2} is deployed to north as 2: active\n")
    assert "It never fails automatically" in told
    assert json.loads(twinfold("group", "show", "north"))["active"] == "2"
    first, second = json.loads(twinfold("update", "status", "north", "--json"))
    assert (first["state"], second["state"]) == ("Superseded", "Active")
    assert first["policy"] == {"update": V1, "percent": 20, "count": 3, "answeredMin": 5}
    twinfold("update", "retry", "north", "2")
    eventually(
        lambda: "edge-1" in twinfold("update", "status", "north", "2", "--devices", "NotStarted"), what="it is listed"
    )
    assert "Superseded" in twinfold("update", "status", "north")
    assert twinfold("update", "cancel", "north", "2", "--reason", "no") == "2 of north is canceled\n"
    assert "canceled, which is final" in twinfold("update", "cancel", "north", "2", code=1)
    twinfold("group", "remove", "north")
    twinfold("group", "remove", "west")
    twinfold("update", "delete", V1)
    assert "does not exist" in twinfold("update", "show", V1, code=1)
    twinfold("update", "show", "camera", code=2)
