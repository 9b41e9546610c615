import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.canonical import encode
from events.secrets.errors import KeyFileWrong, SecretTampered
from events.secrets.sealed_secret import Erased, Sealed, decode, seal, unseal
from tests.secrets.samples import KEY, OTHER_KEY, PASSWORD


@given(st.text(max_size=50), st.text(min_size=1, max_size=10))
@settings(derandomize=True, max_examples=50)
def test_what_was_sealed_opens_again(plaintext: str, secret_id: str) -> None:
    assert unseal(seal(plaintext, secret_id, KEY), secret_id, KEY) == plaintext


def test_a_sealed_secret_shows_nothing_of_it() -> None:
    sealed = seal(PASSWORD, "s1", KEY)
    assert PASSWORD.encode() not in encode(sealed) + sealed.ciphertext + sealed.wrapped_key
    assert PASSWORD not in repr(sealed)


def test_the_same_text_sealed_twice_shares_nothing() -> None:
    one, other = seal(PASSWORD, "s1", KEY), seal(PASSWORD, "s1", KEY)
    assert one.ciphertext != other.ciphertext
    assert one.wrapped_key != other.wrapped_key


def test_another_key_file_is_told_apart_from_tampering_and_both_ids_are_named() -> None:
    with pytest.raises(KeyFileWrong) as caught:
        unseal(seal(PASSWORD, "s1", KEY), "s1", OTHER_KEY)
    assert (caught.value.required, caught.value.actual) == (KEY.id, OTHER_KEY.id)
    assert all(text in str(caught.value) for text in ("s1", KEY.id, OTHER_KEY.id, "TWINFOLD_KEY_FILE"))
    assert PASSWORD not in str(caught.value)


def test_a_secret_does_not_open_under_another_secrets_id() -> None:
    with pytest.raises(SecretTampered, match="s2"):
        unseal(seal(PASSWORD, "s1", KEY), "s2", KEY)


def test_ciphertexts_cannot_be_exchanged_between_secrets() -> None:
    one, other = seal(PASSWORD, "s1", KEY), seal("another", "s2", KEY)
    with pytest.raises(SecretTampered):
        unseal(msgspec.structs.replace(one, ciphertext=other.ciphertext), "s1", KEY)


def test_a_key_id_that_was_changed_to_ours_does_not_open() -> None:
    with pytest.raises(SecretTampered):
        unseal(msgspec.structs.replace(seal(PASSWORD, "s1", OTHER_KEY), key_id=KEY.id), "s1", KEY)


@given(st.sampled_from(["wrapped_key", "ciphertext"]), st.integers(0, 42), st.integers(1, 255))
@settings(derandomize=True, max_examples=60)
def test_no_byte_can_be_changed_unnoticed(part: str, location: int, difference: int) -> None:
    sealed = seal(PASSWORD, "s1", KEY)
    data = bytearray(getattr(sealed, part))
    data[location % len(data)] ^= difference
    with pytest.raises(SecretTampered) as caught:
        unseal(msgspec.structs.replace(sealed, **{part: bytes(data)}), "s1", KEY)
    # Nothing of what happened inside is chained to it either.
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("length", [0, 5, 12, 20, 27])
@pytest.mark.parametrize("part", ["wrapped_key", "ciphertext"])
def test_what_was_cut_off_does_not_open(part: str, length: int) -> None:
    sealed = seal(PASSWORD, "s1", KEY)
    with pytest.raises(SecretTampered):
        unseal(msgspec.structs.replace(sealed, **{part: getattr(sealed, part)[:length]}), "s1", KEY)


def test_a_sealed_secret_reads_back_as_it_was_written() -> None:
    sealed = seal(PASSWORD, "s1", KEY)
    assert decode("s1", encode(sealed)) == sealed


def test_what_is_stored_can_be_read_by_people() -> None:
    stored = msgspec.json.decode(encode(Sealed(b"\0", b"\1", "k1")))
    assert stored == {"type": "Sealed", "wrapped_key": "AA==", "ciphertext": "AQ==", "key_id": "k1"}


def test_what_is_stored_is_a_secret_an_erased_one_or_broken() -> None:
    assert decode("s1", encode(Erased())) == Erased()
    for broken in (b"", b"{}", b"[]", b'{"type":"Sealed"}', b'{"type":"Other"}', b"\xff"):
        with pytest.raises(SecretTampered, match="s1"):
            decode("s1", broken)
