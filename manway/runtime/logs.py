"""Structured logs, one line an event, on stdout; secrets never reach them.

A line is what the siren of a site without a relay is, and comes before all else that an alarm causes: it has to cost little.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

import structlog
from structlog.types import EventDict

_SECRET = ("password", "authorization", "cookie", "token", "seed")
_FIRST = ("timestamp", "level", "process", "event")


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    lowered = key.lower()
    return any(word in lowered for word in _SECRET)


def _redact(_: object, __: str, event: EventDict) -> EventDict:
    return {k: "***" if _is_secret(k) else v for k, v in event.items()}


def _line(_: object, __: str, event: EventDict) -> str:
    event["timestamp"] = time.strftime("%H:%M:%S")
    first = [f"{key}={event.pop(key, None)!r}" for key in _FIRST]
    return " ".join(first + [f"{key}={value!r}" for key, value in event.items()])


class _Lines:
    """Writes lines to stdout, each at once, or those of a `together` at its end; where nobody takes them, nothing else ends."""

    held = False

    def msg(self, message: str) -> None:
        """Write a line."""
        with suppress(OSError):
            sys.stdout.write(f"{message}\n")
            if not _Lines.held:
                sys.stdout.flush()

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


@contextmanager
def together() -> Iterator[None]:
    """Write what is logged within at its end.

    Each write gives the interpreter away, and whoever computes meanwhile keeps it for half a millisecond: ten alarms of one
    step would wait five for their own lines.
    """
    _Lines.held = True
    try:
        yield
    finally:
        _Lines.held = False
        with suppress(OSError):
            sys.stdout.flush()


def configure(process: str, *, verbose: bool = False) -> None:
    """Set up logging for one process; call once, first thing."""
    logging.basicConfig(level=logging.WARNING)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, _redact, _line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(process=process)
