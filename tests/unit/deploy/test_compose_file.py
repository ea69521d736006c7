"""docker-compose.yaml keeps what it promises: limits, no privileges, no secret in the environment, closed networks."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from evergreen.settings.tree import PROJECT

TEXT = (PROJECT / "docker-compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PUBLISHED = {"api-server", "serving", "grafana"}
SECRET = re.compile(r"PASSWORD|SECRET|FERNET|SQL_ALCHEMY_CONN|BROKER_URL|RESULT_BACKEND|LEDGER_URL")
NO_DATABASE = "sqlite://"
STARTS_AS_ROOT = {
    "postgres": {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"},
    "redis-init": {"CHOWN"},
    "monitoring-init": {"CHOWN"},
}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_limits_and_no_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert {"mem_limit", "pids_limit"} <= set(service)
    assert set(service.get("cap_add", ())) == STARTS_AS_ROOT.get(name, set())
    assert not {"privileged", "pid", "ipc", "devices", "userns_mode"} & set(service)
    assert not service["image"].endswith(":latest")
    assert ":" in service["image"]


@pytest.mark.parametrize("name", [name for name in SERVICES if not name.endswith("-init")])
def test_every_service_that_stays_is_checked_and_restarted(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_only_the_doors_are_published_and_on_this_machine_alone() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == PUBLISHED
    assert all(
        port.startswith("${EVERGREEN_BIND:-127.0.0.1}:") for name in PUBLISHED for port in SERVICES[name]["ports"]
    )


def test_all_networks_but_the_front_are_closed() -> None:
    closed = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    assert set(COMPOSE["networks"]) - closed == {"front"}
    assert {name for name, service in SERVICES.items() if "front" in service.get("networks", ())} == PUBLISHED


def test_the_engine_is_reached_by_the_broker_and_the_broker_by_the_workers_alone() -> None:
    assert {name for name, service in SERVICES.items() if "docker.sock" in str(service.get("volumes"))} == {"broker"}
    assert {name for name, service in SERVICES.items() if "engine" in service.get("networks", ())} == {
        "broker",
        "worker",
    }


def test_no_secret_stands_in_an_environment() -> None:
    """Names that mean a secret must end in _CMD or _FILE, or name a place."""
    for name, service in SERVICES.items():
        for key, value in (service.get("environment") or {}).items():
            if value != NO_DATABASE and SECRET.search(key):
                assert key.endswith(("_CMD", "_FILE")), f"{name}: {key}={value}"
                assert "/run/secrets/" in value or value == "/tmp/passwords.json", f"{name}: {key}={value}"


def test_older_and_newer_compose_can_read_it() -> None:
    assert "name" not in COMPOSE
    assert "include" not in COMPOSE
    assert not re.search(r"^(\s*)<<: .*\n\1<<: ", TEXT, re.MULTILINE), "newer ones refuse a key twice"


def test_a_worker_knows_neither_airflows_database_nor_its_keys() -> None:
    """Task code of Airflow 3 talks to the API server with a token of its own; `airflow celery worker` asks Redis."""
    named = set(re.findall(r"/run/secrets/(airflow_\w+)", str(SERVICES["worker"]["environment"])))
    mounted = {str(secret) for secret in SERVICES["worker"]["secrets"] if str(secret).startswith("airflow_")}
    assert named == mounted == set()
    assert SERVICES["worker"]["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == NO_DATABASE
    assert "celery_url" in SERVICES["worker"]["secrets"]
    scheduler = SERVICES["scheduler"]
    assert set(re.findall(r"/run/secrets/(\w+)", str(scheduler["environment"]))) == set(scheduler["secrets"]), "control"


def test_what_nobody_chose_has_a_default_where_it_is_empty() -> None:
    """Going back sets what the release before did not have to an empty value."""
    assert re.findall(r"\$\{\w+[^:\w][^}]*\}|\$\{\w+\}", TEXT.replace("$$", "")) == []
    assert len(re.findall(r"\$\{\w+:-", TEXT)) > 50, "control: they are found"


def test_sparks_master_takes_no_jobs_over_http() -> None:
    """It listens on 6066 unless it is told not to, and asks nobody who he is."""
    assert "-Dspark.master.rest.enabled=false" in SERVICES["spark-master"]["environment"]["SPARK_DAEMON_JAVA_OPTS"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_reads_only_secrets_that_it_has(name: str) -> None:
    service = SERVICES[name]
    had = {secret if isinstance(secret, str) else secret["source"] for secret in service.get("secrets", ())}
    read = set(re.findall(r"/run/secrets/(\w+)", str([service.get("environment"), service.get("command")])))
    assert read <= had <= set(COMPOSE["secrets"])


def test_a_spark_master_that_comes_back_finds_its_applications() -> None:
    """Without its state it would kill executors that it does not know, and their driver would wait for ever."""
    master = SERVICES["spark-master"]
    state = re.search(r"spark\.deploy\.recoveryDirectory=(\S+)", master["environment"]["SPARK_DAEMON_JAVA_OPTS"])
    assert state is not None
    assert "spark.deploy.recoveryMode=FILESYSTEM" in master["environment"]["SPARK_DAEMON_JAVA_OPTS"]
    assert f"spark_master:{state[1]}" in master["volumes"]
    assert "spark_master" in COMPOSE["volumes"]
