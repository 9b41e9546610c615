"""The API as a process: `python -m services.api`, or `twinfold api`. Settings come from TWINFOLD_* variables."""

import socket
import sys

import uvicorn
from typing_extensions import override

from events import logs
from events.settings import read_settings
from services.api.app import create_app
from services.api.room import open_room
from services.cli import exits


class Server(uvicorn.Server):
    """Ends in order: who waits is answered at once, other requests that are under way end first."""

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.app.state.waiting.end()  # type: ignore[union-attr]
        await super().shutdown(sockets)


def main() -> int:
    """Serve until SIGINT or SIGTERM; requests that are under way end first."""
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        app = create_app(open_room(settings))
    except exits.EXPECTED as error:
        sys.stderr.write(f"twinfold api: {error}\n")
        return exits.code_of(error)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
        backlog=4096,
    )
    server = Server(config)
    server.run()
    return 0 if server.started else exits.UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main())
