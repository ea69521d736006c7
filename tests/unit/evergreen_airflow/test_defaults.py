from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest

from evergreen.errors import DataQualityError, PublishRefusedError
from evergreen_airflow.assets import FEATURES, TRANSACTIONS
from evergreen_airflow.defaults import DAY, RETRY_POLICY, day_param, emit, is_backfill, parse_day, resolve_day


def event(**extra: object) -> SimpleNamespace:
    return SimpleNamespace(extra=extra)


def test_the_partition_key_wins_over_the_param(context):
    assert resolve_day(context("2011-08-31", day="2010-01-01")) == date(2011, 8, 31)


def test_without_a_key_the_param_is_the_day(context):
    assert resolve_day(context(None, day="2011-08-30")) == date(2011, 8, 30)


def test_a_run_without_a_day_says_so(context):
    with pytest.raises(ValueError, match="run run-1 has no partition key and no param `day`: give a day, YYYY-MM-DD"):
        resolve_day(context(None, day=None))


@pytest.mark.parametrize("text", ["31.08.2011", "2011-08-31T00:00:00", "2011-02-30", "yesterday"])
def test_what_is_no_day_is_refused(text):
    with pytest.raises(ValueError, match="is no day of data, expected YYYY-MM-DD such as 2011-08-31"):
        parse_day(text)


@pytest.mark.parametrize(
    ("key", "day", "expected"),
    [("2011-08-31", None, "2011-08-31"), (None, "2011-08-30", "2011-08-30"), (None, None, "")],
)
def test_the_template_says_the_same_as_the_function(key, day, expected):
    from jinja2 import Template

    rendered = Template(DAY).render(dag_run=SimpleNamespace(partition_key=key), params=SimpleNamespace(day=day))
    assert rendered == expected


def test_a_day_param_takes_a_date_or_nothing():
    param = day_param("Which day.")
    assert param.resolve() is None
    assert param.resolve("2011-08-31") == "2011-08-31"
    with pytest.raises(Exception, match="date"):
        param.resolve("31.08.2011")


def test_a_backfill_is_known_by_its_run_or_by_all_events_behind_it(context):
    assert is_backfill(context(run_type="backfill"))
    assert is_backfill(context(run_type="asset_triggered", events=[event(backfill=True), event(backfill=True)]))
    assert not is_backfill(context(run_type="asset_triggered", events=[event(backfill=True), event(backfill=False)]))
    assert not is_backfill(context(run_type="asset_triggered", events=[event()]))
    assert not is_backfill(context())


def test_an_event_carries_its_day_however_the_run_was_started(context):
    for made in (context("2011-08-31"), context(None, day="2011-08-31")):
        emit(made, [TRANSACTIONS, FEATURES], date(2011, 8, 31), {"digest": "abc"})
        for asset in (TRANSACTIONS, FEATURES):
            assert made["outlet_events"][asset].keys == ["2011-08-31"]
            assert made["outlet_events"][asset].extra == {"day": "2011-08-31", "backfill": False, "digest": "abc"}


@pytest.mark.parametrize(
    ("error", "action"),
    [(DataQualityError("x"), "fail"), (PublishRefusedError("x"), "retry"), (MemoryError(), "default")],
)
def test_only_what_may_go_better_is_retried(error, action):
    assert RETRY_POLICY.evaluate(error, 1, 2).action.value == action
