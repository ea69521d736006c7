from __future__ import annotations

from types import SimpleNamespace

import pytest

from evergreen_airflow.links import CardLink, DataDocsLink, MlflowLink, QualityLink, ReportLink, report_url


@pytest.mark.parametrize(
    ("link", "attribute"),
    [
        (DataDocsLink(), "docs_url"),
        (QualityLink(), "quality_url"),
        (ReportLink(), "report_url"),
        (CardLink(), "card_url"),
        (MlflowLink(), "mlflow_url"),
    ],
)
def test_a_link_is_what_its_operator_noted(link, attribute):
    key = SimpleNamespace()
    assert link.get_link(SimpleNamespace(**{attribute: "http://x/y"}), ti_key=key) == "http://x/y"
    assert link.get_link(SimpleNamespace(), ti_key=key) == ""


def test_a_report_has_an_address_at_the_api_server(settings):
    file = settings.home_path / "reports" / "quality" / "index.html"
    assert report_url(settings, file) == "http://127.0.0.1:8080/evergreen/reports/quality/index.html"


@pytest.mark.parametrize("file", [None, "/etc/passwd", "reports/../../secret.html"])
def test_a_file_elsewhere_has_none(settings, file):
    place = None if file is None else settings.home_path / file
    assert report_url(settings, place) == ""
