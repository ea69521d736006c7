"""The page of a report says what the report says, and needs nothing from the network."""

from __future__ import annotations

import re
from pathlib import Path

from evergreen.quality.checks import Severity, none_where
from evergreen.quality.page import quality_page, shown
from evergreen.quality.runner import CheckResult, QualityReport


def result(name: str, observed: int, *, severity: Severity = Severity.FAIL) -> CheckResult:
    check = none_where("t<i>", name, "x < 0", f"why {name}", severity=severity)
    return CheckResult(check, observed == 0, True, observed, f"{name} is {observed}" if observed else "")


COLUMN = {"type": "DOUBLE", "filled_share": 0.5, "distinct": 3, "min": 1.0, "max": "<b>", "quantiles": {"0.5": 2.5}}
PROFILES = {"t<i>": {"rows": 10, "read_rows": 4, "columns": {"price": COLUMN}}}


def page(*results: CheckResult) -> str:
    return quality_page(QualityReport("s", results, {"t<i>": 10}, 0.5, 1.0, Path("x"), 0.1), PROFILES)


def test_what_stops_the_run_stands_first_and_what_holds_last() -> None:
    text = page(result("fine", 0), result("odd", 2, severity=Severity.WARN), result("broken", 1_234))
    rows = re.findall(r'class="left (\w+)">\w+</td>\s*<td>([\d,]+)</td>', text)
    assert rows == [("failed", "1,234"), ("warned", "2"), ("passed", "0")]
    assert '<span class="failed">failed</span>: 1 of 3 checks hold, 1 stop the run, 1 warn.' in text
    assert "why fine" in text
    assert "broken is 1234" in text


def test_a_good_report_shows_all_of_its_checks() -> None:
    text = page(result("fine", 0))
    assert '<span class="passed">passed</span>: 1 of 1 checks hold.' in text
    assert "<details open>" in text


def test_what_the_data_says_is_escaped_and_nothing_is_fetched() -> None:
    text = page(result("fine", 0))
    assert "t&lt;i&gt;: 10 rows, figures of a sample of 4" in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert not re.search(r'(src|href)="(https?:)?//', text)


def test_figures_are_shown_as_people_read_them() -> None:
    assert [shown(value) for value in (None, 1234, 0.12345678, "a")] == ["", "1,234", "0.1235", "a"]
