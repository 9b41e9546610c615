"""compose.yaml, as far as a machine without containers can tell: its structure, and the image's commands on real parts."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from events.settings import read_settings
from services.embedded_redis import find_server
from tests import waiting
from tests.api.serving import free_port
from tests.repo.tree import ROOT, text
from tests.servers import eventually

COMPOSE: dict[str, Any] = yaml.safe_load(text(Path("compose.yaml")))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LASTING = ("redis", "api", "worker", "scheduler")


def test_redis_keeps_what_it_acknowledges() -> None:
    command = shlex.join(SERVICES["redis"]["command"])
    for words in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert words in command
    (volume,) = SERVICES["redis"]["volumes"]
    name, _, location = volume.partition(":")
    assert (name in COMPOSE["volumes"], location) == (True, "/data")


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_looked_after(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_secrets_outlive_a_container() -> None:
    key_file = Path(SERVICES["api"]["environment"]["TWINFOLD_KEY_FILE"])
    assert f"keys:{key_file.parent}" in SERVICES["api"]["volumes"]
    assert Path(SERVICES["api"]["environment"]["TWINFOLD_DATA_DIR"]) == key_file.parent
    assert "keys" in COMPOSE["volumes"]


def test_seals_are_signed_by_a_key_that_outlives_a_container_and_kept_in_the_archive() -> None:
    scheduler = SERVICES["scheduler"]
    assert Path(scheduler["environment"]["TWINFOLD_SEAL_KEY_FILE"]).parent == Path("/var/lib/twinfold/keys")
    assert {"keys:/var/lib/twinfold/keys", "archive:/var/lib/twinfold/archive"} <= set(scheduler["volumes"])


def test_workers_can_be_many_and_nobody_listens_to_the_world() -> None:
    assert {"container_name", "ports"}.isdisjoint(SERVICES["worker"])
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:8080:8080"]}


def test_what_is_published_asks_who_it_is_over_tls() -> None:
    environment = SERVICES["api"]["environment"]
    assert environment["TWINFOLD_TLS"] == "local"
    assert "TWINFOLD_OPEN_ACCESS" not in environment


def test_who_is_waited_for_is_there() -> None:
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            assert name in SERVICES
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]


def instructions() -> list[tuple[str, str]]:
    lines = SERVICES["api"]["build"]["dockerfile_inline"].splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def test_one_image_for_all_roles() -> None:
    roles = [service for name, service in SERVICES.items() if name != "redis"]
    assert len({(service["image"], yaml.dump(service["build"])) for service in roles}) == 1
    assert instructions()[-1] == ("ENTRYPOINT", '["twinfold"]')
    assert [what for verb, what in instructions() if verb == "USER"] == ["twinfold"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as the image has it: built from what the image copies, and from nothing else."""
    context, installed = tmp_path_factory.mktemp("context"), tmp_path_factory.mktemp("image")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for _, words in (one for one in instructions() if one[0] == "COPY"):
        *sources, target = words.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, context / target, ignore=ignored)
            else:
                shutil.copy(ROOT / source, context / target)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    waiting.run([*pip, "--target", str(installed), str(context)], check=True, seconds_max=120, text=False)
    return installed


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], location: Path) -> Iterator[subprocess.Popen[bytes]]:
    with waiting.started(command, env=environment, cwd=location, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.redis_server
@pytest.mark.full
def test_the_commands_of_the_image_run_and_their_health_checks_hold(image: Path, tmp_path: Path) -> None:
    port, api_port, beat = free_port(), free_port(), tmp_path / "heartbeat"
    server, *arguments = SERVICES["redis"]["command"]
    assert server == "redis-server"
    redis = [str(find_server(read_settings().redis_server)), "--port", str(port), *arguments]
    keys = SERVICES["api"]["environment"]["TWINFOLD_DATA_DIR"]
    told = {
        name: str(value).replace(keys, str(tmp_path / "keys")) for name, value in SERVICES["api"]["environment"].items()
    }
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TWINFOLD_")},
        **told,
        "PYTHONPATH": str(image),
        "TWINFOLD_REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "TWINFOLD_HOST": "127.0.0.1",
        "TWINFOLD_PORT": str(api_port),
        "TWINFOLD_HEARTBEAT_FILE": str(beat),
    }
    assert SERVICES["api"]["environment"]["TWINFOLD_REDIS_URL"] == "redis://redis:6379/0"

    def command(name: str) -> list[str]:
        return [sys.executable, "-m", "services.cli", *SERVICES[name]["command"]]

    def healthy(name: str) -> bool:
        _, program, *rest = SERVICES[name]["healthcheck"]["test"]
        assert program == "python"
        rest = [
            word.replace("8080", str(api_port))
            .replace(SERVICES["worker"]["environment"]["TWINFOLD_HEARTBEAT_FILE"], str(beat))
            .replace(keys, str(tmp_path / "keys"))
            for word in rest
        ]
        ran = waiting.run([sys.executable, *rest], env=environment, text=False)
        return ran.returncode == 0

    with running(redis, environment, tmp_path):
        init = command("init")
        eventually(
            lambda: waiting.run(init, env=environment, cwd=tmp_path, text=False).returncode == 0,
            what="init succeeds once redis answers",
        )
        with running(command("scheduler"), environment, tmp_path):
            eventually(lambda: healthy("scheduler"), what="the scheduler is healthy")
        beat.unlink()
        with running(command("worker"), environment, tmp_path), running(command("api"), environment, tmp_path):
            eventually(lambda: healthy("api"), what="the API is healthy")
            eventually(lambda: healthy("worker"), what="the worker is healthy")
            os.utime(beat, (0, 0))
            eventually(lambda: healthy("worker"), what="its heart goes on beating")
        os.utime(beat, (0, 0))
        assert not healthy("worker")
        assert not healthy("api")


@pytest.mark.skipif(
    waiting.run(["docker", "compose", "version"], text=False).returncode != 0 if shutil.which("docker") else True,
    reason="docker compose is not installed",
)
def test_docker_compose_reads_it() -> None:
    ran = waiting.run(["docker", "compose", "config", "-q"], cwd=ROOT)
    assert (ran.returncode, ran.stderr) == (0, "")
