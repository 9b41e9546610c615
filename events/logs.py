"""Logging of a process: structlog to standard error, configured once at start."""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from events.terminal import visible


def are_for_people() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr.isatty()


def configure(level: str) -> None:
    """Log messages of a level (debug, info, warning, error) and above: as text on a terminal, else as JSON lines."""
    # At INFO, httpx logs the URLs of webhooks, whose queries are secrets.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for_people = are_for_people()
    # Rich's tracebacks show local variables, and with them URLs that have passwords.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderers = [_only_visible, console] if for_people else [structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
            structlog.processors.format_exc_info,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        # A cached logger would keep the level and the output of an earlier call of this function.
        cache_logger_on_first_use=False,
    )


def _only_visible(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The values with escapes for characters that act on a terminal; only a traceback has several lines."""
    return {visible(name): _shown(name, value) for name, value in event.items()}


def _shown(name: str, value: Any) -> Any:
    if name == "exception" and isinstance(value, str):
        return "\n".join(map(visible, value.split("\n")))
    # The renderer writes other values as their `repr`, which may contain a text unescaped.
    return visible(value if isinstance(value, str) else repr(value))
