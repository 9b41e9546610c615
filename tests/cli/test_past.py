"""`--at` on commands that read, and `twinfold diff`, as an operator types them."""

import json
import sys

import pytest

from events import DeleteDeployment, PatchTags
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import served
from tests.history.past_reads import vector
from tests.workers.system import base, deploy, join

pytestmark = [pytest.mark.redis_server, pytest.mark.full]


def test_an_operator_looks_at_what_was_and_at_what_became_of_it(shared_redis: EmbeddedRedis) -> None:
    with served(shared_redis) as (system, http):

        def twinfold(*arguments: str, code: int = 0) -> str:
            command = [sys.executable, "-m", "services.cli", *arguments, "--api-url", str(http.base_url)]
            ran = waiting.run(command)
            assert ran.returncode == code, ran.stdout + ran.stderr
            return ran.stdout + ran.stderr

        content = base("one")
        runtime = content["modulesContent"]["$edgeAgent"]["properties.desired"]["runtime"]["settings"]
        password = {"$secret": "not-to-be-seen"}
        runtime["registryCredentials"] = {"r": {"address": "r.example.com", "username": "u", "password": password}}
        system.do(*join("d", site="north"), deploy("old", content, "tags.site = 'north'"))
        system.settle()
        then = vector(system, 0).rpartition(",")[0]
        system.do(
            deploy("new", base("two"), "*", 5), PatchTags("d", {"site": None}), DeleteDeployment("old"), *join("e")
        )
        system.settle()

        assert "it runs new" in twinfold("device", "effective", "d")
        assert "it runs old" in twinfold("device", "effective", "d", "--at", then)
        assert "tags.site" in twinfold("device", "show", "d", "--at", then)
        assert twinfold("device", "list", "--at", then) == "d\n"
        assert [one["id"] for one in json.loads(twinfold("deployment", "list", "--json", "--at", then))] == ["old"]
        assert "is in the future" in twinfold("device", "list", "--at", "fleet:9999", code=1)
        assert "runs old" in twinfold("explain", "d", "--at", then)

        told = twinfold("diff", "--from", then, "--device", "d")
        assert told.startswith("device d, from 20")
        assert "(fleet:2)" in told.splitlines()[0]
        assert told.index('- tags.site: "north"') < told.index("+ modules/$edgeAgent.modules.two")
        assert "DeploymentDeleted" in told
        assert "by user:ada" in told
        assert "***" in told
        assert "not-to-be-seen" not in told
        fleet = twinfold("diff", "--from", then)
        assert "- deployment old" in fleet
        assert "+ registered: 1 device: e" in fleet
        assert "~ old -> new: 1 device: d" in fleet
        gone = json.loads(twinfold("diff", "--from", then, "--deployment", "old", "--json"))
        assert gone["devices"]["actual"]["lost"] == {"count": 1, "devices": ["d"]}
        assert "cannot both be set" in twinfold("diff", "--from", then, "--device", "d", "--deployment", "old", code=1)
