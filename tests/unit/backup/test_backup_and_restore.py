from __future__ import annotations

import json
import os
import shutil
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from evergreen.backup import contents, make
from evergreen.backup.check import verify
from evergreen.backup.make import make_backup
from evergreen.backup.manifest import MANIFEST, read_manifest
from evergreen.backup.places import backups, backups_folder, newest_to_restore
from evergreen.backup.restore import drill, restore
from evergreen.backup.steps import Steps
from evergreen.errors import BackupError, BundleError, LedgerError
from evergreen.lake import Lake, release
from evergreen.promotion.champion import bundle_folder, current
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.settings import workspace
from evergreen.training.search.outcome import keep_outcome, params_of, search_folder
from evergreen.training.search.storage import open_storage
from tests.homes import artifact_uris, make_bundle, promote, seen
from tests.shop import publish_days

SEARCHED = {
    "format": "evergreen-search/1", "study": "xgboost-ab", "model": "xgboost", "metric": "average_precision",
    "day": "2024-06-17", "default": {"number": 0, "value": 0.2},
    "best": {"number": 1, "value": 0.21, "params": {"max_depth": 7}}, "gain": 0.01, "customers_share": 1.0,
    "finished_at": "2024-06-18T00:00:00+00:00",
}  # fmt: skip


def last(settings) -> Entry:
    return Ledger(settings).entries()[-1].entry


def test_a_destroyed_home_comes_back_as_it_was(whole, home):
    before = seen(whole)
    made = make_backup(whole)
    shutil.rmtree(home)
    done = restore(whole, newest_to_restore(whole))
    assert seen(whole) == before
    assert done.home == home
    assert done.aside is None
    assert last(whole).operation == "deploy"  # the pointer was made anew
    entry = Ledger(whole).entries()[-2].entry
    assert (entry.operation, entry.outcome, entry.model_version) == ("restore", "success", "1")
    assert f"backup:{made.manifest.digest}" in entry.resources_affected
    assert entry.duration_seconds > 0
    assert (home / "loaded.json").exists()
    assert (home / "workspace.owner").read_text() == "sample"
    assert not (home / "feast" / "online.db").exists(), "it is made anew"
    assert done.materialize == """./evergreen airflow dags test build_features -c '{"day": "2024-06-18"}'"""


def test_another_home_gets_mlflows_files_too(whole, home, tmp_path):
    before, made = seen(whole), make_backup(whole)
    restore(whole, made.folder, to=tmp_path / "other")
    other = whole.model_copy(update={"home": tmp_path / "other"})
    assert seen(other) == before
    [uri] = artifact_uris(other)
    assert uri == (tmp_path / "other" / "mlflow" / "artifacts" / "run" / "artifacts").as_uri()
    assert Path(uri.removeprefix("file://"), "MLmodel").is_file()
    assert artifact_uris(whole) != [uri]  # control: the home's own stay


def test_the_ledger_notes_what_was_backed_up(whole):
    made = make_backup(whole)
    entry = last(whole)
    assert (entry.operation, entry.outcome) == ("backup", "success")
    assert entry.resources_affected[:2] == (f"backup:{made.manifest.digest}", f"folder:{made.folder}")
    assert entry.metrics["bytes"] == made.manifest.size > 0
    assert set(entry.metrics["seconds"]) >= {"ledger", "lake", "check"}


def test_what_is_left_out_is_said(whole, home):
    (home / "airflow").mkdir()
    make.sqlite3.connect(home / "airflow" / "airflow.db").close()
    (home / "reports").mkdir()
    (home / "reports" / "a.html").write_text("report")
    plain = make_backup(whole)
    assert {one["what"] for one in plain.manifest.left_out} == {"online store", "Airflow's records"}
    assert not [name for name in plain.manifest.files if "reports" in name or "online.db" in name or "airflow" in name]
    everything = make_backup(whole, with_reports=True, with_airflow=True)
    assert {"home/airflow/airflow.db", "home/reports/a.html"} <= set(everything.manifest.files)
    assert {one["what"] for one in everything.manifest.left_out} == {"online store"}


