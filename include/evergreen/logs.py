"""Structured logs: every line knows its run, day and stage. JSON for machines, readable lines at a terminal."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import IO

from evergreen.settings.platform import LogFormat, LoggingSettings

CONTEXT = ("run", "day", "stage")
_context: ContextVar[Mapping[str, str]] = ContextVar("evergreen_log_context", default=MappingProxyType({}))
# What the standard library puts on a record itself; anything else came in by `extra=`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextmanager
def log_context(**values: object) -> Iterator[None]:
    """Adds run, day and stage (or other names) to every line that is logged inside, in this thread or task.

    Values that are None or empty are left out, so that an outer block's value stays.
    """
    given = {name: str(value) for name, value in values.items() if value is not None and value != ""}
    token = _context.set({**_context.get(), **given})
    try:
        yield
    finally:
        _context.reset(token)


def current_context() -> dict[str, str]:
    """What `log_context` has set here."""
    return dict(_context.get())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp (UTC), level, logger, message, then run, day, stage and what `extra` gave."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record. What JSON does not know is written as text."""
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_context.get(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A readable line: time of day, level where it matters, stage, day, message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, with a traceback below it where there is one."""
        context = _context.get()
        parts = [
            datetime.fromtimestamp(record.created).strftime("%H:%M:%S"),
            record.levelname.lower() if record.levelno != logging.INFO else "",
            " ".join(context[name] for name in ("stage", "day") if name in context),
            record.getMessage(),
        ]
        line = "  ".join(part for part in parts if part)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logging(settings: LoggingSettings, *, stream: IO[str] | None = None, **context: object) -> None:
    """Sends the log of this process to `stream` (default: standard error) as the settings say.

    Called once, at the start of a job or command. It replaces the root logger's handlers; libraries that log at length
    are held to warnings.

    Args:
        settings: format and least level.
        stream: where lines go.
        context: run, day and stage of the whole process; `log_context` adds to them for a block.
    """
    target = stream if stream is not None else sys.stderr
    text = settings.format is LogFormat.TEXT or (settings.format is LogFormat.AUTO and target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    for talkative in ("py4j", "great_expectations", "alembic", "matplotlib", "urllib3", "git"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    given = {name: str(value) for name, value in context.items() if value is not None and value != ""}
    _context.set({**_context.get(), **given})
