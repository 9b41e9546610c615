"""Checks on requests to an API with open access, which requires no credentials.

Such an API listens on loopback only. A web browser on the same machine is the remaining risk, as it sends requests of any web
page to it: under the page's own host name, once that resolves to loopback (DNS rebinding), or with the page as their origin.
"""

import functools
from collections.abc import Mapping
from urllib.parse import urlsplit

from events.settings import LOOPBACK
from services.api.http.errors import NotJson, RequestNotLocal

_JSON = ("application/json", "application/x-ndjson")
_OWN_SITES = ("same-origin", "none")


def check_local(method: str, headers: Mapping[str, str]) -> None:
    """Reject a request that a web page could have sent; the names of `headers` are in lower case.

    Raises:
        RequestNotLocal: the host is no name of loopback, or the request comes from a page of another origin.
        NotJson: the request has a body that is not declared as JSON.
    """
    host = headers.get("host", "")
    if not _is_loopback(host):
        raise RequestNotLocal(f"the header Host is {' or '.join(LOOPBACK)}, not {host[:80]!r}")
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise RequestNotLocal(f"pages of the origin {origin[:80]!r} may not send requests here")
    # Browsers send Sec-Fetch-Site with requests that have no Origin, too, as those of images. Following a link is harmless: the
    # page that has the link cannot read the answer.
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
    if site not in _OWN_SITES and not (method == "GET" and mode == "navigate"):
        raise RequestNotLocal("pages of another origin may not send requests here")
    content_type = headers.get("content-type")
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if method in {"GET", "HEAD", "OPTIONS"} or (content_type is None and not has_body):
        return
    # Browsers send a form or plain text to another origin at once; before JSON they ask, and nothing here allows it.
    essence = (content_type or "").partition(";")[0].strip().lower()
    if essence not in _JSON and not (essence.startswith("application/") and essence.endswith("+json")):
        raise NotJson(content_type)


# Clients send the same host with every request.
@functools.lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    try:
        # Without the port, in lower case, of `localhost:8080` or `[::1]:8080`.
        return (urlsplit(f"//{host}").hostname or "") in LOOPBACK
    except ValueError:
        return False
