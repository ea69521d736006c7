"""Backups and restores under kills, full disks, altered bytes and a publish at the same time.

Each test brings a broken variant that it must notice.
"""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import evergreen.backup.contents as contents
import evergreen.backup.make as make
import evergreen.backup.restore as restoring
from evergreen.backup import swap
from evergreen.backup.check import verify
from evergreen.backup.make import make_backup
from evergreen.backup.manifest import write_manifest
from evergreen.backup.places import backups, backups_folder
from evergreen.backup.restore import restore
from evergreen.errors import BackupError, BundleError, DiskFullError, EvergreenError, LedgerError
from evergreen.lake import Lake, latest_release, release
from evergreen.promotion import pins
from evergreen.promotion.ledger import Ledger
from evergreen.settings import Settings
from tests.homes import fill_home, promote, seen
from tests.shop import FIRST, Shop, publish_days, publish_purchases, purchases_of

pytestmark = pytest.mark.fault
DAYS = 170


@pytest.fixture(scope="module")
def small_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole home, made once. Not to be changed."""
    from evergreen.settings import load_settings

    home = tmp_path_factory.mktemp("small") / "home"
    settings = load_settings("local").model_copy(update={"home": home})
    purchases, day = purchases_of(30, 12, DAYS), FIRST + timedelta(days=DAYS - 1)
    publish_purchases(settings, purchases, day)
    fill_home(Shop(settings, purchases, day))
    return home


@pytest.fixture
def whole(small_home: Path, home: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(pins, "registered_tables", lambda _: [])
    shutil.copytree(small_home, home)
    return settings


def control(*values: Any, why: str) -> Any:
    """The broken variant of a case: the test must fail on it."""
    return pytest.param(*values, id=f"control: {why}", marks=pytest.mark.xfail(strict=True, reason=f"control: {why}"))


CHILD = """
import sys
from evergreen.promotion import pins
from evergreen.settings import load_settings
from tests.faults import test_backup_faults as here
pins.registered_tables = lambda _: []
work, broken, argument = sys.argv[1:]
if broken:
    getattr(here, broken)(here.pytest.MonkeyPatch())
