from typing import Any

import msgspec
import pytest
from typing_extensions import override

from events import canonical
from events.canonical import encode
from events.deployment.commands import CreateDeployment, DeleteDeployment
from events.deployment.decider import check, decide
from events.deployment.state import evolve
from events.envelope import Principal
from events.log.keys import FLEET
from events.log.memory import MemoryLog
from events.producer.producer import Producer
from events.secrets.errors import (
    KeyFileWrong,
    SecretErased,
    SecretNotFound,
    SecretsUnavailable,
    SecretTampered,
    SecretTextInvalid,
)
from events.secrets.redis import KEY as KEY_OF_SECRETS
from events.secrets.references import references
from events.secrets.vault import Vault
from tests.manifest.contents import agent, content, module
from tests.secrets.samples import (
    KEY,
    OTHER_KEY,
    PASSWORD,
    TOKEN,
    FakeSecretStore,
    marked,
    numbered,
    registry,
    runtime,
    with_password,
    with_variable,
)


class AwayStore(FakeSecretStore):
    """A store that answers no more."""

    @override
    def put_many(self, sealed: Any) -> None:
        raise SecretsUnavailable(f"away with {len(sealed)}")


def vault(store: FakeSecretStore | None = None, key: Any = KEY) -> Vault:
    return Vault(FakeSecretStore() if store is None else store, key, new_id=numbered())


def create(given: Any = None) -> CreateDeployment:
    both = content(agent=agent(runtime=runtime(), modules={"temp": module(env={"TOKEN": {"value": marked()}})}))
    return CreateDeployment("base", both if given is None else given)


def test_secrets_are_in_the_store_before_the_command_goes_on() -> None:
    store = FakeSecretStore()
    command = vault(store).take_out(create())
    assert references(command.content) == set(store.ids()) == {"s1", "s2"}


def test_a_command_goes_on_with_all_else_unchanged() -> None:
    before = msgspec.structs.replace(create(), target_condition="*", priority=5, labels={"a": "b"})
    after = vault().take_out(before)
    assert msgspec.structs.replace(after, content=before.content) == before
    check(after)


def test_commands_without_secrets_store_nothing() -> None:
    store = FakeSecretStore()
    deleted = DeleteDeployment("base")
    assert vault(store).take_out(deleted) is deleted
    assert vault(store).take_out(create(content())) == create(content())
    assert list(store.ids()) == []


def test_no_secret_stands_in_an_event_a_snapshot_a_projection_or_a_representation() -> None:
    store = FakeSecretStore()
    command = vault(store).take_out(create())
    event = decide(command, None)
    document = evolve(None, event, version=1, at=1)
    assert document is not None
    stored = repr(store.redis.hgetall(KEY_OF_SECRETS)).encode()
    written = repr((command, event, document, store)).encode()
    for text in (PASSWORD.encode(), TOKEN.encode()):
        assert text not in canonical.encode(event) + encode(document) + stored + written


def test_what_was_taken_out_is_revealed_in_its_place() -> None:
    one = vault()
    command = one.take_out(create())
    revealed = one.reveal(command.content)["modulesContent"]["$edgeAgent"]["properties.desired"]
    assert revealed["runtime"] == runtime(PASSWORD)
    assert revealed["modules"]["temp"]["env"] == {"TOKEN": {"value": TOKEN}}


def test_a_value_without_references_is_revealed_as_it_is() -> None:
    assert vault(AwayStore()).reveal({"a": [1]}) == {"a": [1]}


def test_a_repeated_command_gets_new_ids_and_the_same_secrets() -> None:
    store = FakeSecretStore()
    one = vault(store)
    first, second = one.take_out(create()), one.take_out(create())
    assert references(first.content).isdisjoint(references(second.content))
    assert one.reveal(first.content) == one.reveal(second.content)


