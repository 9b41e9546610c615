"""New devices and modules have keys, unless they decline them; keys lie sealed beside the log."""

from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from events import (
    KEYS_DECLINED,
    CreateModule,
    DeviceExists,
    PatchTags,
    Producer,
    RegisterDevice,
    RetireDevice,
    canonical,
)
from events.device.commands import UpdateDevice
from events.device.errors import AuthenticationInvalid
from events.device.state import decode_device
from events.log.memory import MemoryLog
from events.producer.secrecy import LazyVault
from events.secrets.errors import KeyFileOfAnotherLog
from events.secrets.keyfile import KeyFile, read_or_create_key
from events.secrets.vault import Vault
from tests.producer.logs import ADA
from tests.secrets.samples import FakeSecretStore


class CountingStore(FakeSecretStore):
    puts = 0

    @override
    def put_many(self, sealed: Any) -> None:
        self.puts += 1
        super().put_many(sealed)


class Fleet:
    def __init__(self, directory: Path) -> None:
        self.log, self.store, self.key_file = MemoryLog(partitions=4), CountingStore(), directory / "master.key"
        self.vault = LazyVault(self.store, self.key_file)
        self.producer = self.another(self.vault)

    def another(self, vault: LazyVault) -> Producer:
        return Producer(self.log, by=ADA, take_secrets=vault.take_out, new_keys=vault.new_keys)

    def authentication(self, device_id: str) -> Any:
        (stored,) = self.log.load([device_id])
        assert stored.snapshot is not None
        return decode_device(stored.snapshot).authentication

    def keys(self, device_id: str) -> list[str]:
        opened: Any = Vault(self.store, KeyFile(read_or_create_key(self.key_file)), new_id=str).reveal(
            self.authentication(device_id)
        )
        assert opened["type"] == "sas"
        return list(opened["symmetricKey"].values())

    def everything_written(self) -> str:
        entries = [one for number in range(4) for one in self.log.read(number, after=0, limit=1000)]
        return str([canonical.encode(entry.event) for entry in entries]) + str(
            [stored.snapshot for stored in self.log.load(["a", "b"])]
        )


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_each_new_device_has_two_keys_of_its_own_and_none_is_in_the_log(fleet: Fleet) -> None:
    fleet.producer.submit([RegisterDevice("a"), RegisterDevice("b")]).raise_if_refused()
    keys = [*fleet.keys("a"), *fleet.keys("b")]
    assert len(set(keys)) == 4
    assert not any(key in fleet.everything_written() for key in keys)


def test_a_module_has_keys_as_well(fleet: Fleet) -> None:
    fleet.producer.submit([RegisterDevice("a"), CreateModule("a", "m")]).raise_if_refused()
    (stored,) = fleet.log.load(["a"])
    assert stored.snapshot is not None
    assert decode_device(stored.snapshot).modules["m"].authentication["type"] == "sas"  # type: ignore[index]


def test_keys_that_are_declined_are_not_made(fleet: Fleet) -> None:
    fleet.producer.submit(
        [
            RegisterDevice("a", authentication=KEYS_DECLINED),
            RegisterDevice("b", authentication={"type": "certificateAuthority"}),
            CreateModule("a", "m", authentication=KEYS_DECLINED),
        ]
    ).raise_if_refused()
    assert fleet.authentication("a") != fleet.authentication("b") == {"type": "certificateAuthority"}
    assert (fleet.store.puts, fleet.key_file.exists()) == (0, False)


def test_an_identity_that_stands_cannot_decline(fleet: Fleet) -> None:
    fleet.producer.do(RegisterDevice("a"))
    with pytest.raises(AuthenticationInvalid):
        fleet.producer.do(UpdateDevice("a", authentication=KEYS_DECLINED))


def test_a_batch_keeps_its_keys_in_one_step_and_a_refused_device_leaves_none(fleet: Fleet) -> None:
    fleet.producer.submit([RegisterDevice(f"d-{number}") for number in range(100)]).raise_if_refused()
    assert (fleet.store.puts, len(list(fleet.store.ids()))) == (1, 200)
    report = fleet.producer.submit([RegisterDevice(f"d-{number}") for number in range(100)])
    assert {type(one.error) for one in report.refused} == {DeviceExists}
    fleet.producer.submit([RegisterDevice("not an id"), PatchTags("d-1", {"a": 1})])
    assert (fleet.store.puts, len(list(fleet.store.ids()))) == (1, 200)


def test_a_device_that_joins_again_has_other_keys(fleet: Fleet) -> None:
    fleet.producer.do(RegisterDevice("a"))
    former = fleet.keys("a")
    fleet.producer.submit([RetireDevice("a"), RegisterDevice("a")]).raise_if_refused()
    assert not set(former) & set(fleet.keys("a"))


@pytest.mark.parametrize("there", [False, True])
def test_a_producer_with_another_key_file_writes_nothing_and_says_what_to_do(fleet: Fleet, there: bool) -> None:  # noqa: FBT001
    fleet.producer.do(RegisterDevice("a"))
    elsewhere = fleet.key_file.with_name("elsewhere.key")
    if there:
        read_or_create_key(elsewhere)
    stranger = fleet.another(LazyVault(fleet.store, elsewhere))
    with pytest.raises(KeyFileOfAnotherLog, match=r"TWINFOLD_KEY_FILE.*KEYS_DECLINED") as caught:
        stranger.do(RegisterDevice("b"))
    assert str(elsewhere) in str(caught.value)
    assert (fleet.log.load(["b"])[0].snapshot, elsewhere.exists()) == (None, there)
    stranger.do(RegisterDevice("b", authentication=KEYS_DECLINED))
