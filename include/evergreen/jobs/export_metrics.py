"""`/metrics` of the loop and of Airflow for Prometheus: `python -m evergreen.jobs.export_metrics --airflow URL`.

Each source is asked for itself: where one does not answer, `evergreen_source_up` says so and the others are told.
"""

from __future__ import annotations

import argparse
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from evergreen.lake import Lake
from evergreen.logs import configure_logging
from evergreen.monitoring.exposition import CONTENT_TYPE, Metric, by_label, exposition
from evergreen.monitoring.loop import disk_metrics, lake_metrics, ledger_metrics
from evergreen.platform.client import AirflowClient, parse_time
from evergreen.promotion.database import ledger_engine
from evergreen.settings import Settings, load_settings

LOG = logging.getLogger(__name__)
PORT = 9108
KEEP_SECONDS = 15.0  # however often it is asked, a source is read no more often than that
ALL_DAGS = "~"

Source = Callable[[], Sequence[Metric]]


def airflow_metrics(client: AirflowClient) -> list[Metric]:
    """Health of Airflow's parts, files that cannot be imported, and each DAG's runs and newest ended run."""
    # A part that was never started has no state.
    healthy = {part: float(state == "healthy") for part, state in client.health().items() if state}
    running: dict[str, float] = {}
    failed: dict[str, float] = {}
    lasted: dict[str, float] = {}
    for run in client.dag_runs(ALL_DAGS):  # newest first
        dag = run["dag_id"]
        running[dag] = running.get(dag, 0) + (run["state"] in ("running", "queued"))
        if run["state"] in ("success", "failed") and dag not in failed:
            failed[dag] = float(run["state"] == "failed")
            if run["start_date"] and run["end_date"]:
                lasted[dag] = (parse_time(run["end_date"]) - parse_time(run["start_date"])).total_seconds()
    return [
        by_label("evergreen_airflow_healthy", "1 where Airflow calls the part healthy.", "part", healthy),
        by_label("evergreen_airflow_runs_active", "Runs queued or running, of the newest 100.", "dag_id", running),
        by_label("evergreen_airflow_newest_run_failed", "1 where the newest ended run failed.", "dag_id", failed),
        by_label("evergreen_airflow_newest_run_seconds", "How long it took.", "dag_id", lasted),
        Metric(
            "evergreen_airflow_import_errors",
            "DAG files that cannot be imported.",
            (({}, float(len(client.import_errors()))),),
        ),
    ]


class Exporter:
    """Asks its sources, and remembers their answers for a moment."""

    def __init__(self, sources: Mapping[str, Source], clock: Callable[[], float] = time.monotonic) -> None:
        self._sources = sources
        self._clock = clock
        self._lock = threading.Lock()
        self._page = ""
        self._good_until = -1.0

    def page(self) -> str:
        """The page that Prometheus reads."""
        with self._lock:
            if self._clock() >= self._good_until:
                self._page = exposition(self._ask())
                self._good_until = self._clock() + KEEP_SECONDS
            return self._page

    def _ask(self) -> list[Metric]:
        found: list[Metric] = []
        up: dict[str, float] = {}
        for name, source in self._sources.items():
            try:
                found += source()
                up[name] = 1.0
            except Exception as error:  # whatever is wrong with one source, the others are told
                LOG.warning("%s cannot be asked: %s", name, error)
                up[name] = 0.0
        return [by_label("evergreen_source_up", "1 where the source of figures answers.", "source", up), *found]


def sources_of(settings: Settings, airflow_url: str, user: str, password_file: Path | None) -> dict[str, Source]:
    """Where figures come from. Without `airflow_url` Airflow is not asked."""
    found: dict[str, Source] = {
        "ledger": lambda: ledger_metrics(ledger_engine(settings), settings.mlflow.model_name),
        "lake": lambda: lake_metrics(Lake(settings.lake_path)),
        "disk": partial(disk_metrics, settings),
    }
    if airflow_url:
        login = None if password_file is None else lambda: (user, password_file.read_text().strip())
        found["airflow"] = partial(airflow_metrics, AirflowClient(airflow_url, login))
    return found


def make_server(exporter: Exporter, host: str, port: int) -> ThreadingHTTPServer:
    """The HTTP server: `/metrics`, and `/health` which asks nobody."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in ("/metrics", "/health"):
                self.send_error(404)
                return
            told = (exporter.page() if self.path == "/metrics" else "ok\n").encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: it is asked every few seconds."""

    return ThreadingHTTPServer((host, port), Handler)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--airflow", default="", metavar="URL", help="Airflow's API server; default: it is not asked")
    parser.add_argument("--user", default="viewer", help="who logs in there")
    parser.add_argument("--password-file", type=Path, help="default: no login")
    given = parser.parse_args(arguments)
    settings = load_settings()
    configure_logging(settings.logging)
    exporter = Exporter(sources_of(settings, given.airflow, given.user, given.password_file))
    make_server(exporter, given.host, given.port).serve_forever()


if __name__ == "__main__":
    main()
