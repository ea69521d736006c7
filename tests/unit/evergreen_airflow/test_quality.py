from __future__ import annotations

from types import SimpleNamespace

import pytest

from evergreen.errors import DataQualityError
from evergreen.settings import Settings
from evergreen_airflow.operators.quality import GreatExpectationsOperator


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, settings: Settings):
    """Stands in for Great Expectations, which has tests of its own: what it was asked, and what it answers."""
    seen = SimpleNamespace(asked=None, error=None)

    def validate(
        suite: str, source: object, _settings: Settings, *, run_id: str, accept_volume: bool
    ) -> SimpleNamespace:
        seen.asked = (suite, source, run_id, accept_volume)

        def raise_if_failed() -> None:
            if seen.error:
                raise seen.error

        folder = settings.home_path / "reports" / "quality" / suite
        pages = {"docs_path": folder / "index.html", "page_path": folder / "quality.html"}
        return SimpleNamespace(**pages, summary=lambda: {"success": True}, raise_if_failed=raise_if_failed)

    monkeypatch.setattr("evergreen.quality.runner.validate", validate)
    return seen


@pytest.mark.parametrize(("text", "accepted"), [("True", True), ("False", False), ("", False), ("None", False)])
def test_it_asks_for_the_suite_and_returns_the_summary(runner, context, text, accepted):
    operator = GreatExpectationsOperator(
        task_id="check", suite="features", staged={"manifest": "m"}, accept_volume=text
    )
    assert operator.execute(context()) == {"success": True}
    assert runner.asked == ("features", {"manifest": "m"}, "run-1", accepted)


def test_a_failure_stops_the_task_and_leaves_the_link(runner, context):
    runner.error = DataQualityError("2011-08-31 has 12 lines, expected at least 380")
    operator = GreatExpectationsOperator(task_id="check", suite="transactions", staged={})
    with pytest.raises(DataQualityError, match="2011-08-31 has 12 lines, expected at least 380"):
        operator.execute(context())
    assert operator.docs_url == "http://127.0.0.1:8080/evergreen/reports/quality/transactions/index.html"
    assert operator.quality_url == "http://127.0.0.1:8080/evergreen/reports/quality/transactions/quality.html"