print("ready", flush=True)
getattr(here, work)(load_settings("local"), here.Path(argument))
"""


def killed_after(seconds: float, work: Callable[[Settings, Path], object], broken: Any, argument: Path) -> bool:
    """Whether a process of its own that does this work was killed before it ended."""
    name = broken.__name__ if broken else ""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, work.__name__, name, str(argument)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    time.sleep(seconds)
    child.kill()
    child.communicate()
    return child.returncode == -signal.SIGKILL


def back_up(settings: Settings, _: Path) -> None:
    """What a killed backup was doing."""
    make_backup(settings)


def replace_home(settings: Settings, backup: Path) -> None:
    """What a killed restore was doing."""
    restore(settings, backup, replace=True)


def manifest_first(patch: pytest.MonkeyPatch) -> None:
    """A folder that has its name before it is whole."""

    def fill(draft: Any, settings: Settings, *rest: Any, **flags: Any) -> Any:
        place = draft.folder.rename(draft.folder.with_name("2099-01-01T00-00-00Z"))
        (place / "manifest.json").write_text("{}")
        draft.folder = place
        return made(draft, settings, *rest, **flags)

    made = make._fill
    patch.setattr(make, "_fill", fill)


@pytest.mark.parametrize("broken", [None, control(manifest_first, why="it has its name before it is whole")])
def test_a_killed_backup_is_none_and_the_next_one_cleans_up(
    whole: Settings, monkeypatch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], None] | None
) -> None:
    first = make_backup(whole).folder
    folder, began = backups_folder(whole), time.monotonic()
    make_backup(whole)
    usual = time.monotonic() - began
    killed = 0
    with monkeypatch.context() as patch:
        if broken:
            broken(patch)
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            killed += killed_after(usual * share, back_up, broken, folder)
            for path in backups(folder):
                verify(whole, path)
    assert killed >= 2, "nothing was killed: nothing was shown"
    last = make_backup(whole)
    assert not [path for path in folder.iterdir() if path.name.startswith((".draft", ".drill"))]
    assert backups(folder)[0] == last.folder
    assert first not in backups(folder)
    assert Ledger(whole).verify().intact


@contextmanager
def room(left: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: what writes more is told that it is too large."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def keep_drafts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(make.shutil, "rmtree", lambda *_, **__: None)


@pytest.mark.parametrize("broken", [None, control(keep_drafts, why="the draft of a failed backup stays")])
def test_a_full_disk_keeps_the_backups_before_and_is_named(
    whole: Settings, monkeypatch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], None] | None
) -> None:
    first = make_backup(whole).folder
    folder = backups_folder(whole)
    large = whole.home_path / "evidence" / ("e" * 64)
    large.write_bytes(b"x" * 3_000_000)
    with monkeypatch.context() as patch:
        if broken:
            broken(patch)
        with room(2_000_000), pytest.raises(DiskFullError, match="Free space there"):
            make_backup(whole)
    assert backups(folder) == [first]
    assert not list(folder.glob(".draft*"))
    verify(whole, first)
    verify(whole, make_backup(whole).folder)


def test_a_full_disk_leaves_the_home_as_it_was(whole: Settings) -> None:
    large = whole.home_path / "evidence" / ("e" * 64)
    large.write_bytes(b"x" * 3_000_000)
    backup = make_backup(whole).folder
    large.unlink()
    before = seen(whole)
    with room(2_000_000), pytest.raises(DiskFullError):
        restore(whole, backup, replace=True)
    assert seen(whole) == before
    restore(whole, backup, replace=True)
    assert large.stat().st_size == 3_000_000


@pytest.mark.parametrize("name", ["*.parquet", "*.json", "*.jsonl", "mlflow.db", "manifest.json"])
def test_an_altered_byte_is_named(whole: Settings, name: str) -> None:
    backup = make_backup(whole).folder
    verify(whole, backup)  # control: untouched it is whole
    file = sorted(backup.rglob(name))[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    wanted = "manifest.json" if name == "manifest.json" else f"{file.relative_to(backup)} was altered"
    before = seen(whole)
    for check in (verify, lambda settings, folder: restore(settings, folder, replace=True)):
        with pytest.raises(BackupError, match=wanted):
            check(whole, backup)
    assert {**seen(whole), "entries": None} == {**before, "entries": None}


def test_a_ledger_that_was_forged_in_the_backup_is_refused(whole: Settings) -> None:
    """Whoever can write files and manifest still cannot write another history under the same head."""
    from dataclasses import replace

    from evergreen.backup.manifest import digest_of, read_manifest

    backup = make_backup(whole).folder
    rows = backup / "ledger" / "ledger_entries.jsonl"
    rows.write_text(rows.read_text().replace("airflow", "mallory"))
    manifest = read_manifest(backup)
    files = {**manifest.files, "ledger/ledger_entries.jsonl": digest_of(rows)}
    write_manifest(backup, replace(manifest, files=files))
    with pytest.raises(LedgerError, match="was edited"):
        verify(whole, backup)


def lake_before_ledger(patch: pytest.MonkeyPatch) -> None:
    """Lists what others name before those who name it."""
    early = contents.lake_part
    stored = contents.bundles
    noted: dict[str, Any] = {}

    def fill(draft: Any, settings: Settings, *rest: Any, **flags: Any) -> Any:
        noted["lake"], noted["bundles"] = early(settings), stored(settings)
        time.sleep(0.7)
        return made(draft, settings, *rest, **flags)

    made = make._fill
    patch.setattr(make, "_fill", fill)
    patch.setattr(make, "lake_part", lambda _: noted["lake"])
    patch.setattr(make, "bundles", lambda _: noted["bundles"])


def publish_and_promote(settings: Settings, stop: threading.Event, troubles: list[BaseException]) -> None:
    """Publishes corrections of a day, releases them, and promotes champions, until it is told to stop."""
    lake = Lake(settings.lake_path)
    generation = 1
    try:
        while not stop.is_set():
            table = lake.table("pair_features")
            day = table.days()[-1]
            rows = table.read(day - timedelta(days=generation % 9), day).slice(0, 1 + generation)
            version = publish_days(lake, "pair_features", {day: rows.select(table.spec.file_schema.names)})
            newest = latest_release(lake, "features")
            versions = {**(newest.versions if newest else {}), "pair_features": version}
            release(lake, "features", day=day, digest=f"{version}", versions=versions, inputs={})
            promote(settings, str(generation + 1), generation=generation)
            generation += 1
    except BaseException as error:
        troubles.append(error)


@pytest.mark.parametrize(
    "broken", [None, control(lake_before_ledger, why="what is named is listed before who names it")]
)
def test_a_backup_while_others_publish_and_promote_is_one_state(
    whole: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch], None] | None,
) -> None:
    if broken:
        broken(monkeypatch)
    stop, troubles = threading.Event(), []
    writer = threading.Thread(target=publish_and_promote, args=(whole, stop, troubles))
    writer.start()
    generations = set()
    try:
        for number in range(3):
            made = make_backup(whole)
            verify(whole, made.folder)
            other = tmp_path / f"other{number}"
            restore(whole, made.folder, to=other)
            restored = whole.model_copy(update={"home": other})
            generations.add(seen(restored)["champion"][1])
            found = latest_release(Lake(restored.lake_path), "features")
            assert found is not None
            for name, version in found.versions.items():
                Lake(restored.lake_path).table(name, version).read()
    finally:
        stop.set()
        writer.join(60)
    assert not troubles, troubles
    assert len(generations) > 1, "nobody promoted meanwhile: nothing was shown"


def in_place(patch: pytest.MonkeyPatch) -> None:
    """Copies over the home itself, without a draft."""

    def fill(settings: Settings, backup: Path, manifest: Any, place: Path, steps: Any) -> None:
        shutil.rmtree(settings.home_path / "lake")
        made(settings, backup, manifest, place, steps)

    made = restoring._fill
    patch.setattr(restoring, "_fill", fill)


@pytest.mark.parametrize("broken", [None, control(in_place, why="the home is touched before the copy is whole")])
def test_a_killed_restore_leaves_the_home_or_can_be_finished(
    whole: Settings, monkeypatch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], None] | None
) -> None:
    backup = make_backup(whole).folder
    before = seen(whole)
    began = time.monotonic()
    restore(whole, backup, replace=True)
    usual = time.monotonic() - began
    killed = 0
    with monkeypatch.context() as patch:
        if broken:
            broken(patch)
        for share in (0.2, 0.4, 0.6, 0.8):
            killed += killed_after(usual * share, replace_home, broken, backup)
            if swap.begun(whole.home_path):  # killed while it was put in place: again finishes that
                replace_home(whole, backup)
            assert seen(whole) == before
    assert killed >= 2, "nothing was killed: nothing was shown"
    restore(whole, backup, replace=True)
    assert seen(whole) == before
    assert not (whole.home_path / ".restoring").exists()


def test_refusals_are_said_in_one_line(whole: Settings) -> None:
    backup = make_backup(whole).folder
    next(backup.rglob("calibration.json")).unlink()
    with pytest.raises((BackupError, BundleError)) as told:
        verify(whole, backup)
    assert isinstance(told.value, EvergreenError)
    assert "\n" not in str(told.value)
