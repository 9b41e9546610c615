"""The verification of docs/guides/notifications.md, as a receiver would run it."""

import re
import time
from pathlib import Path
from typing import Any

from events.webhook.signature import headers, secret_of
from tests.repo.tree import text

SECRET = secret_of(b"k" * 32)


def is_from_twinfold() -> Any:
    found = re.search(
        r"<!-- verification-snippet -->\n```python\n(.*?)```", text(Path("docs/guides/notifications.md")), re.DOTALL
    )
    assert found is not None
    scope: dict[str, Any] = {}
    exec(found[1], scope)  # noqa: S102 - our own document
    return scope["is_from_twinfold"]


def test_the_snippet_takes_what_is_ours_and_fresh_and_nothing_else() -> None:
    verify, now, body = is_from_twinfold(), int(time.time()), b'{"id": "p00:1"}'
    signed = headers(SECRET, message_id="test:p00:1", at_seconds=now, body=body)
    assert verify(signed, body, SECRET)
    assert not verify(signed, body + b" ", SECRET)
    assert not verify(signed, body, secret_of(b"x" * 32))
    assert not verify({**signed, "webhook-id": "test:p00:2"}, body, SECRET)
    old = headers(SECRET, message_id="test:p00:1", at_seconds=now - 3600, body=body)
    assert not verify(old, body, SECRET)
