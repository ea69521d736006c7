"""Drills: a change must be seen, what is left of it is told, and nothing from before the drill is gone back from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evergreen.deploy import changes, drill
from evergreen.deploy.changes import CHANGES
from evergreen.deploy.drill import run_drills, write_record
from evergreen.deploy.snapshot import Parts
from evergreen.deploy.stack import Options, Stack
from evergreen.errors import DeployError


class FakeHome:
    """A staging environment's worker, pool and champions, as far as drills see them."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.damaged = False
        self.champion, self.generation, self.earlier = "2", 2, ["1"]
        self.released: list[str] = []
        self.blind = False  # changes cannot be seen
        self.forgetful = False  # going back leaves something

    def look(self, stack: Stack) -> dict[str, Any]:
        running = self.engine.environments[-1]
        tag = running["EVERGREEN_VERSION"]
        slots = int(running.get("EVERGREEN_HEAVY_SLOTS") or 1)
        planted = {"evergreen_drill": "planted"} if self.engine.schemas["airflow"] != "a1" else {}
        seen = {
            "images": [tag],
            "serving.version": tag,
            "serving.champion": self.champion,
            "serving.generation": self.generation,
            "airflow.runs": [],
            "airflow.heavy_slots": slots,
            "airflow.variables": planted,
            "schema.airflow": self.engine.schemas["airflow"],
            "home.version": tag,
            "home.code": tag,
            "home.lock": tag,
            "home.packages": tag,
            "home.champion": [self.champion, "digest"],
            "home.generation": self.generation,
            "home.earlier": self.earlier,
            "home.bundle": "altered" if self.damaged else "whole",
        }
        if self.blind:
            seen |= {"home.code": "?", "home.lock": "?", "airflow.heavy_slots": 1, "home.bundle": "whole"}
        if self.forgetful and "stop" not in self.engine.done and len(self.engine.started) > 2:
            seen["home.packages"] = "left over"
        return seen

    def in_worker(self, command: Any) -> str:
        if "release" in command:
            self.released.append(command[command.index("release") + 1])
        elif "restore" in command:
            assert command[-1] == "/var/lib/evergreen/backups/a/t"
            self.damaged = False
        else:
            self.damaged = True
        return ""

    def roll_back_to(self, version: str) -> None:
        self.earlier, self.champion, self.generation = [self.champion], version, self.generation + 1


@pytest.fixture
def staging(stack: Stack, engine: Any, deployed: Any, tmp_path: Path) -> Stack:
    file = tmp_path / "docker-compose.yaml"
    file.write_text(file.read_text() + "# ${EVERGREEN_HEAVY_SLOTS:-1}\n")
    made = Stack(Options("staging"), engine)
    deployed(made, "1")
    return made


@pytest.fixture
def world(engine: Any, monkeypatch: pytest.MonkeyPatch) -> FakeHome:
    home = FakeHome(engine)
    monkeypatch.setattr(drill, "look", home.look)
    monkeypatch.setattr(drill, "_refuse_busy", lambda stack: None)
    monkeypatch.setattr(Stack, "in_worker", lambda self, command: home.in_worker(command))
    monkeypatch.setattr(changes.ModelChange, "_roll_back_to", lambda self, version: home.roll_back_to(version))
    return home


def test_every_kind_is_made_seen_and_gone_back_from(staging: Stack, engine: Any, world: FakeHome) -> None:
    before = world.look(staging)
    images = set(engine.images)
    done = run_drills(staging)
    assert [one.kind for one in done] == list(CHANGES)
    assert [(one.kind, one.problem, one.left) for one in done if not one.passed] == []
    assert all(set(CHANGES[one.kind].shows) <= set(one.seen) for one in done)
    after = world.look(staging)
    assert {name for name in before if after[name] != before[name]} == {"home.generation", "serving.generation"}
    assert engine.images == images, "images of a drill are removed"
    assert [release.tag for release in staging.history.all()] == ["1"]
    assert world.released == ["2", "1"], "neither version stays barred"
    entries = [json.loads(entry) for entry in engine.entries if "rollback_drill" in entry]
    assert [entry["metrics"]["kind"] for entry in entries] == list(CHANGES)
    assert {entry["outcome"] for entry in entries} == {"success"}


def test_a_change_that_cannot_be_seen_proves_nothing(staging: Stack, engine: Any, world: FakeHome) -> None:
    world.blind = True
    with pytest.raises(DeployError, match=r"^the change cannot be seen in home\.code"):
        run_drills(staging, ["code"])
    assert engine.started[-1] == "1", "it is gone back from all the same"
    assert not any("drill" in image for image in engine.images)


def test_what_is_left_is_told(staging: Stack, engine: Any, world: FakeHome) -> None:
    world.forgetful = True
    [one] = run_drills(staging, ["configuration"])
    assert not one.passed
    assert one.left == ("home.packages",)
    assert json.loads(engine.entries[-1])["outcome"] == "failure"


def test_too_slow_is_not_passed(staging: Stack, world: FakeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "LIMIT_SECONDS", -1.0)
    [one] = run_drills(staging, ["artefacts"])
    assert not one.passed
    assert one.left == ()


def test_a_drill_that_cannot_begin_leaves_the_release_before_it_alone(
    staging: Stack, engine: Any, world: FakeHome, deployed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(staging, "2", Parts.NONE)

    def refuse(*_: object) -> str:
        raise DeployError("the disk is full")

    monkeypatch.setattr(Stack, "snapshot", refuse)
    with pytest.raises(DeployError, match="the disk is full"):
        run_drills(staging, ["configuration"])
    assert [release.tag for release in staging.history.all()] == ["1", "2"]
    assert engine.started == ["1", "2"]


@pytest.mark.parametrize(("kind", "why"), [("artefacts", "no champion"), ("model", "no earlier champion")])
def test_what_cannot_be_drilled_is_not_passed(staging: Stack, world: FakeHome, kind: str, why: str) -> None:
    world.damaged, world.earlier = True, []
    [one] = run_drills(staging, [kind])
    assert not one.passed
    assert why in one.problem


def test_refused_before_anything_is_changed(stack: Stack, staging: Stack, engine: Any, world: FakeHome) -> None:
    started = list(engine.started)
    with pytest.raises(DeployError, match=r"^there is no drill 'all', expected some of: code, "):
        run_drills(staging, ["all"])
    with pytest.raises(DeployError, match="use staging, or say --yes"):
        run_drills(stack, ["code"])
    with pytest.raises(DeployError, match="nothing was deployed to production from here"):
        run_drills(stack, ["code"], anywhere=True)
    engine.unhealthy = "1"
    with pytest.raises(DeployError, match="unhealthy"):
        staging.put(staging.history.all()[-1], Parts.NONE)
    with pytest.raises(DeployError, match="never became healthy"):
        run_drills(staging, ["code"])
    assert engine.started == [*started, "1"]


def test_the_record_keeps_other_kinds(staging: Stack, world: FakeHome, tmp_path: Path) -> None:
    file = tmp_path / "benchmarks" / "rollback-drills.json"
    write_record(staging, run_drills(staging, ["model"]), file)
    write_record(staging, run_drills(staging, ["code"]), file)
    document = json.loads(file.read_text())
    assert list(document["kinds"]) == ["code", "model"]
    record = document["kinds"]["code"]
    assert record["passed"] is True
    assert record["command"] == "./evergreen deploy --environment staging --drill"
    assert record["machine"]["cores"] > 0
