"""Logging of a process: everything through one chain to stderr, as JSON lines or for a person's eyes.

structlog's records and those of the libraries' stdlib loggers look the same: an ISO time in UTC, the level,
the event, what was given with it, the logger, the ids of the current span, and the exception without local
variables (in a JSON line one JSON value). `events.redaction` has the last look at all of it.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.processors import ExceptionRenderer, StackInfoRenderer, TimeStamper
from structlog.stdlib import ProcessorFormatter
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from events.redaction import redacted
from events.telemetry import CURRENT

FRAMES = 30
"""Frames of a traceback in a JSON line."""
QUIET = (
    "alembic",
    "asyncio",
    "dramatiq",
    "httpcore2",
    "httpx2",
    "litestar",
    "opentelemetry",
    "urllib3",
    "uvicorn",
)
"""Libraries that are heard from `warning` on: what they tell of normal life, our own records tell."""
ERRORS_ONLY = ("asyncpg.pool",)
"""Those heard from `error` on: this one shows a trace a second while PostgreSQL is away, which our own records tell."""

_FIRST = ("timestamp", "level", "event")


def configure_logging(format: str, level: str) -> None:
    """Sets up structlog and stdlib logging for this process, in place of whatever was set up before.

    Args:
        format: `json`, `console`, or `auto`: console when stderr is a terminal, else JSON.
        level: `debug`, `info`, `warning` or `error`; what is below it is dropped where it is said.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        TimeStamper(fmt="iso", utc=True),
        _add_trace,
        StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[ProcessorFormatter.remove_processors_meta, *_rendering(console)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    _quieten(number)
    logging.captureWarnings(True)


def _rendering(console: bool) -> list[Processor]:
    """From the exception to the line; redaction is last, so that nothing comes in behind it."""
    if console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [structlog.processors.format_exc_info, _redact, renderer]
    transformer = ExceptionDictTransformer(show_locals=False, max_frames=FRAMES, use_rich=False)
    return [ExceptionRenderer(transformer), _redact, structlog.processors.JSONRenderer()]


def _quieten(level: int) -> None:
    """Libraries that brought handlers of their own lose them, so that no line bypasses the chain."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in QUIET:
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in ERRORS_ONLY:
        logging.getLogger(name).setLevel(max(level, logging.ERROR))


def _add_trace(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """The ids of the span that this is said in, as OpenTelemetry names them in logs."""
    traceparent = CURRENT.get()
    if traceparent is not None:
        event.setdefault("trace_id", traceparent[3:35])
        event.setdefault("span_id", traceparent[36:52])
    return event


def _redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    first = {key: event.pop(key) for key in _FIRST if key in event}
    return redacted(first | dict(event))
