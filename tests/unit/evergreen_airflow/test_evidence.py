from __future__ import annotations

from typing import Any

import pytest

from evergreen.promotion.evidence import Evidence
from evergreen_airflow.evidence import body, subject


def evidence(**changes: Any) -> Evidence:
    document = {
        "model": {"version": "7", "bundle_digest": "b" * 64},
        "data_day": "2011-08-31",
        "champion": {"generation": 3, "version": "6"},
        "verdict": "promote",
        "evaluation": {
            "metrics": {
                "roc_auc": {"value": 0.83412, "low": 0.8291, "high": 0.8393},
                "average_precision": {"value": 0.2471, "low": None, "high": 0.26},
            }
        },
        "gates": [
            {"name": "calibration", "status": "passed", "reason": ""},
            {"name": "superiority", "status": "inconclusive", "reason": "gains 0.001 | <b>wide</b>\ninterval"},
        ],
        "reports": {"evaluation": "judgements/x/evaluation.html", "outside": "../../etc/passwd"},
    }
    return Evidence("e" * 64, document | changes)


def test_the_subject_names_version_day_and_digest():
    assert subject(evidence()) == "Promote version 7 (data of 2011-08-31)? Evidence eeeeeeeeeeee"


def test_the_body_shows_what_is_approved(settings):
    text = body(evidence(), settings)
    assert f"`{'e' * 64}`" in text
    assert f"`{'b' * 64}`" in text
    assert "**Champion now**: version 6, generation 3" in text
    assert "| roc_auc | 0.8341 | 0.8291 to 0.8393 |" in text
    assert "| average_precision | 0.2471 | None to 0.2600 |" in text
    assert "| calibration | ✓ passed |  |" in text
    assert "[evaluation](http://127.0.0.1:8080/evergreen/reports/judgements/x/evaluation.html)" in text
    assert "etc/passwd" not in text


def test_a_reason_can_neither_break_the_table_nor_bring_html(settings):
    line = next(line for line in body(evidence(), settings).splitlines() if "superiority" in line)
    assert line == "| superiority | ? inconclusive | gains 0.001 \\| &lt;b>wide&lt;/b> interval |"


@pytest.mark.parametrize("key", ["evaluation", "gates", "reports"])
def test_what_the_document_lacks_is_left_out(settings, key):
    assert body(evidence(**{key: type(evidence().document[key])()}), settings)


def test_a_cold_start_has_no_champion(settings):
    assert "**Champion now**: none" in body(evidence(champion={"generation": 0, "version": None}), settings)
