"""What `twinfold` exits with when it cannot do what was asked."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from events.log import errors
from events.manifest.errors import ManifestInvalid
from events.processes.supervised import GivenUp
from events.producer.errors import DecisionInvalid
from events.secrets.errors import SecretNotFound, SecretsUnavailable
from events.settings import SettingsInvalid, read_settings
from services.certificates import CertificateUnusable
from services.cli.exits import EXPECTED, REFUSED, UNAVAILABLE, USAGE, code_of, is_any
from services.demo.manifests import ManifestUnreadable
from services.demo.run import ChildDied
from services.demo.story import DemoStalled
from services.embedded_redis import NoRedisServer, RedisDidNotStart, redis_of
from services.sockets import CannotListen
from tests import waiting

NOBODY_LISTENS = "redis://:hunter2@127.0.0.1:1/0"


def twinfold(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user would, without any other variable of ours."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TWINFOLD_")}
    command = [sys.executable, "-m", "services.cli", *arguments]
    return waiting.run(command, cwd=cwd, env={**clean, **environment})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.LogUnavailable("connection refused"), UNAVAILABLE),
        (errors.LogNotInitialised("redis://host"), UNAVAILABLE),
        (errors.UnsafeRedis("appendonly", "no", "yes"), UNAVAILABLE),
        (errors.LogLostItsTail("p03", expected=8, actual=7), REFUSED),
        (errors.LogOfAnotherVersion(stored=1, supported=2), REFUSED),
        (SettingsInvalid("TWINFOLD_WORKERS", "TWINFOLD_WORKERS: too many"), USAGE),
        (ManifestUnreadable(Path("x.json"), "is no JSON"), USAGE),
        (ManifestInvalid([]), REFUSED),
        (NoRedisServer(), UNAVAILABLE),
        (RedisDidNotStart("no space left"), UNAVAILABLE),
        (CannotListen("port 8080", "is in use", flag="--port"), UNAVAILABLE),
        (CertificateUnusable(Path("server.pem"), "cannot be read"), UNAVAILABLE),
        (GivenUp("api", 1, "no"), UNAVAILABLE),
        (SecretsUnavailable("connection refused"), UNAVAILABLE),
        (SecretNotFound("x"), REFUSED),
        (DecisionInvalid("p03:17", "is no position of this log"), REFUSED),
        (DemoStalled(), REFUSED),
        (ChildDied("workers.pool", 1, "no"), REFUSED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_expected_error_has_its_code(error: Exception, code: int) -> None:
    assert is_any(error, *EXPECTED)
    assert code_of(error) == code


@pytest.mark.parametrize("name", EXPECTED)
def test_every_expected_class_is_named_where_it_is_defined(name: str) -> None:
    module, _, class_name = name.partition(":")
    error_class = getattr(importlib.import_module(module), class_name)
    assert issubclass(error_class, Exception)
    assert error_class.__module__ == module


@pytest.mark.parametrize("command", ["log", "init"])
def test_a_redis_that_does_not_answer_is_one_line_and_code_3(tmp_path: Path, command: str) -> None:
    ran = twinfold(command, "--redis-url", NOBODY_LISTENS, cwd=tmp_path)
    assert ran.returncode == UNAVAILABLE
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1
    assert "hunter2" not in ran.stderr


def test_a_url_that_is_none_is_usage_and_names_the_variable(tmp_path: Path) -> None:
    ran = twinfold("log", "--redis-url", "http://:hunter2@host", cwd=tmp_path)
    assert ran.returncode == USAGE
    assert "TWINFOLD_REDIS_URL" in ran.stderr
    assert "hunter2" not in ran.stderr


def test_a_flag_that_does_not_exist_is_usage(tmp_path: Path) -> None:
    assert twinfold("log", "--colour", cwd=tmp_path).returncode == USAGE


def test_the_version_is_the_distributions(tmp_path: Path) -> None:
    ran = twinfold("--version", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "twinfold 0.1.0\n")


def test_without_a_redis_server_only_a_command_that_takes_another_one_names_its_flag(tmp_path: Path) -> None:
    none = tmp_path / "none"
    with pytest.raises(NoRedisServer, match="--redis-url"):
        redis_of(read_settings(redis_server=none, data_dir=tmp_path)).__enter__()
    ran = twinfold("demo", cwd=tmp_path, TWINFOLD_REDIS_SERVER=str(none))
    assert ran.returncode == UNAVAILABLE
    assert "TWINFOLD_REDIS_SERVER" in ran.stderr
    assert "--redis-url" not in ran.stderr


def test_where_there_is_no_log_the_command_that_makes_one_is_named_as_it_is_called() -> None:
    assert "`twinfold init`" in str(errors.LogNotInitialised("redis://host"))
