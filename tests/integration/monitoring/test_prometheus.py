"""Prometheus itself reads its files, alarms ring when they should, and Spark has the figures that are asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest
import yaml

from tests.unit.monitoring.test_watching import COMPOSE, DASHBOARDS, FOLDER, SPARK

IMAGE = "prom/prometheus:v3"


def promtool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs promtool with the project's files where the service has them, and `folder` as /given."""
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode:
        pytest.skip(f"the image {IMAGE} is not here, and tests pull nothing")
    mounts = {
        FOLDER / "prometheus.yaml": "/etc/prometheus/prometheus.yml",
        FOLDER / "rules.yaml": "/etc/prometheus/rules.yaml",
        folder: "/given",
    }
    command = ["docker", "run", "--rm", "--network=none", "--entrypoint=promtool"]
    for source, target in mounts.items():
        command += ["--volume", f"{source}:{target}:ro"]
    return subprocess.run([*command, IMAGE, *arguments], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.docker
def test_prometheus_accepts_its_configuration_and_refuses_a_broken_one(tmp_path: Path) -> None:
    done = promtool("check", "config", "/etc/prometheus/prometheus.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 rules found" in done.stdout
    (tmp_path / "broken.yaml").write_text((FOLDER / "rules.yaml").read_text().replace("up == 0", "up === 0"))
    assert promtool("check", "rules", "/given/broken.yaml", folder=tmp_path).returncode != 0, "control"


@pytest.mark.docker
def test_prometheus_understands_every_panel(tmp_path: Path) -> None:
    targets = [
        target["expr"] for board in DASHBOARDS.values() for panel in board["panels"] for target in panel["targets"]
    ]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(targets)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", "/given/panels.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(targets)} rules found" in done.stdout


RINGS = {
    "TargetDown": ['up{job="spark-worker", instance="spark-worker-1:8081"}', "0x20"],
    "SourceDown": ['evergreen_source_up{source="lake"}', "0x20"],
    "AirflowPartUnhealthy": ['evergreen_airflow_healthy{part="scheduler"}', "0x20"],
    "RunFailed": ['evergreen_airflow_newest_run_failed{dag_id="build_features"}', "1x20"],
    "SparkWorkersMissing": ["metrics_master_aliveWorkers_Value", "1x20"],
    "LedgerFailure": [
        'evergreen_ledger_newest_entry_timestamp_seconds{operation="promote", outcome="failure"}',
        "0x20",
    ],
}
WELL = {"RunFailed": "0x20", "SparkWorkersMissing": "2x20", "LedgerFailure": "-7200x20"}


@pytest.mark.docker
@pytest.mark.parametrize("rings", [True, False], ids=["ill", "well"])
@pytest.mark.parametrize("alarm", RINGS)
def test_an_alarm_rings_when_it_should_and_not_else(tmp_path: Path, alarm: str, rings: bool) -> None:
    series, ill = RINGS[alarm]
    values = ill if rings else WELL.get(alarm, "1x20")
    number = {
        "expr": f'count(ALERTS{{alertname="{alarm}", alertstate="firing"}}) or vector(0)',
        "eval_time": "15m",
        "exp_samples": [{"labels": "{}", "value": int(rings)}],
    }
    test = {"interval": "1m", "input_series": [{"series": series, "values": values}], "promql_expr_test": [number]}
    (tmp_path / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": ["/etc/prometheus/rules.yaml"], "evaluation_interval": "1m", "tests": [test]})
    )
    done = promtool("test", "rules", "/given/tests.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def spark(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A master and a worker with the options of docker-compose.yaml; their pages of figures."""
    home = Path(sysconfig.get_path("purelib")) / "pyspark"
    options = COMPOSE["services"]["spark-master"]["environment"]["SPARK_DAEMON_JAVA_OPTS"]
    environment = {
        **os.environ,
        **{"SPARK_HOME": str(home), "SPARK_DAEMON_JAVA_OPTS": options, "SPARK_DAEMON_MEMORY": "256m"},
        **{"SPARK_WORKER_DIR": str(tmp_path / "work"), "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false"},
    }
    started = [
        _start(home, environment, tmp_path / "master.log", "master.Master", "--port", "27077", "--webui-port", "28181")
    ]
    try:
        _await("http://127.0.0.1:28181/json/", tmp_path / "master.log")
        worker = (
            "worker.Worker",
            "--cores",
            "1",
            "--memory",
            "512m",
            "--webui-port",
            "28182",
            "spark://127.0.0.1:27077",
        )
        started.append(_start(home, environment, tmp_path / "worker.log", *worker))
        _await("http://127.0.0.1:28182/json/", tmp_path / "worker.log")
        paths = {job["job_name"]: job["metrics_path"] for job in _jobs() if "metrics_path" in job}
        yield {
            "spark-master": f"http://127.0.0.1:28181{paths['spark-master']}",
            "spark-worker": f"http://127.0.0.1:28182{paths['spark-worker']}",
        }
    finally:
        for process in started:
            process.kill()
            process.wait()


def _jobs() -> list[dict[str, Any]]:
    return list(yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"])


def _start(home: Path, environment: dict[str, str], log: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [str(home / "bin/spark-class"), f"org.apache.spark.deploy.{name}", "--host", "127.0.0.1", *arguments]
    with log.open("wb") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)


def _read(url: str) -> str:
    with build_opener(ProxyHandler({})).open(url, timeout=5) as answer:
        return str(answer.read().decode())


def _await(url: str, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with suppress(URLError, OSError):
            json.loads(_read(url))
            return
        time.sleep(0.3)
    raise AssertionError(log.read_text()[-2000:])


@pytest.mark.slow
def test_spark_exports_the_figures_that_are_asked_for(spark: dict[str, str]) -> None:
    pages = _read(spark["spark-master"]) + _read(spark["spark-worker"])
    exported = {line.partition("{")[0] for line in pages.splitlines()}
    assert exported >= SPARK
