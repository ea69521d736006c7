"""The exporter: Airflow's figures, sources that fail, and the page over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import pytest

from evergreen.jobs.export_metrics import Exporter, airflow_metrics, make_server, sources_of
from evergreen.monitoring.exposition import gauge
from evergreen.platform.client import AirflowClient
from evergreen.settings import Settings

OPEN = build_opener(ProxyHandler({})).open


def run(dag: str, state: str, seconds: int = 0) -> dict[str, Any]:
    ended = f"2011-09-01T00:00:{seconds:02d}Z" if state in ("success", "failed") else None
    return {"dag_id": dag, "state": state, "start_date": "2011-09-01T00:00:00Z", "end_date": ended}


class Airflow:
    def health(self) -> dict[str, str | None]:
        return {"scheduler": "healthy", "dag_processor": "unhealthy", "triggerer": None}

    def dag_runs(self, dag_id: str) -> list[dict[str, Any]]:
        assert dag_id == "~"
        return [run("a", "running"), run("a", "success", 7), run("a", "failed", 3), run("b", "failed", 5)]

    def import_errors(self) -> dict[str, str]:
        return {"dags/broken.py": "SyntaxError"}


def test_airflow_tells_health_runs_and_broken_files() -> None:
    metrics = airflow_metrics(cast(AirflowClient, Airflow()))
    found = {metric.name: {tuple(labels.values()): value for labels, value in metric.samples} for metric in metrics}
    assert found["evergreen_airflow_healthy"] == {("scheduler",): 1, ("dag_processor",): 0}, "a part never started"
    assert found["evergreen_airflow_runs_active"] == {("a",): 1, ("b",): 0}
    assert found["evergreen_airflow_newest_run_failed"] == {("a",): 0, ("b",): 1}, "the newest ended run counts"
    assert found["evergreen_airflow_newest_run_seconds"] == {("a",): 7, ("b",): 5}
    assert found["evergreen_airflow_import_errors"] == {(): 1}


def test_a_source_that_fails_is_told_and_the_others_too() -> None:
    def broken() -> list[Any]:
        raise OSError("gone")

    page = Exporter({"good": lambda: [gauge("figure", "One.", 1)], "bad": broken}).page()
    assert 'evergreen_source_up{source="bad"} 0\nevergreen_source_up{source="good"} 1\n' in page
    assert "\nfigure 1\n" in page


def test_sources_are_not_asked_more_often_than_they_change() -> None:
    asked: list[int] = []
    now = [0.0]

    def source() -> list[Any]:
        asked.append(1)
        return []

    exporter = Exporter({"one": source}, clock=lambda: now[0])
    exporter.page()
    exporter.page()
    assert len(asked) == 1
    now[0] = 15.0
    exporter.page()
    assert len(asked) == 2


def test_a_platform_without_a_first_day_has_a_page(settings: Settings) -> None:
    settings.home_path.mkdir(parents=True)
    page = Exporter(sources_of(settings, "", "viewer", None)).page()
    assert 'evergreen_source_up{source="ledger"} 1' in page
    assert 'evergreen_source_up{source="lake"} 1' in page
    assert "airflow" not in page


def test_an_airflow_that_is_down_is_one_source_down(settings: Settings, tmp_path: Path) -> None:
    settings.home_path.mkdir(parents=True)
    (tmp_path / "password").write_text("unused")
    page = Exporter(sources_of(settings, "http://127.0.0.1:9", "viewer", tmp_path / "password")).page()
    assert 'evergreen_source_up{source="airflow"} 0' in page
    assert 'evergreen_source_up{source="disk"} 1' in page


@pytest.fixture
def url() -> Iterator[str]:
    server = make_server(Exporter({"one": lambda: [gauge("figure", "One.", 2)]}), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_page_is_served_and_nothing_else(url: str) -> None:
    with OPEN(f"{url}/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "figure 2\n" in answer.read().decode()
    with OPEN(f"{url}/health") as answer:
        assert answer.read() == b"ok\n"
    with pytest.raises(HTTPError, match="404"):
        OPEN(f"{url}/")
