"""compose.cluster.yaml, as far as a machine without containers can tell: its structure, and its commands on a real cluster."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import free_port
from tests.redis_cluster import SLOTS, Cluster
from tests.repo.test_compose import SERVICES as SERVICES_OF_ONE
from tests.repo.test_compose import running
from tests.repo.tree import ROOT, text
from tests.servers import eventually

COMPOSE: dict[str, Any] = yaml.safe_load(text(Path("compose.cluster.yaml")))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = {name: service for name, service in SERVICES.items() if name.startswith(("master-", "replica-"))}
ROLES = ("api", "worker", "scheduler")


def flags_of(service: dict[str, Any]) -> dict[str, str]:
    _, *words = service["command"]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_there_are_three_masters_with_a_replica_each_that_keep_what_they_acknowledge() -> None:
    assert sorted(NODES) == [f"{role}-{number}" for role in ("master", "replica") for number in (1, 2, 3)]
    for name, node in NODES.items():
        flags = flags_of(node)
        assert (flags["--appendonly"], flags["--appendfsync"]) == ("yes", "always")
        assert (flags["--maxmemory-policy"], flags["--cluster-enabled"]) == ("noeviction", "yes")
        assert node["volumes"] == [f"{name}:/data"]
        assert name in COMPOSE["volumes"]


def test_addresses_are_those_of_the_servers() -> None:
    addresses = {name: node["networks"]["cluster"]["ipv4_address"] for name, node in NODES.items()}
    assert len(set(addresses.values())) == len(addresses)
    masters = [f"{addresses[f'master-{number}']}:6379" for number in (1, 2, 3)]
    replicas = [f"{addresses[f'replica-{number}']}:6379" for number in (1, 2, 3)]
    assert re.findall(r"[\d.]+:6379", SERVICES["form"]["command"][2]) == masters + replicas
    for name in (*ROLES, "init"):
        environment = SERVICES[name]["environment"]
        assert environment["TWINFOLD_REDIS_URL"] == "redis+cluster://" + ",".join(masters)
        assert environment["TWINFOLD_QUEUE_URL"] == "redis://queue:6379/0"


def test_what_lasts_is_looked_after_and_one_port_is_published_on_this_machine() -> None:
    for name in (*NODES, "queue", *ROLES):
        assert SERVICES[name]["restart"] == "unless-stopped"
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "api": ["127.0.0.1:8080:8080"]
    }


def test_who_is_waited_for_is_there() -> None:
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            assert name in SERVICES
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]


@pytest.mark.parametrize("name", ROLES)
def test_a_role_is_what_it_is_on_one_server(name: str) -> None:
    of_one, role = dict(SERVICES_OF_ONE[name]), dict(SERVICES[name])
    for service in (of_one, role):
        for member in ("environment", "networks", "depends_on"):
            service.pop(member, None)
    assert role == of_one
    own = {**SERVICES_OF_ONE[name]["environment"], "TWINFOLD_REDIS_URL": "", "TWINFOLD_QUEUE_URL": ""}
    assert {**SERVICES[name]["environment"], "TWINFOLD_REDIS_URL": "", "TWINFOLD_QUEUE_URL": ""} == own


@pytest.mark.redis_server
@pytest.mark.full
@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_the_cluster_is_formed_and_the_roles_run_on_it(shared_redis: EmbeddedRedis, tmp_path: Path) -> None:
    port, beat = free_port(), tmp_path / "heartbeat"
    with contextlib.ExitStack() as stack:
        words = [word for flag in flags_of(NODES["master-1"]).items() for word in flag]
        nodes = Cluster(stack, flags=words)
        nodes.masters = [nodes.launch() for _ in NODES]
        _, _, script = SERVICES["form"]["command"]
        for server, node in zip(nodes.masters, NODES.values(), strict=True):
            address = node["networks"]["cluster"]["ipv4_address"]
            script = script.replace(f"-h {address}", f"-h 127.0.0.1 -p {server.port}")
            script = script.replace(f"{address}:6379", f"127.0.0.1:{server.port}")
        script = script.replace("valkey-cli", "redis-cli")
        for _ in range(2):  # `up` runs it again at each start.
            formed = waiting.run(["sh", "-ec", script])
            assert formed.returncode == 0, formed.stdout + formed.stderr
        nodes.masters, nodes.replicas = nodes.masters[:3], nodes.masters[3:]
        eventually(lambda: [server.role() for server in nodes.replicas] == ["slave"] * 3, what="replicas follow")
        assert sum(nodes.slots(master) for master in nodes.masters) == SLOTS
        keys = SERVICES["api"]["environment"]["TWINFOLD_DATA_DIR"]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TWINFOLD_")},
            **{
                name: str(value).replace(keys, str(tmp_path / "keys"))
                for role in ROLES
                for name, value in SERVICES[role]["environment"].items()
            },
            "TWINFOLD_REDIS_URL": nodes.url,
            "TWINFOLD_QUEUE_URL": shared_redis.url,
            "TWINFOLD_ARCHIVE_URL": str(tmp_path / "archive"),
            "TWINFOLD_HOST": "127.0.0.1",
            "TWINFOLD_PORT": str(port),
            "TWINFOLD_HEARTBEAT_FILE": str(beat),
        }

        def command(name: str) -> list[str]:
            return [sys.executable, "-m", "services.cli", *SERVICES[name]["command"]]

        def healthy(name: str) -> bool:
            _, _, *arguments = SERVICES[name]["healthcheck"]["test"]
            arguments = [
                word.replace("8080", str(port))
                .replace(SERVICES["worker"]["environment"]["TWINFOLD_HEARTBEAT_FILE"], str(beat))
                .replace(keys, str(tmp_path / "keys"))
                for word in arguments
            ]
            return waiting.run([sys.executable, *arguments], env=environment, text=False).returncode == 0

        for _ in range(2):
            made = waiting.run(command("init"), env=environment, cwd=tmp_path)
            assert made.returncode == 0, made.stderr
        for name in ROLES:
            stack.enter_context(running(command(name), environment, tmp_path))
            eventually(lambda name=name: healthy(name), what=f"{name} is healthy")


@pytest.mark.skipif(
    waiting.run(["docker", "compose", "version"], text=False).returncode != 0 if shutil.which("docker") else True,
    reason="docker compose is not installed",
)
def test_docker_compose_reads_it() -> None:
    ran: subprocess.CompletedProcess[str] = waiting.run(
        ["docker", "compose", "-f", "compose.cluster.yaml", "config", "-q"], cwd=ROOT
    )
    assert (ran.returncode, ran.stderr) == (0, "")
