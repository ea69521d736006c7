"""Drift report and gates: what they are asked and what they hand on. Their own rules are tested with `evergreen`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from evergreen_airflow.assets import CHALLENGER
from evergreen_airflow.operators.drift import EvidentlyReportOperator, challenger_from_events
from evergreen_airflow.operators.judge import PromotionGateOperator

NOON = datetime(2011, 9, 1, 12, tzinfo=UTC)


def event(version: str, minutes: int, name: str = CHALLENGER.name) -> SimpleNamespace:
    extra = {"challenger": {"version": version}}
    return SimpleNamespace(asset=SimpleNamespace(name=name), extra=extra, timestamp=NOON + timedelta(minutes=minutes))


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch, settings: Any) -> SimpleNamespace:
    """Stands in for the models, training sets and registry that a judgement reads."""
    seen = SimpleNamespace(challenger=None, judged=None, attached=[])
    reports = settings.home_path / "reports"

    def challenger_of(_settings: Any, day: date) -> dict[str, Any]:
        return {"version": "registry", "data_day": str(day)}

    def drift_of(_settings: Any, challenger: dict[str, Any]) -> dict[str, Any]:
        seen.challenger = challenger
        return {"verdict": "drifted", "reason": "61 % of the columns", "report": str(reports / "drift.html")}

    def judge_challenger(_settings: Any, challenger: dict[str, Any], *, drift: Any, run_id: str) -> dict[str, Any]:
        seen.judged = (challenger, drift, run_id)
        page = str(reports / "evaluation.html")
        verdict = "unchanged" if challenger["version"] == "champion" else "reject"
        pages = {"evaluation": page, "card": str(reports / "model_card.html")}
        return {"verdict": verdict, "reason": "drift", "evidence_digest": "e" * 64, "reports": pages}

    for function in (challenger_of, drift_of, judge_challenger):
        monkeypatch.setattr(f"evergreen.promotion.judge.{function.__name__}", function)
    monkeypatch.setattr(
        "evergreen.promotion.registry_mirror.attach_reports", lambda _, judged: seen.attached.append(judged["verdict"])
    )
    return seen


def test_the_challenger_of_the_event_is_judged(rules, context):
    made = context("2011-08-31", events=[event("2", 0), event("3", 5), event("9", 9, name="features")])
    operator = EvidentlyReportOperator(task_id="drift", day="2011-08-31")
    handed_on = operator.execute(made)
    assert rules.challenger == {"version": "3"}
    assert handed_on["challenger"] == {"version": "3"}
    assert handed_on["drift"]["verdict"] == "drifted"
    assert operator.report_url == "http://127.0.0.1:8080/evergreen/reports/drift.html"


def test_by_hand_it_is_the_registrys_challenger_of_that_day(rules, context):
    EvidentlyReportOperator(task_id="drift", day="2011-08-31").execute(context(None, day="2011-08-31"))
    assert rules.challenger == {"version": "registry", "data_day": "2011-08-31"}


def test_events_without_a_challenger_name_none(context):
    assert challenger_from_events(context()) is None
    assert challenger_from_events(context(events=[event("9", 0, name="features")])) is None


def test_a_no_of_the_gates_is_no_failure(rules, context):
    operator = PromotionGateOperator(task_id="judge", drift={"challenger": {"version": "3"}, "drift": {"verdict": "x"}})
    judged = operator.execute(context())
    assert judged["verdict"] == "reject"
    assert rules.judged == ({"version": "3"}, {"verdict": "x"}, "run-1")
    assert operator.report_url == "http://127.0.0.1:8080/evergreen/reports/evaluation.html"
    assert operator.card_url == "http://127.0.0.1:8080/evergreen/reports/model_card.html"
    assert rules.attached == ["reject"]


def test_what_mlflow_keeps_of_the_champion_is_not_overwritten_by_a_second_look(rules, context):
    given = {"challenger": {"version": "champion"}, "drift": {"verdict": "x"}}
    PromotionGateOperator(task_id="judge", drift=given).execute(context())
    assert rules.attached == []


def test_what_is_templated():
    assert EvidentlyReportOperator.template_fields == ("day",)
    assert PromotionGateOperator.template_fields == ("drift",)