def test_a_content_that_brings_its_references_along_keeps_them() -> None:
    store = FakeSecretStore()
    one = vault(store)
    former = one.take_out(create())
    assert one.take_out(create(former.content)) == create(former.content)
    assert len(list(store.ids())) == 2


def test_a_reference_to_nothing_is_refused_before_anything_is_stored() -> None:
    store = FakeSecretStore()
    credentials = {"old": registry({"$secret": "gone"}), "new": registry()}
    broken = content(agent=agent(runtime={"type": "docker", "settings": {"registryCredentials": credentials}}))
    with pytest.raises(SecretNotFound) as refused:
        vault(store).take_out(create(broken))
    assert refused.value.secret_id == "gone"
    assert list(store.ids()) == []


def test_what_is_refused_is_not_stored() -> None:
    store = FakeSecretStore()
    for wrong in (with_password(5), with_variable(marked(5))):
        with pytest.raises(SecretTextInvalid):
            vault(store).take_out(create(wrong))
    assert list(store.ids()) == []


def test_a_command_does_not_go_on_when_its_secrets_could_not_be_stored() -> None:
    with pytest.raises(SecretsUnavailable):
        vault(AwayStore()).take_out(create())


def test_an_erased_secret_is_revealed_no_more_and_the_events_stay_as_they_are() -> None:
    store = FakeSecretStore()
    first_vault = vault(store)
    command = first_vault.take_out(create())
    before = canonical.encode(decide(command, None))
    store.destroy("s1")
    store.destroy("s1")
    with pytest.raises(SecretErased, match="s1"):
        first_vault.reveal(command.content)
    with pytest.raises(SecretErased, match="s1"):
        first_vault.take_out(create(command.content))
    assert first_vault.reveal({"$secret": "s2"}) in {PASSWORD, TOKEN}
    assert canonical.encode(decide(command, None)) == before
    with pytest.raises(SecretNotFound) as refused:
        store.destroy("s9")
    assert refused.value.secret_id == "s9"


def test_what_is_left_is_revealed_with_something_else_for_what_was_erased_and_nothing_for_what_never_was() -> None:
    store = FakeSecretStore()
    first_vault = vault(store)
    first_vault.take_out(create())
    store.destroy("s1")
    left = first_vault.reveal_left([{"$secret": "s1"}, {"$secret": "s2"}, "a"], instead=None)
    assert left in ([None, PASSWORD, "a"], [None, TOKEN, "a"])
    with pytest.raises(SecretNotFound) as refused:
        first_vault.reveal_left([{"$secret": "s1"}, {"$secret": "s9"}], instead=None)
    assert refused.value.secret_id == "s9"


def test_another_key_file_reveals_nothing() -> None:
    store = FakeSecretStore()
    command = vault(store).take_out(create())
    with pytest.raises(KeyFileWrong, match=f"{KEY.id}.*{OTHER_KEY.id}"):
        vault(store, OTHER_KEY).reveal(command.content)


def test_secrets_that_were_exchanged_in_the_store_do_not_open() -> None:
    store = FakeSecretStore()
    one = vault(store)
    command = one.take_out(create())
    sealed = store.sealed(["s1", "s2"])
    store.redis.hset(KEY_OF_SECRETS, "s1", encode(sealed["s2"]))
    with pytest.raises(SecretTampered, match="s1"):
        one.reveal(command.content)


def test_a_producer_with_a_vault_writes_no_secret_into_its_log() -> None:
    log, one = MemoryLog(partitions=1), vault()
    producer = Producer(log, by=Principal.parse("user:ada"), take_secrets=one.take_out)
    producer.do(create(with_password()))
    (_, envelope) = log.read(FLEET, after=0, limit=10)
    snapshot = log.load(["base"], fleet=True)[0].snapshot
    assert snapshot is not None
    assert PASSWORD.encode() not in canonical.encode(envelope.event) + snapshot
    assert one.reveal(msgspec.json.decode(snapshot)["content"]) == with_password()
