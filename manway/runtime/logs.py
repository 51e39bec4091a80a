"""Structured logs, one line an event, on stderr; secrets never reach them."""

import logging

import structlog

_SECRET = ("password", "authorization", "cookie", "token", "seed")


def _redact(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {k: "***" if any(word in k.lower() for word in _SECRET) else v for k, v in event.items()}


def configure(process: str, *, verbose: bool = False) -> None:
    """Set up logging for one process; call once, first thing."""
    logging.basicConfig(level=logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _redact,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "process", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(process=process)
