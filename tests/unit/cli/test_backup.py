"""`backup` and `restore` as a person and as a program read them."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from evergreen.cli import app as commands
from evergreen.promotion import pins
from tests.homes import fill_home

runner = CliRunner()


@pytest.fixture
def filled(shop, home, monkeypatch):
    monkeypatch.setattr(pins, "registered_tables", lambda _: [])
    fill_home(shop)
    return home


def as_json(*arguments: str):
    result = runner.invoke(commands.app, [*arguments, "--json"])
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def test_there_and_back(filled, tmp_path):
    made = as_json("backup")
    assert made["backup"].startswith(str(tmp_path / "home-backups" / "sample"))
    assert made["steps"][0]["step"] == "ledger"
    assert as_json("backup", "--verify", made["backup"])["digest"] == made["digest"]
    drilled = as_json("backup", "--drill")
    assert drilled["backup"] == made["backup"]
    assert drilled["seconds"] > 0
    [listed] = as_json("backup", "--list")
    assert (listed["backup"], listed["whole"], listed["champion"]) == (made["backup"], True, "1")
    shutil.rmtree(filled)
    done = as_json("restore")
    assert (done["backup"], done["home"], done["aside"]) == (made["backup"], str(filled), None)
    other = runner.invoke(commands.app, ["restore", made["backup"], "--to", str(tmp_path / "other")])
    assert other.exit_code == 0
    assert f"EVERGREEN_HOME={tmp_path / 'other'} ./evergreen up" in other.stdout
    assert "build_features -c" in other.stdout
    replaced = runner.invoke(commands.app, ["restore", "--replace"])
    assert "what was there lies in" in replaced.stdout


def test_a_table_and_what_is_left_out(filled):
    told = runner.invoke(commands.app, ["backup"]).stdout
    assert "was made: ledger head" in told
    assert "left out: online store: it is made anew from the lake: materialize" in told
    assert "champion 1" in runner.invoke(commands.app, ["backup", "--list"]).stdout


def test_nothing_yet():
    assert "yet: ./evergreen backup makes one" in runner.invoke(commands.app, ["backup", "--list"]).stdout


def test_one_thing_at_a_time():
    result = runner.invoke(commands.app, ["backup", "--drill", "--list"])
    assert "expected one of them" in str(result.exception)
