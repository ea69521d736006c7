"""Prometheus's and Grafana's files: each figure that they name is exported, each target is a service."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any, cast

import pytest
import yaml

from evergreen.jobs.export_metrics import Exporter, airflow_metrics, sources_of
from evergreen.lake import Lake, release
from evergreen.platform.client import AirflowClient
from evergreen.promotion import approvals
from evergreen.settings import Settings
from evergreen.settings.tree import PROJECT
from tests.unit.jobs.test_export_metrics import Airflow
from tests.unit.promotion.conftest import approve, make_evidence, promote_version

__all__ = ["approve", "make_evidence", "promote_version"]  # fixtures

FOLDER = PROJECT / "docker" / "monitoring"
PROMETHEUS: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
DASHBOARDS = {
    path.name: json.loads(path.read_text()) for path in sorted((FOLDER / "grafana/dashboards").glob("*.json"))
}
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yaml").read_text())

# As tests/integration/monitoring reads them from a master and a worker.
SPARK = {
    f"metrics_{figure}_Value"
    for figure in (
        *("master_aliveWorkers", "master_apps", "master_waitingApps", "worker_executors"),
        *("worker_coresFree", "worker_coresUsed", "worker_memFree_MB", "worker_memUsed_MB"),
    )
}


def named(expression: str) -> set[str]:
    """Figures that an expression names."""
    return set(re.findall(r"\b(?:evergreen|metrics)_\w+", re.sub(r"\{[^}]*\}", "", expression)))


@pytest.fixture
def exported(settings: Settings, lake: Lake, promote_version: Any, make_evidence: Any) -> set[str]:
    """All figures of an exporter of a platform in which everything has happened once."""
    promote_version("1")
    approvals.request(settings, make_evidence("2", generation=1), user="airflow")
    release(lake, "transactions", day=date(2011, 8, 31), digest="t", versions={}, inputs={})
    sources = sources_of(settings, "", "viewer", None)
    sources["airflow"] = lambda: airflow_metrics(cast(AirflowClient, Airflow()))
    return set(re.findall(r"^# TYPE (\S+)", Exporter(sources).page(), re.MULTILINE))


def test_every_figure_of_an_alarm_or_a_panel_is_exported(exported: set[str]) -> None:
    expressions = [rule["expr"] for rule in RULES]
    expressions += [
        target["expr"] for board in DASHBOARDS.values() for panel in board["panels"] for target in panel["targets"]
    ]
    wanted = set().union(*map(named, expressions))
    assert wanted - exported - SPARK == set()
    assert exported - wanted <= {"evergreen_champion_data_timestamp_seconds"}, "what nobody looks at"
    assert {"evergreen_source_up", "metrics_master_apps_Value"} <= wanted, "control: names are found"


def test_every_alarm_says_what_is_wrong_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 8
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in ("page", "warn")
        for path in re.findall(r"docs/[\w/-]+\.md", rule["annotations"]["action"]):
            assert (PROJECT / path).is_file(), path


def test_what_prometheus_asks_are_services_on_its_networks() -> None:
    services, mine = COMPOSE["services"], set(COMPOSE["services"]["prometheus"]["networks"])
    for job in PROMETHEUS["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            host = target.partition(":")[0]
            assert host == "127.0.0.1" or mine & set(services[host]["networks"]), host


def test_every_dashboard_has_a_place_of_its_own_and_grafanas_one_source() -> None:
    assert set(DASHBOARDS) == {"airflow.json", "loop.json", "spark.json"}
    assert len({board["uid"] for board in DASHBOARDS.values()}) == len(DASHBOARDS)
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    for board in DASHBOARDS.values():
        assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["uid"]}
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        assert len(set(places)) == len(places)


def test_the_monitoring_services_start_with_their_profile_alone() -> None:
    watching = {name for name, service in COMPOSE["services"].items() if service.get("profiles") == ["monitoring"]}
    assert watching == {"exporter", "prometheus", "grafana", "monitoring-init"}
