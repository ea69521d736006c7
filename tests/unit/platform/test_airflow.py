from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from evergreen.errors import PlatformError
from evergreen.platform.airflow import CONSUMERS_FIRST, HEAVY_POOL, LocalAirflow, ensure_up
from evergreen.settings import Settings, load_settings
from evergreen.settings.workspace import choose


@pytest.fixture
def airflow(fake_airflow: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAKE_DAGS", json.dumps([*CONSUMERS_FIRST, "somebody_elses"]))
    made = LocalAirflow(fake_airflow)
    yield made
    made.stop()


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def test_it_comes_up_healthy_with_pool_and_dags_consumers_first(airflow):
    said: list[str] = []
    status = airflow.start(said.append)
    assert status.state == "up"
    assert status.parts == dict.fromkeys(("api-server", "scheduler", "dag-processor"), "running")
    assert said == ["preparing Airflow's database", "starting Airflow", "waiting for the DAGs"]
    requests = lines(airflow.home / "requests")
    assert any(request.startswith("POST /api/v2/pools") and HEAVY_POOL in request for request in requests)
    patched = [request.split()[1] for request in requests if request.startswith("PATCH /api/v2/dags/")]
    unpaused = [path.rsplit("/", 1)[1] for path in patched]
    assert unpaused == list(CONSUMERS_FIRST)


def test_starting_again_changes_nothing_and_leaves_paused_dags_alone(airflow):
    airflow.start()
    pids = {name: service.pid for name, service in airflow.services.items()}
    before = lines(airflow.home / "requests")
    assert airflow.start().state == "up"
    assert {name: service.pid for name, service in airflow.services.items()} == pids
    since = lines(airflow.home / "requests")[len(before) :]
    assert not [request for request in since if request.startswith("PATCH /api/v2/dags/")]
    assert lines(airflow.home / "commands").count("db migrate") == 1


def test_it_goes_down_and_says_what_it_is(airflow):
    assert airflow.status().state == "down"
    assert airflow.stop() is False
    airflow.start()
    assert airflow.stop() is True
    assert airflow.status().parts == dict.fromkeys(("api-server", "scheduler", "dag-processor"), "stopped")


def test_what_died_is_started_again(airflow):
    airflow.start()
    airflow.services["scheduler"].process.kill()
    while airflow.services["scheduler"].pid:
        pass
    assert airflow.status().state == "degraded"
    assert airflow.status().parts["scheduler"] == "crashed"
    assert airflow.start().state == "up"


def test_a_part_without_a_heartbeat_is_seen(airflow, monkeypatch):
    monkeypatch.setenv("FAKE_UNHEALTHY", "dag_processor")
    status = airflow.start()
    assert status.state == "degraded"
    assert status.parts["dag-processor"] == "running, unhealthy"


@pytest.mark.parametrize("command", ["scheduler", "api-server"])
def test_a_process_that_dies_shows_the_end_of_its_log(airflow, monkeypatch, command):
    monkeypatch.setenv("FAKE_FAILS", command)
    with pytest.raises(PlatformError) as died:
        airflow.start()
    log = airflow.settings.home_path / "logs" / f"airflow-{command}.log"
    reason = "sqlalchemy.exc.OperationalError: unable to open database file"
    assert str(died.value) == f"airflow {command} stopped: {reason} (log: {log})"


def test_a_database_that_cannot_be_made_says_why(airflow, monkeypatch):
    monkeypatch.setenv("FAKE_FAILS", "db")
    with pytest.raises(PlatformError, match=r"airflow db migrate ended with code 1: .*unable to open database file"):
        airflow.start()


def test_a_port_in_use_is_named_before_anything_is_started(airflow, port):
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(PlatformError, match=rf"^port {port} of 127.0.0.1, which Airflow's web UI needs, is in use"):
            airflow.start()
    assert airflow.status().state == "down"
    assert not lines(airflow.home / "commands")


def test_not_healthy_in_time_names_the_setting(airflow, monkeypatch):
    monkeypatch.setattr("evergreen.platform.client.AirflowClient.alive_since", lambda *_: False)
    monkeypatch.setenv("EVERGREEN__AIRFLOW__START_SECONDS", "0.5")
    slow = LocalAirflow(load_settings())
    with pytest.raises(PlatformError, match=r"was not healthy after 0 s \(settings.airflow.start_seconds\)"):
        slow.start()


def test_a_dag_that_cannot_be_imported_is_named(airflow, monkeypatch):
    trace = "Traceback:\n  File x\nModuleNotFoundError: No module named 'nothing'\n"
    monkeypatch.setenv("FAKE_DAGS", "[]")
    monkeypatch.setenv("FAKE_ERRORS", json.dumps({"score_batch.py": trace, "other.py": "SyntaxError: x"}))
    with pytest.raises(PlatformError, match=r"^dags/score_batch.py cannot be imported: ModuleNotFoundError"):
        airflow.start()


def test_a_command_runs_in_the_foreground_with_its_database_ready(airflow, monkeypatch):
    monkeypatch.setenv("FAKE_CODE", "3")
    assert airflow.command(["dags", "test", "build_features"]) == 3
    assert lines(airflow.home / "commands") == ["db migrate", "dags test build_features"]


def test_another_workspace_gives_up_the_port(airflow, fake_airflow):
    choose(fake_airflow.root_path, "sample")
    airflow.start()
    services = airflow.services
    choose(fake_airflow.root_path, "shop.csv")
    said: list[str] = []
    ensure_up(load_settings(), said.append)
    assert said[0] == f"stopping the Airflow of {fake_airflow.root_path}"
    assert not any(service.pid for service in services.values())
    assert airflow.status().state == "up"
    assert airflow.home == fake_airflow.root_path / "workspaces" / "shop-csv" / "airflow"


def test_the_environment_is_all_that_airflow_is_told(settings):
    told = LocalAirflow(settings).environment()
    assert told["AIRFLOW_HOME"] == str(settings.home_path / "airflow")
    assert told["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert told["AIRFLOW__API__PORT"] == "8080"
    assert told["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8080/execution/"
    assert told["EVERGREEN_HOME"] == str(settings.home_path)
    assert json.loads(told["AIRFLOW_CONN_SPARK_DEFAULT"])["host"] == "local[*]"
    assert [Path(folder).name for folder in told["PYTHONPATH"].split(os.pathsep)][:2] == ["include", "plugins"]
    assert "127.0.0.1" in told["NO_PROXY"]


def test_secrets_are_made_once_and_are_the_owners_alone(settings):
    airflow = LocalAirflow(settings)
    first, second = airflow.environment(), airflow.environment()
    for name in ("API__SECRET_KEY", "API_AUTH__JWT_SECRET", "CORE__FERNET_KEY"):
        assert first[f"AIRFLOW__{name}"] == second[f"AIRFLOW__{name}"]
        assert len(first[f"AIRFLOW__{name}"]) >= 40
    assert stat.S_IMODE((airflow.home / "secrets.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("told", "needed"),
    [
        ({}, False),
        ({"EVERGREEN__AIRFLOW__HOST": "0.0.0.0"}, True),
        ({"EVERGREEN__PROMOTION__APPROVERS": "[ada]"}, True),
        ({"EVERGREEN__AIRFLOW__LOGIN": "password"}, True),
        ({"EVERGREEN__AIRFLOW__LOGIN": "none", "EVERGREEN__PROMOTION__APPROVERS": "[ada]"}, False),
    ],
)
def test_a_login_is_needed_where_others_come_in_or_somebody_must_be_known(monkeypatch, told, needed):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    airflow = LocalAirflow(load_settings())
    assert airflow.needs_login is needed
    assert airflow.environment()["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == str(not needed)


def test_approvers_can_log_in(monkeypatch):
    monkeypatch.setenv("EVERGREEN__PROMOTION__APPROVERS", "[ada, bob]")
    told = LocalAirflow(load_settings()).environment()
    assert told["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "admin:admin,ada:user,bob:user"


def test_passwords_are_generated_once_for_admin_and_each_approver(monkeypatch):
    monkeypatch.setenv("EVERGREEN__AIRFLOW__LOGIN", "password")
    airflow = LocalAirflow(load_settings())
    user, password = airflow._password()
    assert (user, airflow._password()[1]) == ("admin", password)
    monkeypatch.setenv("EVERGREEN__PROMOTION__APPROVERS", "[ada]")
    known = LocalAirflow(load_settings())._passwords()
    assert known["admin"] == password
    assert len(known["ada"]) >= 12
    file = airflow.home / "passwords.json"
    assert json.loads(file.read_text()) == known
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_triggerer_runs_where_the_settings_ask_for_one(monkeypatch):
    monkeypatch.setenv("EVERGREEN__AIRFLOW__TRIGGERER", "true")
    assert "triggerer" in LocalAirflow(load_settings()).services
