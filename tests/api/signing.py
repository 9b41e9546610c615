"""Shared access signatures, each as one kind of client spells them (contract/hub.md §4)."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus, urlencode

HOUR = 3600


def digest(key: str, text: str) -> str:
    """What a key makes of a text, as base64."""
    return base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)).decode()


def signed(key: str, resource: str, *, policy: str = "", seconds: int = HOUR) -> str:
    """Any client's, good for so many seconds."""
    expiry, encoded = int(time.time()) + seconds, quote(resource, safe="")
    skn = f"&skn={policy}" if policy else ""
    sig = quote(digest(key, f"{encoded}\n{expiry}"), safe="")
    return f"SharedAccessSignature sr={encoded}&sig={sig}&se={expiry}{skn}"


def by_service_library(key: str, host: str, policy: str, expiry: int) -> str:
    """Python's library for services: a slash in `sig` stays as it is."""
    encoded = quote_plus(host)
    sig = quote(digest(key, f"{encoded}\n{expiry}"))
    return f"SharedAccessSignature sr={encoded}&sig={sig}&se={expiry}&skn={policy}"


def by_command_line(key: str, host: str, policy: str, expiry: int) -> str:
    """The command line: everything is encoded, the policy's name, too."""
    sig = digest(key, f"{quote_plus(host)}\n{expiry}")
    return "SharedAccessSignature " + urlencode({"sr": host, "sig": sig, "se": str(expiry), "skn": policy})


def by_node(key: str, host: str, policy: str, expiry: int) -> str:
    """Node's library: the policy comes before the expiry."""
    encoded = quote(host, safe="!'()*")
    sig = quote(digest(key, f"{encoded}\n{expiry}"), safe="!'()*")
    return f"SharedAccessSignature sr={encoded}&sig={sig}&skn={policy}&se={expiry}"


SERVICE_CLIENTS: tuple[Callable[[str, str, str, int], str], ...] = (by_service_library, by_command_line, by_node)
