"""Why a connection to an API fails: the wrong protocol, or a certificate that is not trusted."""

import contextlib
import socket
import ssl
from urllib.parse import urlsplit

import httpx

_PROBE_SECONDS = 2.0
_HTTPS_PORT = 443
# Parts of OpenSSL's messages for an answer that is no TLS; its versions word it differently.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF", "record layer failure")

SET_DIRECTORY = "set TWINFOLD_DATA_DIR to the --data directory of `twinfold up`"


def misfit(url: str, error: httpx.HTTPError) -> str | None:
    """Why the address or the trust settings are wrong, and what to set; `None` when the error has another cause."""
    text = str(error)
    if url.startswith("https://"):
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return (
                f"its certificate is not trusted here: {SET_DIRECTORY}, or SSL_CERT_FILE to the certificate of its"
                " authority (`twinfold ca` prints its path)"
            )
        if any(sign in text for sign in _NOT_TLS):
            return "it speaks HTTP without TLS: set TWINFOLD_API_URL (--api-url) to the same address with http://"
        return None
    # A TLS server that gets plain HTTP closes the connection, which says nothing of TLS: only a handshake can tell.
    is_cut_off = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
    if is_cut_off and _speaks_tls(url):
        return f"it speaks HTTPS: {SET_DIRECTORY}, or TWINFOLD_API_URL (--api-url) to its https:// address"
    return None


def _speaks_tls(url: str) -> bool:
    """Whether a TLS handshake succeeds at a URL, whatever its certificate."""
    parts = urlsplit(url)
    # Unverified: nothing is sent, and the certificate's trust is not the question here.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((parts.hostname or "", parts.port or _HTTPS_PORT), timeout=_PROBE_SECONDS) as line,
        context.wrap_socket(line, server_hostname=parts.hostname),
    ):
        return True
    return False