def test_searches_come_back_and_the_next_one_begins_with_what_they_found(whole, home):
    keep_outcome(whole, SEARCHED)
    optuna = pytest.importorskip("optuna")
    where = search_folder(whole, "xgboost")
    study = optuna.create_study(storage=open_storage("", where), study_name=SEARCHED["study"])
    study.enqueue_trial({"max_depth": 7})
    (where / "rows").mkdir()
    (where / "rows" / "train.npy").write_bytes(b"prepared anew by each search")
    made = make_backup(whole)
    names = [name for name in made.manifest.files if "searches" in name]
    assert names == ["home/searches/xgboost/outcomes/2024-06-17-ab.json", "home/searches/xgboost/studies.db"]
    shutil.rmtree(home)
    restore(whole, newest_to_restore(whole))
    assert params_of(whole, "xgboost", {}, date(2024, 6, 18)) == {"max_depth": 7}
    [again] = optuna.load_study(storage=open_storage("", where), study_name=SEARCHED["study"]).trials
    assert again.system_attrs["fixed_params"] == {"max_depth": 7}


def test_the_trials_of_a_server_are_left_out_and_what_they_found_is_not(whole):
    keep_outcome(whole, SEARCHED)
    search = whole.training.search.model_copy(update={"storage_url": "postgresql://x"})
    server = whole.model_copy(update={"training": whole.training.model_copy(update={"search": search})})
    made = make_backup(server).manifest
    assert "pg_dump" in {one["what"]: one["why"] for one in made.left_out}["trials of searches"]
    assert "home/searches/xgboost/outcomes/2024-06-17-ab.json" in made.files


def test_servers_are_left_out_with_what_to_do(whole):
    servers = whole.model_copy(
        update={
            "mlflow": whole.mlflow.model_copy(update={"tracking_uri": "http://mlflow:5000"}),
            "feature_store": whole.feature_store.model_copy(update={"registry_url": "postgresql://x"}),
        }
    )
    told = {one["what"]: one["why"] for one in make_backup(servers).manifest.left_out}
    assert "pg_dump" in told["MLflow"]
    assert "pg_dump" in told["Airflow's records"]
    assert "materialize" in told["Feast's registry"]


def test_what_was_backed_up_before_is_not_copied_again(whole):
    first, second = make_backup(whole), make_backup(whole)
    name = next(name for name in first.manifest.files if name.endswith(".parquet"))
    assert (first.folder / name).stat().st_ino == (second.folder / name).stat().st_ino
    assert second.copied_bytes < first.copied_bytes / 10
    shutil.rmtree(first.folder)
    verify(whole, second.folder)


def test_a_disk_without_hard_links_gets_copies(whole, monkeypatch):
    def refused(*_):
        raise OSError("no hard links")

    first = make_backup(whole)
    monkeypatch.setattr(make.os, "link", refused)
    second = make_backup(whole)
    assert second.copied_bytes >= first.copied_bytes
    verify(whole, second.folder)


def test_the_harm_of_the_backup_before_is_not_passed_on(whole):
    first = make_backup(whole)
    name = next(name for name in first.manifest.files if name.endswith(".parquet"))
    with (first.folder / name).open("r+b") as file:
        file.write(b"X")
    with pytest.raises(BackupError, match=f"file {name} was altered"):
        verify(whole, first.folder)
    verify(whole, make_backup(whole).folder)


def test_older_backups_go_and_the_newest_whole_one_stays(whole):
    made = [make_backup(whole).folder for _ in range(3)]
    folder = backups_folder(whole)
    assert backups(folder) == made[:0:-1]
    assert Ledger(whole).entries()[-1].entry.resources_affected[-1] == f"removed:{made[0].name}"
    next(path for path in made[2].rglob("*.parquet")).unlink()  # not whole: it does not count
    last_one = make_backup(whole).folder
    assert backups(folder) == [last_one, made[2], made[1]]


def test_left_overs_are_removed_and_are_no_backups(whole):
    first = make_backup(whole).folder
    folder = backups_folder(whole)
    for name in (".draft.1", ".drill.1", "2020-01-01T00-00-00Z"):
        (folder / name / "home").mkdir(parents=True)
    (folder / "mine").mkdir()
    assert backups(folder) == [first]
    make_backup(whole)
    assert (folder / "mine").is_dir()
    assert not list(folder.glob(".d*"))
    assert not (folder / "2020-01-01T00-00-00Z").exists()


