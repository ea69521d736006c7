"""Figures of the loop: taken from a real ledger and a real lake."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from evergreen.lake import Lake, release
from evergreen.monitoring.exposition import Metric, by_label, exposition, gauge
from evergreen.monitoring.loop import disk_metrics, lake_metrics, ledger_metrics, seconds
from evergreen.promotion import approvals
from evergreen.promotion.champion import Champion
from evergreen.promotion.database import ledger_engine
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.settings import Settings
from tests.unit.promotion.conftest import approve, make_evidence, promote_version

__all__ = ["approve", "make_evidence", "promote_version"]  # fixtures


def values(metrics: list[Metric]) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        metric.name: {tuple(labels.values()): value for labels, value in metric.samples}  # by the labels' values
        for metric in metrics
    }


def test_the_ledger_tells_entries_champion_and_what_waits(
    settings: Settings, promote_version: Callable[..., Champion], make_evidence: Callable[..., str]
) -> None:
    promote_version("1", day="2011-08-30")
    promote_version("2", generation=1, day="2011-08-31")
    Ledger(settings).append(Entry("score", outcome="failure", timestamp="2011-09-01T00:00:00+00:00"))
    approvals.request(settings, make_evidence("3", generation=2), user="airflow")
    found = values(ledger_metrics(ledger_engine(settings), settings.mlflow.model_name))
    entries = found["evergreen_ledger_entries_total"]
    assert (entries["promote", "success"], entries["score", "failure"]) == (2, 1)
    assert sum(entries.values()) == len(Ledger(settings).entries())
    newest = found["evergreen_ledger_newest_entry_timestamp_seconds"]
    assert newest["score", "failure"] == datetime(2011, 9, 1, tzinfo=UTC).timestamp()
    assert found["evergreen_champion_generation"] == {(): 2}
    assert found["evergreen_champion_data_timestamp_seconds"] == {(): datetime(2011, 8, 31, tzinfo=UTC).timestamp()}
    assert found["evergreen_approvals_waiting"] == {(): 1}
    assert datetime.now(UTC).timestamp() - found["evergreen_approval_requested_timestamp_seconds"][()] < 60


def test_an_answered_approval_waits_no_more(settings: Settings, promote_version: Callable[..., Champion]) -> None:
    promote_version("1")
    found = values(ledger_metrics(ledger_engine(settings), settings.mlflow.model_name))
    assert found["evergreen_approvals_waiting"] == {(): 0}
    assert "evergreen_approval_requested_timestamp_seconds" not in found


def test_a_ledger_without_entries_has_no_figures_and_is_left_as_it_is(settings: Settings) -> None:
    assert ledger_metrics(ledger_engine(settings), settings.mlflow.model_name) == []
    assert ledger_metrics(ledger_engine(settings), settings.mlflow.model_name) == []


def test_another_models_champion_is_not_this_ones(settings: Settings, promote_version: Callable[..., Champion]) -> None:
    promote_version("1")
    assert values(ledger_metrics(ledger_engine(settings), "another"))["evergreen_champion_generation"] == {(): 0}


def test_the_lake_tells_what_releases_cover_also_days_without_rows(lake: Lake) -> None:
    for number, day in enumerate((date(2011, 8, 30), date(2011, 8, 31))):
        release(lake, "transactions", day=day, digest=str(number), versions={}, inputs={})
    release(lake, "features", day=date(2011, 8, 30), digest="f", versions={}, inputs={})
    found = values(lake_metrics(lake))
    days = found["evergreen_release_day_timestamp_seconds"]
    assert days == {("features",): seconds("2011-08-30"), ("transactions",): seconds("2011-08-31")}
    assert found["evergreen_table_rows"] == {("releases",): 3}


def test_an_empty_lake_has_no_days(lake: Lake) -> None:
    assert values(lake_metrics(lake))["evergreen_release_day_timestamp_seconds"] == {}


def test_the_disk_is_that_of_the_home(settings: Settings) -> None:
    settings.home_path.mkdir(parents=True, exist_ok=True)
    found = values(disk_metrics(settings))
    assert 0 < found["evergreen_disk_free_bytes"][()] < found["evergreen_disk_size_bytes"][()]


@pytest.mark.parametrize(
    "moment", ["2011-08-31", "2011-08-31T00:00:00+00:00", "2011-08-31T02:00:00+02:00", "2011-08-31T00:00:00"]
)
def test_times_are_utc(moment: str) -> None:
    assert seconds(moment) == 1314748800


def test_the_page_is_what_prometheus_own_client_reads_back() -> None:
    """An independent reader: prometheus_client's parser."""
    from prometheus_client.parser import text_string_to_metric_families

    awkward = 'a "quoted" \\ path\nand a line'
    given = [
        gauge("plain", awkward, math.pi),
        by_label("labelled", "Two.", "part", {awkward: 1.0, "b": -2.5}),
        Metric("counted_total", "A counter.", (({"x": "1", "y": "2"}, 1e15 + 1),), "counter"),
    ]
    read = {family.name: family for family in text_string_to_metric_families(exposition(given))}
    assert read["plain"].documentation == awkward
    assert read["plain"].samples[0].value == math.pi
    assert {sample.labels["part"]: sample.value for sample in read["labelled"].samples} == {awkward: 1.0, "b": -2.5}
    assert read["counted"].type == "counter"
    assert read["counted"].samples[0].value == 1e15 + 1
