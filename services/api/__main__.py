"""The API as a process: `python -m services.api`, or `twinfold api`. Settings come from TWINFOLD_* variables."""

import sys

import uvicorn

from events import logs
from events.settings import read_settings
from services.api.app import create_app
from services.api.room import open_room
from services.cli import exits


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
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else exits.UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main())