def test_one_backup_at_a_time(whole):
    from evergreen.backup.places import locked

    with locked(backups_folder(whole)), pytest.raises(BackupError, match="is at work"):
        make_backup(whole)
    assert last(whole).outcome == "failure"
    make_backup(whole)


def test_an_empty_home_is_not_backed_up(settings):
    with pytest.raises(BackupError, match="holds no lake and no ledger: expected a home"):
        make_backup(settings)
    assert not settings.home_path.exists()


def test_a_lake_outside_the_home_is_refused(whole, tmp_path):
    outside = whole.model_copy(update={"lake": whole.lake.model_copy(update={"location": str(tmp_path / "lake")})})
    with pytest.raises(BackupError, match=r"outside .*: expected it inside"):
        make_backup(outside)


def test_a_broken_home_keeps_the_backups_before(whole):
    first = make_backup(whole).folder
    champion = current(whole)
    assert champion is not None
    (bundle_folder(whole, champion.bundle_digest) / "calibration.json").write_text("{}")
    with pytest.raises(BundleError, match=r"calibration\.json was altered"):
        make_backup(whole)
    assert backups(backups_folder(whole)) == [first]
    assert last(whole).outcome == "failure"
    assert not list(backups_folder(whole).glob(".draft*"))


def test_a_ledger_that_was_changed_is_not_backed_up(whole):
    with Ledger(whole).mirror.open("a") as mirror:
        mirror.write('{"sequence": 99}\n')
    with pytest.raises(LedgerError, match="changed behind its back"):
        make_backup(whole)


def test_a_bundle_of_an_earlier_champion_may_be_gone(whole):
    first = current(whole)
    promote(whole, "2", generation=1)
    assert first is not None
    shutil.rmtree(bundle_folder(whole, first.bundle_digest))
    made = make_backup(whole)
    assert f"bundle {first.bundle_digest}" in {one["what"] for one in made.manifest.left_out}
    verify(whole, made.folder)


def test_training_sets_of_stored_bundles_alone(whole, home):
    (home / "training_sets" / ("f" * 64)).mkdir()
    (home / "training_sets" / ("f" * 64) / "train.parquet").write_text("nobody's")
    (home / "training_sets" / "by_as_of").mkdir(exist_ok=True)
    names = set(make_backup(whole).manifest.files)
    sets = {name.split("/")[2] for name in names if name.startswith("home/training_sets/")}
    assert "f" * 64 not in sets
    assert "index" in sets
    assert len(sets) == 2


def test_commits_that_nobody_released_are_left_out(whole, home):
    lake = Lake(whole.lake_path)
    table = lake.table("pair_features")
    day = table.days()[-1]
    publish_days(lake, "pair_features", {day: table.read(day, day).slice(0, 1).select(table.spec.file_schema.names)})
    made = make_backup(whole)
    assert made.manifest.tables["pair_features"] == table.version
    shutil.rmtree(home)
    restore(whole, made.folder)
    assert lake.table("pair_features").digests == table.digests


def test_versions_that_are_pinned_can_be_read_after_a_restore(whole, home):
    """Control: the version before is superseded, and only evidence still names it."""
    lake = Lake(whole.lake_path)
    old = lake.table("pair_features")
    day = old.days()[-1]
    rows = old.read(day, day).slice(0, 1).select(old.spec.file_schema.names)
    new = publish_days(lake, "pair_features", {day: rows})
    release(lake, "features", day=day, digest="corrected", versions={"pair_features": new}, inputs={})
    digests = old.digests
    made = make_backup(whole)
    shutil.rmtree(home)
    restore(whole, made.folder)
    assert lake.table("pair_features", old.version).digests == digests
    assert lake.table("pair_features", old.version).read().num_rows == old.rows
    assert lake.table("pair_features").version == new


def test_an_occupied_home_is_refused_and_replace_moves_it_aside(whole, home):
    made = make_backup(whole)
    bundle = make_bundle(whole, "7", "2" * 64)
    with pytest.raises(BackupError, match=r"is not empty \(evidence, feast, lake, \.\.\.\).*--replace moves it aside"):
        restore(whole, made.folder)
    assert last(whole).operation == "restore"
    assert last(whole).outcome == "failure"
    (home / "workspaces" / "other").mkdir(parents=True)
    (home / "workspaces" / "other" / "kept").write_text("another shop")
    done = restore(whole, made.folder, replace=True)
    assert done.aside is not None
    assert (done.aside / "models" / bundle.digest).is_dir()
    assert not bundle_folder(whole, bundle.digest).exists()
    assert (home / "workspaces" / "other" / "kept").exists()
    assert not (home / ".restoring").exists()


