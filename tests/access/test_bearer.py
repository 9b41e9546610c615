"""A bearer token opens its own document until it expires, and nothing else."""

import msgspec
import pytest

from events.access.bearer import BearerToken
from events.access.state import PolicyDocument, TokenDocument

TOKEN = BearerToken("0a1b", "s" * 32)


def document(**changes: object) -> TokenDocument:
    return msgspec.structs.replace(TokenDocument(1, "ada", "read", TOKEN.digest, 0, "", 1), **changes)


def test_a_token_is_read_as_it_was_written() -> None:
    assert BearerToken.parse(TOKEN.text) == TOKEN
    assert BearerToken.parse("twf_0a_" + "a_" * 10) == BearerToken("0a", "a_" * 10)


@pytest.mark.parametrize(
    "text", ["", "twf_0a", "twf_0a_short", "twf__" + "s" * 32, " " + TOKEN.text, TOKEN.text + "\n"]
)
def test_other_text_is_no_token(text: str) -> None:
    assert BearerToken.parse(text) is None


def test_a_token_opens_its_own_document() -> None:
    assert TOKEN.holder(document(), now=5) == document()
    assert TOKEN.holder(document(digest="0" * 64), now=5) is None
    assert TOKEN.holder(None, now=5) is None
    assert TOKEN.holder(PolicyDocument(1, (), {}, {}), now=5) is None


def test_a_token_ends_at_the_millisecond_of_its_expiry() -> None:
    assert TOKEN.holder(document(expires_at=6), now=5) is not None
    assert TOKEN.holder(document(expires_at=5), now=5) is None
