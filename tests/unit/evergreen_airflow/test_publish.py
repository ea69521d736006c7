from __future__ import annotations

from datetime import date

import pyarrow as pa
import pytest

from evergreen.errors import LakeError, PublishRefusedError
from evergreen.lake import Lake, latest_release, seal, stage_days
from evergreen.lake.staged_set import StagedSet
from evergreen.lake.staging import begin, new_attempt
from evergreen_airflow.assets import TRANSACTIONS
from evergreen_airflow.operators.publish import PublishOperator

DAY = date(2011, 8, 31)


def staged(lake: Lake, rule: str) -> dict:
    columns = {
        "source": ["drop"],
        "source_row": [1],
        "rule": [rule],
        "detail": [""],
        "line": ["{}"],
        "run_id": ["test"],
    }
    attempt = new_attempt()
    begin(lake, "quarantine", attempt)
    rows = pa.table(columns, schema=lake.table("quarantine").spec.file_schema)
    stage_days(lake, "quarantine", attempt, [(DAY, rows)])
    part = seal(lake, "quarantine", attempt, start=DAY, end=DAY, transform="test/1")
    return StagedSet("transactions", DAY, DAY, DAY, (part,)).save(lake)


def publish(summary: dict, context: dict) -> dict:
    return PublishOperator(task_id="publish", staged=summary, outlets=[TRANSACTIONS]).execute(context)


def test_it_publishes_and_emits_the_day(lake, context):
    made = context()
    published = publish(staged(lake, "a"), made)
    assert published["unchanged"] is False
    assert latest_release(lake, "transactions").digest == published["digest"]
    event = made["outlet_events"][TRANSACTIONS]
    assert event.keys == ["2011-08-31"]
    assert event.extra["digest"] == published["digest"]
    assert event.extra["backfill"] is False


def test_the_same_content_publishes_nothing_new_and_still_emits(lake, context):
    publish(staged(lake, "a"), context())
    again = context()
    published = publish(staged(lake, "a"), again)
    assert published["unchanged"] is True
    assert again["outlet_events"][TRANSACTIONS].keys == ["2011-08-31"]
    assert again["outlet_events"][TRANSACTIONS].extra["unchanged"] is True


def test_the_event_of_a_backfill_says_so(lake, context):
    made = context(run_type="backfill")
    publish(staged(lake, "a"), made)
    assert made["outlet_events"][TRANSACTIONS].extra["backfill"] is True


def test_a_lost_race_emits_nothing(lake, context):
    first, second = staged(lake, "a"), staged(lake, "b")
    publish(first, context())
    lost = context()
    with pytest.raises(PublishRefusedError, match="another writer published"):
        publish(second, lost)
    assert not lost["outlet_events"]


def test_a_manifest_that_is_gone_is_named(context):
    with pytest.raises(LakeError, match=r"no staged set at /nowhere/x.json; run the staging task again"):
        publish({"manifest": "/nowhere/x.json"}, context())


def test_what_is_templated():
    assert PublishOperator.template_fields == ("staged",)
