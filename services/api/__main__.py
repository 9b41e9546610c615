"""The API as a process: `python -m services.api`, or `twinfold api`. Settings come from TWINFOLD_* variables."""

import events.processes.without_rich  # noqa: F401  # isort: skip
import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import sys

import structlog
import uvicorn
from typing_extensions import override

from events import logs
from events.envelope import Principal
from events.garbage_collection import rare_collection
from events.processes import lifeline
from events.settings import Settings, read_settings
from events.terminal import complain_of
from services import certificates
from services.api.app import create_app
from services.api.context.api_context import open_context
from services.api.context.callers import Author
from services.api.http.connection import connection_class
from services.api_processes import serve_with_several
from services.certificates import CertificateUnusable
from services.cli import exits
from services.credentials import ensure_policies
from services.sockets import BACKLOG, inherited, listening

_AUTHOR = Author(Principal.parse("system:api"))
_POLL_SECONDS = 60.0
_GOODBYE_SECONDS = 1.0
_SWITCH_SECONDS = 0.001
"""How long a thread computes before another one gets the interpreter: the event loop waits that long for each busy thread."""

logger = structlog.get_logger()


class Server(uvicorn.Server):
    """A server that ends in order: long polls and streams are answered at once, other running requests end first.

    It reloads replaced certificate files, so that a renewal requires no restart.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._renewal = asyncio.create_task(self._renew())

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._renewal.cancel()
        self.config.app.state.waiting.end()  # type: ignore[union-attr]
        self.config.app.state.followers.end()  # type: ignore[union-attr]
        hanging_up = asyncio.create_task(self._hang_up())
        await super().shutdown(sockets)
        hanging_up.cancel()

    async def _hang_up(self) -> None:
        # A client that has its answer and does not finish the end of TLS would hold up the process until its timeout.
        while True:
            await asyncio.sleep(_GOODBYE_SECONDS)
            for connection in tuple(self.server_state.connections):
                if connection.transport.is_closing():
                    connection.transport.abort()

    async def _renew(self) -> None:
        context = self.config.ssl
        if context is None:
            return
        read: tuple[int, ...] | None = None
        while True:
            # The current certificate stays in use if the new one is unusable: a bad file must not stop a running API.
            try:
                certificate, key = certificates.of(self._settings, now=dt.datetime.now(dt.UTC))
                modified = tuple(file.stat().st_mtime_ns for file in (certificate, key))
                if read not in {None, modified}:
                    context.load_cert_chain(certificate, key)
                    logger.info("certificate read again", path=str(certificate))
                read = modified
            except (CertificateUnusable, OSError) as error:
                logger.error("certificate not renewed", why=str(error))  # noqa: TRY400 - expected, a traceback tells nothing
            await asyncio.sleep(_POLL_SECONDS)


def _config(settings: Settings) -> uvicorn.Config:
    context = open_context(settings)
    if not settings.open_access:
        with context.producer(_AUTHOR) as producer:
            ensure_policies(producer, context.log)
    certificate, key = certificates.of(settings, now=dt.datetime.now(dt.UTC)) if settings.has_tls else (None, None)
    config = uvicorn.Config(
        create_app(context),
        http=connection_class(settings.request_seconds_max),
        loop="uvloop",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        backlog=BACKLOG,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config


def main() -> int:
    """Serve until SIGINT or SIGTERM, or until the parent process ends; running requests end first."""
    line = lifeline.hold()
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        handed_over = inherited()
        if settings.api_processes > 1 and not handed_over:
            serve_with_several(settings)
            return 0
        with contextlib.nullcontext(handed_over) if handed_over else listening(settings) as sockets:
            server = Server(_config(settings), settings)
            sys.setswitchinterval(_SWITCH_SECONDS)
            # Replays of the past and previews make many objects at once, which the collector would walk again and again.
            with rare_collection():
                server.run(sockets)
    except Exception as error:
        if not exits.is_any(error, *exits.EXPECTED):
            raise
        line.last_output(str(error))
        complain_of(error, program="twinfold api")
        return exits.code_of(error)
    return 0 if server.started else exits.UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main())
