"""An API that does not answer as it is asked: what is wrong is said, and what to set."""

import contextlib
import datetime as dt
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from services import certificates
from services.cli.app import app
from services.cli.client import ApiMisaddressed, ApiUnavailable, misfit
from services.cli.exits import code_of


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


class WithoutRedis(Quiet):
    def do_GET(self) -> None:
        body = b'{"error": {"code": "LogUnavailable", "message": "Redis does not answer"}}'
        self.send_response(503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def server(certificate: Path | None, key: Path | None, handler: type[BaseHTTPRequestHandler] = Quiet) -> Iterator[int]:
    """Something that answers on a port, over TLS where it has a certificate."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            http.socket = context.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield http.server_address[1]
        finally:
            http.shutdown()
            thread.join()


def refusal(directory: Path, url: str | None, *words: str) -> tuple[int, str]:
    environment = {"TWINFOLD_DATA_DIR": str(directory), "TWINFOLD_API_URL": url}
    error = CliRunner().invoke(app, words or ["device", "list"], env=environment).exception
    assert isinstance(error, Exception)
    return code_of(error), str(error)


def test_https_where_http_is_asked_for_is_told_with_what_to_set(tmp_path: Path) -> None:
    own = certificates.ensure(tmp_path / "data", [], now=dt.datetime.now(dt.UTC))
    with server(own.certificate, own.key) as port:
        code, text = refusal(tmp_path, f"http://127.0.0.1:{port}")
    assert (code, "it speaks HTTPS" in text, "TWINFOLD_DATA_DIR" in text) == (2, True, True)


def test_http_where_https_is_asked_for_is_told_with_what_to_set(tmp_path: Path) -> None:
    with server(None, None) as port:
        code, text = refusal(tmp_path, f"https://127.0.0.1:{port}")
    assert (code, "it speaks HTTP without TLS" in text, "TWINFOLD_API_URL" in text) == (2, True, True)


def test_a_certificate_of_another_directory_is_told_with_what_to_set(tmp_path: Path) -> None:
    own = certificates.ensure(tmp_path / "data", [], now=dt.datetime.now(dt.UTC))
    with server(own.certificate, own.key) as port:
        code, text = refusal(tmp_path, f"https://127.0.0.1:{port}")
    assert (code, "its certificate is not trusted here" in text, "TWINFOLD_DATA_DIR" in text) == (2, True, True)


def test_an_api_that_is_away_is_no_misfit(tmp_path: Path) -> None:
    assert misfit("http://127.0.0.1:1", httpx.ConnectError("refused")) is None
    assert misfit("http://127.0.0.1:1", httpx.RemoteProtocolError("Server disconnected")) is None
    code, text = refusal(tmp_path, "http://127.0.0.1:1")
    assert (code, "is `twinfold up` running?" in text, "the default URL" in text) == (3, True, False)


@pytest.mark.parametrize(
    ("error", "code"), [(ApiMisaddressed("http://a", "so"), 2), (ApiUnavailable("http://a", "so"), 3)]
)
def test_a_wrong_address_is_usage_and_one_that_is_away_is_not(error: Exception, code: int) -> None:
    assert code_of(error) == code


@pytest.mark.parametrize("words", [("device", "list"), ("audit", "export")])
def test_an_api_without_redis_is_unavailable_whether_it_is_asked_or_streams(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    with server(None, None, WithoutRedis) as port:
        code, text = refusal(tmp_path, f"http://127.0.0.1:{port}", *words)
    assert (code, "Redis does not answer" in text) == (3, True)