def test_a_ledger_that_cannot_be_read_is_replaced(whole, home):
    made, before = make_backup(whole), seen(whole)
    (home / "ledger" / "ledger.db").write_bytes(b"no database" * 1000)
    with pytest.raises(BackupError, match="is not empty"):
        restore(whole, made.folder)
    done = restore(whole, made.folder, replace=True)
    assert seen(whole) == before
    assert done.aside is not None
    assert (done.aside / "ledger" / "ledger.db").read_bytes().startswith(b"no database")


def test_releases_and_their_table_are_of_one_moment(whole, monkeypatch):
    """Control: a release that is made while they are read is read again; where that never ends, it is said."""
    lake, read, left = Lake(whole.lake_path), contents.latest_release, [2]

    def meanwhile(*arguments):
        found = read(*arguments)
        if left[0]:
            left[0] -= 1
            release(lake, "other", day=found.day, digest=f"{left}", versions={}, inputs={})
        return found

    monkeypatch.setattr(contents, "latest_release", meanwhile)
    made = make_backup(whole)
    assert made.manifest.tables["releases"] == lake.table("releases").version
    left[0] = 1_000_000
    monkeypatch.setattr(contents, "_TRIES", 2)
    with pytest.raises(BackupError, match="releases were made 2 times while they were read"):
        make_backup(whole)


def test_another_folder_gets_no_ledger_when_it_is_refused(whole, tmp_path):
    made = make_backup(whole)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "letter.txt").write_text("dear")
    with pytest.raises(BackupError, match="is not empty"):
        restore(whole, made.folder, to=tmp_path / "documents")
    assert os.listdir(tmp_path / "documents") == ["letter.txt"]


def test_another_source_is_not_replaced(whole, home):
    made = make_backup(whole)
    (home / workspace.OWNER).write_text("other-shop")
    with pytest.raises(BackupError, match="of workspace 'sample'"):
        restore(whole, made.folder, replace=True)


def test_a_home_that_runs_is_refused(whole, monkeypatch):
    made = make_backup(whole)
    service = SimpleNamespace(pid=7, name="airflow scheduler")
    monkeypatch.setattr("evergreen.platform.airflow.LocalAirflow.services", {"scheduler": service})
    with pytest.raises(BackupError, match=r"airflow scheduler of .* runs: expected it to be down"):
        restore(whole, made.folder, replace=True)


def test_a_drill_leaves_nothing_and_tells_each_step(whole, home):
    with pytest.raises(BackupError, match="there is no backup in"):
        drill(whole)
    make_backup(whole)
    before = sorted(str(path) for path in home.rglob("*"))
    said: list[str] = []
    done = drill(whole, Steps(said.append))
    assert [step.step for step in done.steps.done] == said
    assert {"digests", "copy", "restored ledger", "restored champion", "restored lake"} <= set(said)
    assert sorted(str(path) for path in home.rglob("*")) == before
    assert not list(backups_folder(whole).glob(".drill*"))
    assert last(whole).operation == "restore_drill"
    assert set(last(whole).metrics["seconds"]) == set(said)


def test_several_workspaces_are_asked_about(whole, home):
    made = make_backup(whole).folder
    shutil.rmtree(home)
    assert newest_to_restore(whole) == made
    shutil.copytree(made, made.parent.parent / "other" / made.name)
    with pytest.raises(BackupError, match=r"backups of 2 workspaces: name one, such as"):
        newest_to_restore(whole)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda document: document["manifest"].update(workspace="x"), "was altered: its digest"),
        (lambda document: document["manifest"].update(format="evergreen.backup/9"), "has format 'evergreen.backup/9'"),
        (lambda document: document.pop("digest"), "cannot be read"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(whole, change, told):
    file = make_backup(whole).folder / MANIFEST
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    with pytest.raises(BackupError, match=told):
        read_manifest(file.parent)


def test_a_folder_without_manifest_is_no_backup(whole, tmp_path):
    with pytest.raises(BackupError, match=r"has no manifest\.json: it is no backup"):
        restore(whole, tmp_path, replace=True)
