"""Releases are noted and gone back from; what does not fit is refused before anything starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evergreen.deploy import stack as module
from evergreen.deploy.back import roll_back
from evergreen.deploy.sources import image_tag
from evergreen.deploy.stack import Options, Stack, read_env
from evergreen.errors import DeployError


def test_going_back_starts_the_release_before(stack: Stack, engine: Any, deployed: Any) -> None:
    for tag in ("1", "2", "2", "3"):
        deployed(stack, tag)
    assert [release.tag for release in stack.history.all()] == ["1", "2", "3"]
    assert roll_back(stack).tag == "2"
    assert [release.tag for release in stack.history.all()] == ["1", "2"]
    assert roll_back(stack).tag == "1"
    assert engine.started == ["1", "2", "2", "3", "2", "1"]
    assert sum("rollback_platform" in entry for entry in engine.entries) == 2
    with pytest.raises(DeployError, match=r"1 release\(s\), going back needs two"):
        roll_back(stack)


def test_without_its_images_there_is_no_way_back(stack: Stack, engine: Any, deployed: Any) -> None:
    for tag in ("1", "2"):
        deployed(stack, tag)
    engine.images.remove("evergreen/broker:1")
    with pytest.raises(DeployError, match=r"images of 1 are gone \(broker\)"):
        roll_back(stack)
    assert engine.started == ["1", "2"]


def test_a_release_that_never_became_healthy_is_gone_back_from(stack: Stack, engine: Any, deployed: Any) -> None:
    deployed(stack, "1")
    deployed(stack, "2")
    engine.unhealthy = "3"
    with pytest.raises(DeployError, match="unhealthy"):
        deployed(stack, "3")
    assert [release.tag for release in stack.history.all()] == ["1", "2"]
    assert roll_back(stack).tag == "2", "not the one before it"
    assert [release.tag for release in stack.history.all()] == ["1", "2"]
    assert roll_back(stack).tag == "1"


def test_settings_and_compose_file_go_back_too(stack: Stack, engine: Any, deployed: Any, tmp_path: Path) -> None:
    deployed(stack, "1")
    changed = replace(stack, given={"EVERGREEN_SERVING_MEMORY": "2g", "EVERGREEN_SERVING_PORT": "9000", "USER": "me"})
    (tmp_path / "docker-compose.yaml").write_text((tmp_path / "docker-compose.yaml").read_text() + "# newer\n")
    deployed(changed, "1")
    assert len(stack.history.all()) == 2, "the same images with other settings are another release"
    assert engine.environments[-1]["EVERGREEN_SERVING_MEMORY"] == "2g"
    assert changed.now().urls[1] == "http://127.0.0.1:9000"
    told: list[str] = []
    release = roll_back(replace(changed, say=told.append))
    assert engine.environments[-1]["EVERGREEN_SERVING_MEMORY"] == "", "empty is not set, whatever .env says"
    assert engine.environments[-1]["EVERGREEN_SERVING_PORT"] == "8000"
    assert "# newer" not in engine.files[-1].read_text()
    assert changed.under(release).urls[1] == "http://127.0.0.1:8000"
    assert "the next deployment would bring these of .env back: EVERGREEN_SERVING_MEMORY" in told[-1]
    env = (stack.folder / "compose.env").read_text()
    assert "EVERGREEN_SERVING_PORT=8000" in env
    assert "MEMORY" not in env


def test_releases_of_an_older_version_are_read(stack: Stack, deployed: Any) -> None:
    deployed(stack, "2")
    old = '[{"tag": "1", "gpus": "off", "revision": "a", "at": "2026-01-01", "seconds": {}}]'
    (stack.folder / "releases.json").write_text(old)
    [release] = stack.history.all()
    assert release.settings is None
    assert stack.under(release) is stack


def test_what_is_built_is_not_built_again(stack: Stack, deployed: Any) -> None:
    assert any(name.startswith("build ") for name in deployed(stack, "1").seconds)
    assert not any(name.startswith("build ") for name in deployed(stack, "1").seconds)


def test_passwords_that_the_databases_were_not_made_with_are_refused(stack: Stack, engine: Any, deployed: Any) -> None:
    deployed(stack, "1")
    (stack.secrets.folder / "ledger_db_password").unlink()
    stack.secrets.make()
    with pytest.raises(DeployError, match="evergreen_postgres were made with other passwords"):
        deployed(stack, "2")
    assert engine.started == ["1"]


def test_a_missing_gpu_is_refused_when_demanded(stack: Stack) -> None:
    stack.secrets.make()
    demanding = Stack(Options(gpu="on"), stack.engine)
    with pytest.raises(DeployError, match="no NVIDIA runtime"):
        demanding.check()
    assert stack.check() == "off"


def test_grafanas_port_must_be_free_where_it_is_wanted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.secrets.make()

    def busy(address: str, port: int, setting: str) -> str | None:
        return f"{setting} {port}" if port == 3000 else None

    monkeypatch.setattr(module, "check_port", busy)
    stack.check()
    watching = Stack(Options(monitoring=True), stack.engine)
    with pytest.raises(DeployError, match="EVERGREEN_GRAFANA_PORT 3000"):
        watching.check()
    assert watching.variables("1", "off")["COMPOSE_PROFILES"] == "monitoring"


def test_environments_share_nothing(stack: Stack) -> None:
    staging = Stack(Options("staging"), stack.engine)
    assert staging.project != stack.project
    assert staging.secrets.folder != stack.secrets.folder
    assert set(staging.ports).isdisjoint(stack.ports)


def test_the_variables_hold_no_secret(stack: Stack) -> None:
    stack.secrets.make()
    text = str(stack.variables("1", "off"))
    assert not any(stack.secrets.read(file.name) in text for file in stack.secrets.folder.iterdir())


def test_a_file_of_variables_is_read_as_compose_does(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# a comment\nA=1\n\nB='two words'\nC=\nnonsense\n")
    assert read_env(file) == {"A": "1", "B": "two words", "C": ""}
    assert read_env(tmp_path / "none") == {}


def test_the_tag_follows_the_sources() -> None:
    assert image_tag() == image_tag()
    assert image_tag() != image_tag("cpu")
