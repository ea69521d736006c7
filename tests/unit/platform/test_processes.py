from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest

from evergreen.errors import PlatformError
from evergreen.platform.processes import Service, refuse_taken_port, stop

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
WITH_CHILD = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], "
    "start_new_session=True); print(child.pid, flush=True); child.wait()"
)


@pytest.fixture
def service(tmp_path: Path):
    made = Service("sleeper", tmp_path / "run" / "sleeper.pid", tmp_path / "logs" / "sleeper.log")
    yield made
    made.stop(timeout_seconds=0.1)


def wait_for(ready, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_it_outlives_who_started_it_and_stops_when_told(service):
    pid = service.start(SLEEPS, os.environ)
    assert service.pid == pid
    assert os.getpgid(pid) == pid  # a group of its own: ctrl-c at the terminal does not reach it
    assert not service.crashed
    assert service.stop() is True
    assert service.pid is None
    assert not service.crashed  # it was stopped on purpose
    assert service.stop() is False


def test_it_is_started_once(service):
    assert service.start(SLEEPS, os.environ) == service.start(SLEEPS, os.environ)


def test_a_process_that_ended_by_itself_crashed_and_left_its_last_words(service):
    service.start([sys.executable, "-c", "print('first'); raise SystemExit('no database')"], os.environ)
    wait_for(lambda: service.crashed)
    assert service.tail() == "first\nno database"
    assert service.tail(1) == "no database"


def test_a_number_that_another_program_has_now_is_not_ours(service):
    service.start(SLEEPS, os.environ)
    noted = json.loads(service.pid_file.read_text())
    service.stop()
    service.pid_file.write_text(json.dumps({**noted, "pid": os.getpid()}))
    assert service.pid is None


@pytest.mark.parametrize("content", ["", "{}", "12", '{"pid": "x", "started": 1}'])
def test_a_pid_file_that_cannot_be_read_is_no_process(service, content):
    service.pid_file.parent.mkdir(parents=True)
    service.pid_file.write_text(content)
    assert service.pid is None


def test_children_end_too_even_in_other_groups(service):
    service.start([sys.executable, "-c", WITH_CHILD], os.environ)
    wait_for(lambda: service.tail())
    child = psutil.Process(int(service.tail()))
    service.stop()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_what_does_not_listen_is_killed(service):
    service.start([sys.executable, "-c", DEAF], os.environ)
    wait_for(lambda: service.tail())
    assert stop([service], timeout_seconds=0.2) is True
    assert service.pid is None


def test_a_program_that_does_not_exist_is_named(service):
    with pytest.raises(PlatformError, match=r"^/nowhere/airflow does not exist"):
        service.start(["/nowhere/airflow"], os.environ)


def test_a_log_that_was_never_written_is_empty(service):
    assert service.tail() == ""


def test_a_taken_port_is_named_with_its_setting():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PlatformError) as refused:
            refuse_taken_port("127.0.0.1", port, needs="Airflow's web UI", setting="airflow.port")
    message = str(refused.value)
    assert message.startswith(f"port {port} of 127.0.0.1, which Airflow's web UI needs, is in use by ")
    assert message.endswith("or set settings.airflow.port (EVERGREEN__AIRFLOW__PORT=...)")
    refuse_taken_port("127.0.0.1", port, needs="Airflow's web UI", setting="airflow.port")  # free again
