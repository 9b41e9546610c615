"""How a process tells what it does: structlog, to stderr, set up once at its start."""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from events.visible import visible


def are_for_people() -> bool:
    """Whether somebody reads along: standard error is a terminal."""
    return sys.stderr.isatty()


def configure(level: str) -> None:
    """Write events of a level (debug, info, warning, error) and above: for people on a terminal, else as JSON lines."""
    # It would tell the URLs of webhooks, whose queries can hold secrets.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for_people = are_for_people()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
            structlog.processors.format_exc_info,
            *([_only_visible, _for_people()] if for_people else [structlog.processors.JSONRenderer()]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        # No logger is cached: one that was keeps the level and the output of the call before this one.
        cache_logger_on_first_use=False,
    )


def _for_people() -> structlog.dev.ConsoleRenderer:
    # Rich's tracebacks show local variables, and with them URLs that hold passwords.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _only_visible(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """No value acts on the terminal; JSON escapes by itself. Only a traceback has lines."""
    return {visible(name): _shown(name, value) for name, value in event.items()}


def _shown(name: str, value: Any) -> Any:
    if name == "exception" and isinstance(value, str):
        return "\n".join(map(visible, value.split("\n")))
    # What is no text is written as its `repr`, in which a text may stand as it is.
    return visible(value if isinstance(value, str) else repr(value))
