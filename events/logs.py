"""How a process tells what it does: structlog, to stderr, set up once at its start."""

import logging
import sys

import structlog


def configure(level: str) -> None:
    """Write events of a level (debug, info, warning, error) and above: for people on a terminal, else as JSON lines."""
    # It would tell the URLs of webhooks, whose queries can hold secrets.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for_people = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if for_people else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
