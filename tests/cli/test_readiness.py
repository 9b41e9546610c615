"""`twinfold readiness` and `twinfold waiver`, as an operator types them."""

import json
import sys
from pathlib import Path

import pytest

from events import RegisterDevice
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import served
from tests.projection_store.test_readiness import privileged
from tests.workers.system import base, deploy, join

pytestmark = [pytest.mark.redis_server, pytest.mark.full]


def test_an_operator_looks_at_the_fleet_waives_and_looks_again(shared_redis: EmbeddedRedis, tmp_path: Path) -> None:
    with served(shared_redis) as (system, http):

        def twinfold(*arguments: str, code: int = 0) -> str:
            command = [sys.executable, "-m", "services.cli", *arguments, "--api-url", str(http.base_url)]
            ran = waiting.run(command)
            assert ran.returncode == code, ran.stdout + ran.stderr
            return ran.stdout + ran.stderr

        system.do(*join("d1"), *join("d2"), RegisterDevice("leaf", edge=False), deploy("base", base("m"), "*", 1))
        manifest = tmp_path / "open.json"
        manifest.write_text(json.dumps(privileged("press")))
        created = twinfold("deployment", "create", "open", str(manifest), "--condition", "*", "--priority", "5")
        assert created.startswith("open is created; it targets ")
        assert "warning: " in created
        assert "privileged (1)" in created
        system.settle()

        score = twinfold("readiness")
        assert "3 devices, production" in score
        assert "│ privileged " in score
        assert "66.7%" in score
        assert "ea-missing" not in score
        listed = set(twinfold("readiness", "--rule", "privileged").split())
        assert listed == {"d1", "d2"}
        assert twinfold("readiness", "--rule", "ea-missing") == "no device has a finding of ea-missing\n"
        assert json.loads(twinfold("readiness", "--json"))["devices"] == 3
        assert "no rule 'nonsense'" in twinfold("readiness", "--rule", "nonsense", code=1)
        assert "not both" in twinfold("readiness", "d1", "--rule", "privileged", code=2)

        terms = ("--reason", "until [its] next release", "--until", "2999-12-31")
        assert twinfold("waiver", "grant", "press", "privileged", *terms, "--deployment", "open") == (
            "press is granted until 2999-12-31\n"
        )
        twinfold("waiver", "grant", "old", "log-config", "--reason", "once", "--until", "2020-01-01")
        assert "until [its] next release" in twinfold("waiver", "list")
        assert "2020-01-01 (expired)" in twinfold("waiver", "list")
        assert twinfold("readiness", "--rule", "privileged") == "no device has a finding of privileged\n"
        assert set(twinfold("readiness", "--rule", "privileged", "--waived").split()) == {"d1", "d2"}
        report = twinfold("readiness", "d1")
        assert "d1, production" in report
        assert "waived" in report
        assert "expired: waiver old for log-config, by user:anybody until 2020-01-01: once" in report
        told = json.loads(twinfold("readiness", "d1", "--json"))
        assert [one["waiver"]["id"] for one in told["waived"]] == ["press"]
        assert twinfold("waiver", "withdraw", "press") == "press is withdrawn\n"
        assert "there is no waiver 'press'" in twinfold("waiver", "withdraw", "press", code=1)
        assert "no rule" in twinfold("waiver", "grant", "press", "nonsense", *terms, code=1)
