"""Each line knows its run, day and stage; machines get JSON, people get readable lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime
from threading import Thread

import pytest

from evergreen.logs import configure_logging, current_context, log_context
from evergreen.settings.platform import LogFormat, LoggingSettings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with log_context():  # resets what `configure_logging` sets
        yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_hold_what_a_search_needs() -> None:
    stream = io.StringIO()
    configure_logging(LoggingSettings(), stream=stream, run="r1", day=date(2011, 8, 31))
    with log_context(stage="ingest"):
        logging.getLogger("evergreen.ingest").info("read %d lines", 12, extra={"rows": 12})
    logging.getLogger("evergreen").warning("after")
    first, second = lines(stream)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(first.pop("timestamp"))).total_seconds()) < 60
    assert first == {
        "level": "INFO",
        "logger": "evergreen.ingest",
        "message": "read 12 lines",
        "run": "r1",
        "day": "2011-08-31",
        "stage": "ingest",
        "rows": 12,
    }
    assert second["run"] == "r1"
    assert "stage" not in second


def test_inner_context_wins_and_ends_with_its_block() -> None:
    with log_context(run="a", stage="one"):
        with log_context(stage="two", day=None):
            assert current_context() == {"run": "a", "stage": "two"}
        assert current_context() == {"run": "a", "stage": "one"}
    assert current_context() == {}


def test_context_ends_after_an_error() -> None:
    def fails() -> None:
        with log_context(stage="one"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert current_context() == {}


def test_another_thread_has_a_context_of_its_own() -> None:
    seen: list[dict[str, str]] = []
    with log_context(run="a"):
        thread = Thread(target=lambda: seen.append(current_context()))
        thread.start()
        thread.join()
    assert seen == [{}]


@pytest.mark.parametrize(
    ("kind", "stream", "is_json"),
    [
        (LogFormat.AUTO, io.StringIO(), True),
        (LogFormat.AUTO, Terminal(), False),
        (LogFormat.JSON, Terminal(), True),
        (LogFormat.TEXT, io.StringIO(), False),
    ],
)
def test_the_format_follows_the_setting_and_the_stream(kind: LogFormat, stream: io.StringIO, is_json: bool) -> None:
    configure_logging(LoggingSettings(format=kind), stream=stream, stage="train", day="2011-08-31")
    logging.getLogger("x").warning("hello")
    text = stream.getvalue()
    assert text.startswith("{") is is_json
    if not is_json:
        assert text.rstrip().endswith("warning  train 2011-08-31  hello")


@pytest.mark.parametrize("kind", [LogFormat.JSON, LogFormat.TEXT])
def test_a_traceback_is_kept(kind: LogFormat) -> None:
    stream = io.StringIO()
    configure_logging(LoggingSettings(format=kind), stream=stream)
    try:
        raise ValueError("planted")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert "ValueError: planted" in stream.getvalue()
    if kind is LogFormat.JSON:
        assert len(lines(stream)) == 1


def test_the_level_is_the_settings() -> None:
    stream = io.StringIO()
    configure_logging(LoggingSettings(level="ERROR"), stream=stream)
    logging.getLogger("x").warning("not shown")
    assert stream.getvalue() == ""


def test_what_json_does_not_know_is_text() -> None:
    stream = io.StringIO()
    configure_logging(LoggingSettings(format=LogFormat.JSON), stream=stream)
    logging.getLogger("x").info("a", extra={"seen": date(2011, 8, 31)})
    assert lines(stream)[0]["seen"] == "2011-08-31"
