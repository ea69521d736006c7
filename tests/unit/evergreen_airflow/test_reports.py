from __future__ import annotations

from pathlib import Path

import pytest
from airflow.api_fastapi.core_api.security import get_user
from airflow.plugins_manager import AirflowPlugin
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from evergreen.settings import Settings
from evergreen_airflow.reports import app


@pytest.fixture
def reports(settings: Settings) -> Path:
    folder = settings.home_path / "reports"
    (folder / "quality").mkdir(parents=True)
    (folder / "quality" / "index.html").write_text("<h1>docs</h1>")
    (folder / "drift.html").write_text("<h1>drift</h1>")
    (settings.home_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def client(reports: Path):
    app.dependency_overrides[get_user] = lambda: "ada"
    yield TestClient(app)
    app.dependency_overrides.clear()


def test_files_and_folders_open(client):
    assert client.get("/drift.html").text == "<h1>drift</h1>"
    assert client.get("/quality/").text == client.get("/quality").text == "<h1>docs</h1>"


def test_a_report_cannot_act_as_its_reader(client):
    headers = client.get("/drift.html").headers
    assert headers["content-security-policy"] == "sandbox allow-scripts allow-popups"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/%2e%2e/secret.txt", "/quality/..%2f..%2fsecret.txt", "/%2Fetc/passwd", "/nothing.html", "/"],
)
def test_nothing_outside_is_served(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "secret" not in answer.text.replace("secret.txt", "")


def test_a_link_that_leads_outside_is_not_followed(client, reports):
    (reports / "link.html").symlink_to(reports.parent / "secret.txt")
    assert client.get("/link.html").status_code == 404


def test_who_is_not_let_into_airflow_sees_no_report(reports):
    def nobody():
        raise HTTPException(401, "log in")

    app.dependency_overrides[get_user] = nobody
    try:
        assert TestClient(app).get("/drift.html").status_code == 401
    finally:
        app.dependency_overrides.clear()


def test_airflow_finds_one_plugin_and_leaves_the_package_alone():
    """Whatever lies below `plugins/` is imported in every process."""
    from airflow._shared.module_loading import find_path_from_directory

    folder = Path(__file__).parents[3] / "plugins"
    found = [Path(file).name for file in find_path_from_directory(str(folder), ".airflowignore", "glob")]
    assert [name for name in found if name.endswith(".py")] == ["evergreen_plugin.py"]


def test_the_plugin_serves_the_reports_at_the_address_of_the_links(client, settings):
    from evergreen_airflow.links import report_url
    from evergreen_plugin import EvergreenPlugin

    assert issubclass(EvergreenPlugin, AirflowPlugin)
    server = FastAPI()
    for one in EvergreenPlugin.fastapi_apps:
        server.mount(one["url_prefix"], one["app"])
    address = report_url(settings, settings.home_path / "reports" / "drift.html").removeprefix(settings.airflow.url)
    assert TestClient(server).get(address).text == "<h1>drift</h1>"
