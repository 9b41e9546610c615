"""Settings come from flags, then the environment, then defaults, and never tell a password."""

import os
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.readiness.profile import PROFILES
from events.settings import Settings, SettingsInvalid, environment_of, hide_password, read_settings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("TWINFOLD_"):
            monkeypatch.delenv(name)


def test_defaults_are_a_redis_on_this_machine() -> None:
    read = read_settings()
    assert read.redis_url == "redis://127.0.0.1:6379/0"
    assert read.effective_queue_url == read.redis_url
    assert read.effective_key_file == read.data_dir / "master.key"
    assert not read.allow_volatile_redis


def test_a_variable_goes_before_the_default_and_a_flag_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINFOLD_WORKERS", "3")
    monkeypatch.setenv("TWINFOLD_QUEUE_URL", "redis://queue:6379/1")
    assert read_settings().workers == 3
    assert read_settings(workers=4).workers == 4
    assert read_settings(workers=None).workers == 3
    assert read_settings().effective_queue_url == "redis://queue:6379/1"


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINFOLD_QUEUE_URL", "")
    assert read_settings().queue_url is None


def test_settings_do_not_change_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_settings().workers = 5  # type: ignore[misc]


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert read_settings(data_dir="~/fleet").effective_key_file == Path("/somewhere/fleet/master.key")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TWINFOLD_WORKERS", "many"),
        ("TWINFOLD_WORKERS", "0"),
        ("TWINFOLD_LOG_LEVEL", "loud"),
        ("TWINFOLD_ALLOW_VOLATILE_REDIS", "perhaps"),
        ("TWINFOLD_REDIS_URL", "http://127.0.0.1"),
        ("TWINFOLD_REDIS_URL", "127.0.0.1:6379"),
        ("TWINFOLD_REDIS_URL", "redis://"),
        ("TWINFOLD_QUEUE_URL", "redis://host:notaport/0"),
        ("TWINFOLD_QUEUE_URL", "unix://"),
        ("TWINFOLD_MEMORY_BUDGET_MIB", "-1"),
        ("TWINFOLD_WORK_SECONDS_MAX", "3600"),
        ("TWINFOLD_REDIS_URL", "redis+cluster://node"),
        ("TWINFOLD_REDIS_URL", "redis+cluster://node:7000,other:port"),
        ("TWINFOLD_QUEUE_URL", "redis+cluster://node:7000"),
        ("TWINFOLD_HOST", "0.0.0.0"),  # noqa: S104 - refused
        ("TWINFOLD_TLS", "on"),
        ("TWINFOLD_TLS_KEY", "/key.pem"),
        ("TWINFOLD_TLS_CERTIFICATE", "/certificate.pem"),
        ("TWINFOLD_NAMES", "edge.example,not a name"),
        ("TWINFOLD_API_URL", "ftp://somewhere"),
        ("TWINFOLD_WEBHOOK_PRIVATE_TARGETS", "10.0.0.1/8"),
        ("TWINFOLD_WEBHOOK_PRIVATE_TARGETS", "10.0.0.0/8,all"),
        ("TWINFOLD_WEBHOOK_TIMEOUT_SECONDS", "60"),
        ("TWINFOLD_WEBHOOK_FAILING_HOURS_MAX", "0"),
        ("TWINFOLD_STREAM_HEARTBEAT_SECONDS", "0"),
    ],
)
def test_a_bad_value_is_refused_by_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsInvalid, match=variable) as refused:
        read_settings()
    assert refused.value.variable == variable


def test_beyond_this_machine_there_is_tls_and_no_open_access() -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - not listened on
    assert read_settings(host=everywhere, tls="local").has_tls
    assert read_settings(host=everywhere, tls_certificate="/c.pem", tls_key="/k.pem").has_tls
    assert read_settings(open_access=True).host == "127.0.0.1"
    with pytest.raises(SettingsInvalid, match="OPEN_ACCESS, which needs no keys"):
        read_settings(host=everywhere, tls="local", open_access=True)


def test_several_bad_values_are_named_together() -> None:
    with pytest.raises(SettingsInvalid, match=r"(?s)TWINFOLD_REDIS_URL.*TWINFOLD_WORKERS"):
        read_settings(workers=0, redis_url="nowhere")


def test_a_flag_that_is_no_setting_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="TWINFOLD_COLOUR"):
        read_settings(colour="red")


def test_another_process_reads_the_same_settings_from_their_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_settings(workers=5, queue_url="redis://queue/1", allow_volatile_redis=True, data_dir="/data")
    for name, value in environment_of(read).items():
        monkeypatch.setenv(name, value)
    assert read_settings() == read


@pytest.mark.parametrize("url", ["http://:{}@host", "redis://:{}@host:port/0", "redis://u:{}@[::1/0", "{}"])
def test_a_refused_url_takes_its_password_into_no_traceback(url: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        read_settings(redis_url=url.format(SECRET))
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_settings_can_be_shown_without_a_password() -> None:
    read = read_settings(redis_url=f"redis://:{SECRET}@host:6379/0", queue_url=f"redis://:{SECRET}@host:6379/1")
    assert SECRET not in repr(read)
    assert SECRET not in str(read)
    assert SECRET not in repr(read_settings(token=SECRET))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://user@host:6379/0", "redis://user@host:6379/0"),
        ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:hunter2@host/0", "rediss://user:***@host/0"),
        ("redis://user:hunter2/with@and:in@host/0", "redis://user:***@host/0"),
        ("redis://host/0?password=hunter2&db=1", "redis://host/0?password=***&db=1"),
        ("unix://user:hunter2@/run/redis.sock", "unix://user:***@/run/redis.sock"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert hide_password(url) == shown


@settings(derandomize=True, max_examples=200)
@given(
    user=st.text(st.characters(exclude_characters=":@/?#", codec="utf-8"), max_size=4),
    password=st.text(st.characters(codec="utf-8"), max_size=8),
)
def test_no_password_shows_whatever_characters_it_is_made_of(user: str, password: str) -> None:
    assert hide_password(f"redis://{user}:{password}@host:6379/0") == f"redis://{user}:***@host:6379/0"


def test_a_log_on_a_cluster_needs_a_queue_elsewhere() -> None:
    settings = read_settings(redis_url="redis+cluster://a:7000,user:pass@b:7001")
    with pytest.raises(SettingsInvalid, match="TWINFOLD_QUEUE_URL"):
        assert settings.effective_queue_url
    named = read_settings(redis_url="redis+cluster://u:p@a:7000,b:7001", queue_url="redis://c:6379")
    assert named.effective_queue_url == "redis://c:6379"
    assert hide_password(named.redis_url) == "redis+cluster://u:***@a:7000,b:7001"


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    name=st.sampled_from(sorted(Settings.model_fields)),
    value=st.text(max_size=30)
    | st.integers()
    | st.none()
    | st.lists(st.text(max_size=3), max_size=2)
    | st.text(max_size=20).map("redis://{}".format)
    | st.text(max_size=20).map("redis+cluster://{}".format),
)
def test_any_value_of_any_setting_is_taken_or_refused_by_its_name(name: str, value: object) -> None:
    try:
        read_settings(**{name: value})
    except SettingsInvalid as error:
        assert error.variable == f"TWINFOLD_{name}".upper()  # noqa: PT017 - either is right


def test_the_profiles_of_the_setting_are_those_there_are() -> None:
    for name in PROFILES:
        assert read_settings(readiness_profile=name).readiness_profile == name
    with pytest.raises(SettingsInvalid, match="TWINFOLD_READINESS_PROFILE"):
        read_settings(readiness_profile="staging")
