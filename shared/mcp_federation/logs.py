"""Logs: one JSON object a line in the shape of Winston's collectors, or pretty on a terminal.

    {"timestamp":"2026-01-31 23:59:59.123","level":"INFO","component":"node","operation":"tool_published",
     "message":"…","metadata":{…},"stack":"…"}

`operation` is the event that a logger is called with, `message` an optional sentence for people, and
all other fields go to `metadata`. `stack` stands only beside an exception, and never leaves the log.
"""

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

Level = Literal["error", "warn", "info", "http", "verbose", "debug", "silly"]

_NUMERIC: dict[str, int] = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    # Nothing here logs between these, and structlog filters at the standard levels only.
    "http": logging.INFO,
    "verbose": logging.INFO,
    "debug": logging.DEBUG,
    "silly": logging.DEBUG,
}
_WINSTON = {"WARNING": "WARN", "CRITICAL": "ERROR", "EXCEPTION": "ERROR"}
_SECRET_WORDS = ("token", "secret", "password", "authorization", "api_key")


def get_logger(component: str) -> FilteringBoundLogger:
    """The logger of a component; call it with an operation and fields."""
    logger: FilteringBoundLogger = structlog.get_logger(component=component)
    return logger


def _log_as_a_library() -> None:
    """Leave it to the application's `logging` what is shown, and where; of itself nothing goes to stdout."""
    structlog.configure(
        processors=[
            _mask_secrets,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: logging.getLogger("mcp_federation"),
        cache_logger_on_first_use=False,
    )


def configure_logs(
    level: Level = "info", *, pretty: bool | None = None, stream: TextIO | None = None
) -> None:
    """Send all logs of this process, the standard library's too, to `stream` (stderr unless given).

    `pretty` None decides by whether the stream is a terminal.
    """
    out = stream or sys.stderr
    numeric = _NUMERIC[level]
    shared: list[structlog.typing.Processor] = [_add_level, _mask_secrets]
    if pretty if pretty is not None else out.isatty():
        render: list[structlog.typing.Processor] = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _shorten_digest,
            # Plain: a traceback with the values of local variables would show secrets.
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(),
                pad_event_to=24,
                sort_keys=False,  # as they were given: what it is about comes first
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    else:
        render = [structlog.processors.format_exc_info, _winston]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=lambda *_: _Output(out),
        cache_logger_on_first_use=False,
    )
    _route_standard_library(numeric)


class _Output:
    """Writes lines to a stream. One that is gone, as a closed terminal is, must not end whoever logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = warn = error = exception = critical = fatal = log = msg


def _add_level(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event.setdefault("level", _WINSTON.get(method.upper(), method.upper()).lower())
    return event


def _mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: _masked(key, value) for key, value in event.items()}


def _masked(key: str, value: Any) -> Any:
    if any(word in key.lower() for word in _SECRET_WORDS):
        return "***"
    if isinstance(value, Mapping):
        return {inner: _masked(str(inner), item) for inner, item in value.items()}
    return value


def _shorten_digest(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A whole digest takes a line of a terminal, and nobody reads it."""
    if isinstance(digest := event.get("digest"), str):
        event["digest"] = f"{digest[:19]}…"
    return event


def _winston(_: WrappedLogger, __: str, event: EventDict) -> str:
    operation = str(event.pop("event", ""))
    stack = event.pop("exception", None)
    line: dict[str, Any] = {
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
        "level": str(event.pop("level")).upper(),
        "component": event.pop("component", ""),
        "operation": operation,
        "message": str(event.pop("message", "") or operation.replace("_", " ")),
    }
    if event:
        line["metadata"] = dict(event)
    if stack:
        line["stack"] = stack
    return msgspec.json.encode(line, enc_hook=str).decode()


class _ToStructlog(logging.Handler):
    """Hands records of libraries that log through `logging` to the same output."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # a library's own mistake in its arguments
            message = str(record.msg)
        get_logger(record.name).log(
            max(logging.DEBUG, min(logging.CRITICAL, record.levelno // 10 * 10)),
            "library_log",
            message=message,
            exc_info=record.exc_info if record.exc_info and record.exc_info[0] else None,
        )


def _route_standard_library(numeric: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_ToStructlog()]
    # Libraries are terse: their INFO is our DEBUG.
    root.setLevel(max(numeric, logging.WARNING) if numeric >= logging.INFO else numeric)


if not structlog.is_configured():
    _log_as_a_library()
