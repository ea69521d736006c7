from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from evergreen.errors import EvergreenError
from evergreen.lake import Lake, release
from evergreen_airflow.operators.feast import FeastMaterializeOperator
from evergreen_airflow.operators.scoring import ScoreOperator


@pytest.fixture
def champion(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(version="3", bundle_digest="b" * 64)
    monkeypatch.setattr("evergreen.promotion.champion.current", lambda settings: found)


def test_before_the_first_promotion_nothing_is_scored(context):
    with pytest.raises(AirflowSkipException, match=r"^there is no champion yet: promote_model makes the first one$"):
        ScoreOperator(task_id="score", day="2011-08-31").execute(context())


@pytest.mark.usefixtures("champion")
def test_an_older_day_is_not_scored(context, lake: Lake):
    release(lake, "features", day=date(2011, 8, 31), digest="d", versions={}, inputs={})
    with pytest.raises(AirflowSkipException, match="2011-08-30 is not the newest published day, 2011-08-31 is"):
        ScoreOperator(task_id="score", day="2011-08-30").execute(context())


@pytest.mark.usefixtures("champion")
def test_the_job_scores_as_of_the_next_day_with_the_champions_bundle(context, settings):
    """The real job runs, and refuses since there is no such bundle."""
    operator = ScoreOperator(task_id="score", day="2011-08-31", force="True")
    with pytest.raises(EvergreenError, match="b" * 64):
        operator.execute(context())
    command = operator._job.command
    assert command[command.index("--as-of") + 1] == "2011-09-01"
    assert command[command.index("--model-version") + 1] == "3"
    assert command[command.index("--bundle") + 1] == str(settings.home_path / "models" / ("b" * 64))
    operator.on_kill()


def test_nothing_to_kill_before_it_runs():
    ScoreOperator(task_id="score", day="").on_kill()
    assert ScoreOperator.template_fields == ("day", "force")


def test_materializing_brings_the_newest_release_online_and_emits_the_day(context, lake: Lake, monkeypatch):
    from evergreen_airflow.assets import FEATURES

    release(lake, "features", day=date(2011, 8, 31), digest="d", versions={}, inputs={})
    asked = []

    def materialize(settings, found):
        asked.append(found.sequence)
        return {"rows": {"pair_state": 7}}

    monkeypatch.setattr("evergreen.features.materialize.materialize", materialize)
    published = {
        "day": "2011-08-31",
        "digest": "d",
        "release": 1,
        "unchanged": False,
        "earliest_changed": "2011-08-31",
        "rows": 7,
    }
    made = context()
    operator = FeastMaterializeOperator(task_id="materialize", published=published, outlets=[FEATURES])
    assert operator.execute(made) == {"rows": {"pair_state": 7}}
    assert asked == [1]
    assert made["outlet_events"][FEATURES].keys == ["2011-08-31"]
    assert made["outlet_events"][FEATURES].extra["release"] == 1
