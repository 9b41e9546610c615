"""What a request must look like where the API asks no caller for credentials.

The API listens on loopback alone then. Its other door is a web browser on the same machine, which sends requests of any page
there: under the page's own host name, once that leads to loopback (DNS rebinding), or with the page as their origin.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers

from events.settings import LOOPBACK
from services.api.http.errors import NotJson, RequestNotLocal

_JSON = ("application/json", "application/x-ndjson")
_OWN_SITES = ("same-origin", "none")


def check_local(method: str, headers: Headers) -> None:
    """Refuse what a web page could have sent.

    Raises:
        RequestNotLocal: the host is no name of loopback, or a page of another origin asks.
        NotJson: it has a body, which is not declared as JSON; a page sends any other kind without asking first.
    """
    host = headers.get("host", "")
    if _name_of(host) not in LOOPBACK:
        raise RequestNotLocal(f"the header Host is {' or '.join(LOOPBACK)}, not {host[:80]!r}")
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise RequestNotLocal(f"pages of the origin {origin[:80]!r} may not send requests here")
    # Browsers say so of a request that has no Origin, as that of an image, too. Following a link shows a page, and reads nothing.
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
    if site not in _OWN_SITES and not (method == "GET" and mode == "navigate"):
        raise RequestNotLocal("pages of another origin may not send requests here")
    if method not in {"GET", "HEAD", "OPTIONS"}:
        _check_content_type(headers)


def _check_content_type(headers: Headers) -> None:
    content_type = headers.get("content-type")
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if content_type is None and not has_body:
        return
    essence = (content_type or "").partition(";")[0].strip().lower()
    if essence not in _JSON and not (essence.startswith("application/") and essence.endswith("+json")):
        raise NotJson(content_type)


def _name_of(host: str) -> str:
    """`localhost:8080` and `[::1]:8080` without the port, in lower case; empty where it is no host."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
