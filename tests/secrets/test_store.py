"""One contract for the store of secrets, over fakeredis and a real server."""

from collections.abc import Iterator

import fakeredis
import pytest
from redis import Redis

from events.secrets.errors import SecretErased, SecretExists, SecretNotFound, SecretsUnavailable
from events.secrets.redis import KEY as REDIS_KEY
from events.secrets.redis import RedisSecretStore
from events.secrets.sealed_secret import Erased, seal
from services.embedded_redis import EmbeddedRedis
from tests.secrets.samples import KEY, PASSWORD, TOKEN
from tests.servers import BACKENDS, flush

S1, S2 = seal(PASSWORD, "s1", KEY), seal(TOKEN, "s2", KEY)


@pytest.fixture(params=[name for name in BACKENDS if name != "memory"])
def store(request: pytest.FixtureRequest) -> Iterator[RedisSecretStore]:
    match request.param:
        case "fakeredis":
            yield RedisSecretStore(fakeredis.FakeRedis())
        case name:
            server: EmbeddedRedis = request.getfixturevalue(name)
            client = Redis.from_url(server.url)
            flush(client)
            yield RedisSecretStore(client)
            client.close()


def test_what_is_put_is_there(store: RedisSecretStore) -> None:
    store.put_many({"s1": S1, "s2": S2})
    assert store.sealed(["s2", "s1"]) == {"s1": S1, "s2": S2}
    assert store.sealed({"s1"}) == {"s1": S1}
    assert sorted(store.ids()) == ["s1", "s2"]


def test_nothing_is_put_and_nothing_is_asked_for(store: RedisSecretStore) -> None:
    store.put_many({})
    assert store.sealed([]) == {}
    assert list(store.ids()) == []


def test_a_secret_that_never_was_is_not_found(store: RedisSecretStore) -> None:
    store.put_many({"s1": S1})
    with pytest.raises(SecretNotFound) as refused:
        store.sealed(["s1", "s2"])
    assert refused.value.secret_id == "s2"
    with pytest.raises(SecretNotFound) as refused:
        store.destroy("s2")
    assert refused.value.secret_id == "s2"


def test_what_is_left_tells_what_was_erased_from_what_never_was(store: RedisSecretStore) -> None:
    store.put_many({"s1": S1, "s2": S2})
    store.destroy("s1")
    assert store.left(["s1", "s2", "s3"]) == {"s1": Erased(), "s2": S2}
    assert store.left([]) == {}


def test_putting_the_very_same_again_changes_nothing(store: RedisSecretStore) -> None:
    store.put_many({"s1": S1})
    store.put_many({"s1": S1, "s2": S2})
    assert store.sealed(["s1", "s2"]) == {"s1": S1, "s2": S2}


def test_a_taken_id_keeps_what_it_has(store: RedisSecretStore) -> None:
    store.put_many({"s1": S1})
    with pytest.raises(SecretExists, match="s1"):
        store.put_many({"s1": seal(TOKEN, "s1", KEY)})
    assert store.sealed(["s1"]) == {"s1": S1}


def test_an_erased_secret_stays_erased(store: RedisSecretStore) -> None:
    store.put_many({"s1": S1, "s2": S2})
    store.destroy("s1")
    store.destroy("s1")
    with pytest.raises(SecretErased, match="s1"):
        store.sealed(["s1"])
    with pytest.raises(SecretExists):
        store.put_many({"s1": S1})
    with pytest.raises(SecretErased):
        store.sealed(["s1"])
    assert list(store.ids()) == ["s2"]


def test_nothing_is_left_of_an_erased_secret_in_redis() -> None:
    client = fakeredis.FakeRedis()
    store = RedisSecretStore(client)
    store.put_many({"s1": S1})
    store.destroy("s1")
    assert client.hgetall(REDIS_KEY) == {b"s1": b'{"type":"Erased"}'}


def test_secrets_lie_in_the_slot_of_the_fleets_log() -> None:
    assert REDIS_KEY.startswith("{fleet}:")


def test_a_server_that_is_away_is_not_now() -> None:
    server = fakeredis.FakeServer()
    store = RedisSecretStore(fakeredis.FakeRedis(server=server))
    server.connected = False
    for ask in (
        lambda: store.put_many({"s1": S1}),
        lambda: store.sealed(["s1"]),
        lambda: store.destroy("s1"),
        lambda: list(store.ids()),
    ):
        with pytest.raises(SecretsUnavailable, match="retrying is safe"):
            ask()
