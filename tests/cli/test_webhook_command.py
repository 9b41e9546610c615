"""`twinfold webhook`, as an operator types it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.webhook.receiver import receiver
from tests.webhook.serving import Notifying, notifying
from tests.workers.system import join

pytestmark = [pytest.mark.redis_server, pytest.mark.full]


@pytest.fixture
def serving(shared_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Notifying]:
    with notifying(shared_redis, tmp_path) as both:
        yield both


def test_an_operator_adds_tests_looks_pauses_and_removes(serving: Notifying) -> None:
    def twinfold(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "services.cli", "webhook", *arguments, "--api-url", str(serving.http.base_url)]
        ran = waiting.run(command)
        assert ran.returncode == code, ran.stderr
        return ran.stdout + ran.stderr

    with receiver() as hook:
        secret = twinfold("add", "siem", hook.url + "?s=3cret", "--kind", "DeviceRegistered").strip()
        assert secret.startswith("whsec_")
        assert twinfold("add", "siem", hook.url + "?s=3cret") == "siem is changed; its secret stays\n"
        assert "siem accepted the event: 200" in twinfold("test", "siem")
        assert hook.received[0].is_signed_with(secret)
        assert hook.received[0].event["type"] == "twinfold.Test"
        hook.answer = lambda _one: 500
        assert "siem did not accept the event: 500" in twinfold("test", "siem", code=1)
        hook.answer = lambda _one: 200
        assert json.loads(twinfold("show", "siem"))["url"] == hook.url + "?***"
        twinfold("pause", "siem", "--why", "moving")
        assert "paused: moving" in twinfold("list")
        assert twinfold("resume", "siem") == "siem is resumed\n"
        with serving.pool():
            serving.system.do(*join("d"))
            serving.settle()
        assert json.loads(twinfold("list", "--json"))[0]["lag"] == 0
        told = json.loads(twinfold("deliveries", "siem", "--json"))
        assert [one["status"] for one in told] == [200] * len(told)
        assert "200" in twinfold("deliveries", "siem", "--limit", "3")
        assert twinfold("remove", "siem") == "siem is removed\n"
        assert "there is no webhook 'siem'" in twinfold("show", "siem", code=1)
        assert "not a public address" in twinfold("add", "x", "https://169.254.169.254/", code=1)
        assert "3cret" not in twinfold("list")
