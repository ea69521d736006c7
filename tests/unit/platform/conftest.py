"""An Airflow that is none: the same commands and the same few answers, up in a tenth of a second."""

from __future__ import annotations

import socket
import stat
import sys
from pathlib import Path

import pytest

from evergreen.settings import Settings, load_settings

FAKE = '''#!{python}
"""Answers as `airflow` does: `db migrate`, and background commands, of which api-server listens."""
import json, os, sys, time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

command, home = sys.argv[1], Path(os.environ["AIRFLOW_HOME"])
home.mkdir(parents=True, exist_ok=True)
with (home / "commands").open("a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
if os.environ.get("FAKE_FAILS") == command:
    sys.exit("sqlalchemy.exc.OperationalError: unable to open database file")
if command == "db":
    (home / "airflow.db").touch()
    sys.exit()
if command == "dags":
    sys.exit(int(os.environ.get("FAKE_CODE", 0)))
if command != "api-server":
    while True:  # the heartbeat
        (home / command).touch()
        time.sleep(0.05)

DAGS = json.loads(os.environ.get("FAKE_DAGS", "[]"))
ERRORS = json.loads(os.environ.get("FAKE_ERRORS", "{{}}"))
UNHEALTHY = os.environ.get("FAKE_UNHEALTHY", "")


class Answers(BaseHTTPRequestHandler):
    def do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path = self.path.split("?")[0]
        with (home / "requests").open("a") as file:
            file.write(f"{{self.command}} {{path}} {{body}}\\n")
        code, answer = 200, {{}}
        if path.endswith("/monitor/health"):
            answer = {{"metadatabase": {{"status": "healthy"}}, "triggerer": None}}
            for part in ("scheduler", "dag_processor"):
                beat = home / part.replace("_", "-")
                seen = datetime.fromtimestamp(beat.stat().st_mtime, UTC).isoformat() if beat.exists() else None
                status = "unhealthy" if part == UNHEALTHY else "healthy" if seen else None
                answer[part] = {{"status": status, f"latest_{{part}}_heartbeat": seen}}
        elif path.endswith("/api/v2/dags"):
            answer = {{"dags": [{{"dag_id": dag}} for dag in DAGS]}}
        elif path.endswith("/importErrors"):
            answer = {{"import_errors": [{{"filename": file, "stack_trace": trace}} for file, trace in ERRORS.items()]}}
        elif path.endswith("/pools") and (home / "pool").exists():
            code = 409
        elif path.endswith("/pools"):
            (home / "pool").touch()
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    do_GET = do_POST = do_PATCH = do

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", int(os.environ["AIRFLOW__API__PORT"])), Answers).serve_forever()
'''


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def fake_airflow(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose Airflow is the fake one, listening on a free port."""
    program = tmp_path / "bin" / "airflow"
    program.parent.mkdir()
    program.write_text(FAKE.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("evergreen.platform.airflow._airflow", lambda: str(program))
    monkeypatch.setenv("EVERGREEN__AIRFLOW__PORT", str(port))
    monkeypatch.setenv("EVERGREEN__AIRFLOW__START_SECONDS", "10")
    return load_settings()
