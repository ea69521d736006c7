"""Files of models and evidence that were damaged come back one by one; nothing else is touched."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from evergreen.backup.make import make_backup
from evergreen.backup.mend import mend
from evergreen.cli import app as commands
from evergreen.errors import BackupError, BundleError
from evergreen.promotion.champion import bundle_folder, current
from evergreen.promotion.deployment import load_champion
from evergreen.promotion.ledger import Ledger
from tests.homes import promote


@pytest.fixture
def bundle(whole):
    return bundle_folder(whole, current(whole).bundle_digest)


def test_what_was_altered_and_what_is_missing_comes_back(whole, home, bundle):
    made = make_backup(whole)
    altered, missing = sorted(path for path in bundle.iterdir() if path.name != "manifest.json")[:2]
    altered.write_bytes(altered.read_bytes() + b"x")
    missing.unlink()
    (home / "loaded.json").write_text("{}")
    with pytest.raises(BundleError):
        load_champion(whole)
    done = mend(whole, made.folder)
    assert sorted(done.files) == sorted(str(path.relative_to(home)) for path in (altered, missing))
    load_champion(whole)
    assert (home / "loaded.json").read_text() == "{}", "what may change is left alone"
    assert not list(bundle.glob(".*"))
    entry = Ledger(whole).entries()[-1].entry
    assert (entry.operation, entry.outcome, entry.metrics["put_back"]) == ("restore_artefacts", "success", 2)


def test_a_whole_home_stays_as_it_is(whole, bundle):
    made = make_backup(whole)
    before = {path: path.stat().st_mtime_ns for path in bundle.iterdir()}
    assert mend(whole, made.folder).files == ()
    assert {path: path.stat().st_mtime_ns for path in bundle.iterdir()} == before


def test_a_backup_that_lacks_the_file_is_refused(whole, bundle):
    made = make_backup(whole)
    victim = max(bundle.iterdir(), key=lambda path: path.stat().st_size)
    victim.write_bytes(b"x")
    stored = made.folder / "home" / "models" / bundle.name / victim.name
    stored.chmod(0o644)
    stored.write_bytes(b"y" * stored.stat().st_size)
    with pytest.raises(BackupError, match="use another backup"):
        mend(whole, made.folder)
    assert victim.read_bytes() == b"x"
    assert Ledger(whole).entries()[-1].entry.outcome == "failure"


def test_a_champion_younger_than_the_backup_is_not_called_whole(whole):
    made = make_backup(whole)
    promote(whole, "2", generation=1)
    younger = bundle_folder(whole, current(whole).bundle_digest)
    max(younger.iterdir(), key=lambda path: path.stat().st_size).write_bytes(b"x")
    with pytest.raises(BundleError):
        mend(whole, made.folder)


def test_the_command(whole, bundle):
    make_backup(whole)
    next(path for path in bundle.iterdir() if path.name != "manifest.json").unlink()
    told = CliRunner().invoke(commands.app, ["restore", "--artefacts"])
    assert told.exit_code == 0, told.exception
    assert f"put back: models/{bundle.name}/" in told.stdout.replace("\n", "")
    refused = CliRunner().invoke(commands.app, ["restore", "--artefacts", "--replace"])
    assert isinstance(refused.exception, BackupError)
