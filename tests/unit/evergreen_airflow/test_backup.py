from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from evergreen.backup.places import backups, backups_folder
from evergreen.promotion import pins
from evergreen_airflow.operators.backup import BackupOperator, RestoreDrillOperator
from tests.homes import fill_home


@pytest.fixture
def whole(shop, monkeypatch):
    monkeypatch.setattr(pins, "registered_tables", lambda _: [])
    fill_home(shop)
    return shop.settings


@pytest.fixture
def off(monkeypatch):
    monkeypatch.setenv("EVERGREEN__BACKUP__WEEKLY", "false")


def test_a_backup_and_its_drill(context, whole):
    made = BackupOperator(task_id="backup", only_count="False").execute(context())
    assert [str(path) for path in backups(backups_folder(whole))] == [made["folder"]]
    assert made["bytes"] == made["new_bytes"] > 0
    assert made["removed"] == []
    steps = RestoreDrillOperator(task_id="drill").execute(context())
    assert {"digests", "copy", "restored ledger"} <= {step["step"] for step in steps}
    assert all(step["seconds"] >= 0 for step in steps)


def test_off_makes_none_and_tries_what_there_is(context, whole, off):
    with pytest.raises(AirflowSkipException, match=r"settings\.backup\.weekly is off: \./evergreen backup makes one"):
        BackupOperator(task_id="backup").execute(context())
    with pytest.raises(AirflowSkipException, match="there is no backup"):
        RestoreDrillOperator(task_id="drill").execute(context())
    assert backups(backups_folder(whole)) == []


def test_a_dry_run_does_neither(context, settings):
    for operator in (BackupOperator, RestoreDrillOperator):
        with pytest.raises(AirflowSkipException, match="a dry run"):
            operator(task_id="x", only_count="True").execute(context())
