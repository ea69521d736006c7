"""Full disks: every write either happens or leaves what was there before, says so in one line, and succeeds later.

Each case is tried with more and more room until it succeeds, so that space ends at every moment of it: on a small
tmpfs (the system's own ENOSPC; mounting one takes root), and with a limit on the size of files, which works anywhere.
Each brings a broken variant that the same test must notice.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import evergreen.ingest.stage as ingest_stage
import evergreen.lake.staged_set as staged_sets
import evergreen.promotion.evidence as evidence
import evergreen.training.dataset as dataset
from evergreen.errors import DiskFullError
from evergreen.jobs.entry import told_plainly
from evergreen.lake import Lake, StagedSet, latest_release, publish, publish_set, seal, stage_days
from evergreen.lake.staging import begin, new_attempt
from evergreen.models import bundle
from evergreen.models.calibration import BetaCalibration
from evergreen.models.candidate import candidate_class
from evergreen.models.preprocessing import Preprocessor
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.settings import Settings, load_settings
from tests.shop import FIRST, Shop, publish_purchases, purchases_of
from tests.unit.ingest.conftest import as_csv, days_of_lines

pytestmark = pytest.mark.fault

DAYS = [date(2011, 8, 1), date(2011, 8, 2)]
MOST = 4 << 20


@dataclass
class Disk:
    """A place whose room can end."""

    root: Path
    real: bool  # a disk of its own; else only the size of files is limited
    step: int  # bytes of room more at each try

    @contextmanager
    def room(self, left: int) -> Iterator[None]:
        """Within it only `left` more bytes can be written (in one file, where the disk is not real)."""
        if not self.real:
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))  # Python ignores SIGXFSZ: writes give EFBIG
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            return
        ballast = self.root / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                file.truncate(max(0, file.tell() - left))
        try:
            yield
        finally:
            ballast.unlink()


@pytest.fixture(params=["tmpfs", "limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    monkeypatch.setenv("EVERGREEN_HOME", str(root / "home"))
    if request.param == "limit":
        yield Disk(root, real=False, step=384)
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MOST}", "tmpfs", str(root)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here ({mounted.stderr.strip()}): the limit on files is tested")
    yield Disk(root, real=True, step=4096)
    subprocess.run(["umount", "--lazy", str(root)], check=True)


@dataclass
class World:
    """A home and what a case needs there."""

    settings: Settings
    given: Any = None

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake_path)


def world_at(home: Path, given: Any = None) -> World:
    return World(load_settings("local").model_copy(update={"home": home}), given)


@dataclass(frozen=True)
class Case:
    """Something that is written.

    `prepare` is done before the disk is full; `write` gives a digest of what it wrote; `seen` is what readers see.
    """

    prepare: Callable[[Path], World]
    write: Callable[[World], str]
    seen: Callable[[World], Any]
    tells: bool = True  # SQLite says `disk I/O error` where the size of files is limited, not that anything is full


def leftovers(home: Path) -> list[str]:
    """Drafts, and staged files that no manifest hands on."""
    staged = {path.stem for path in home.glob("lake/staging/*.json")}
    attempts = [path for path in home.glob("lake/*/staging/*") if path.name not in staged]
    drafts = [path for path in home.rglob(".*") if path.name.startswith(".")]
    tables = [path for path in home.rglob("_delta_log/*") if path.suffix != ".json"]
    return sorted(str(path.relative_to(home)) for path in (*attempts, *drafts, *tables))


def quarantined(rule: str, rows: int) -> pa.Table:
    columns = [["drop"] * rows, list(range(rows)), [rule] * rows, [""] * rows, ["{}"] * rows, ["test"] * rows]
    return pa.table(columns, schema=Lake("x").table("quarantine").spec.file_schema)


def staged(lake: Lake, rule: str, rows: int) -> StagedSet:
    attempt = new_attempt()
    begin(lake, "quarantine", attempt)
    stage_days(lake, "quarantine", attempt, ((day, quarantined(rule, rows)) for day in DAYS))
    part = seal(lake, "quarantine", attempt, start=DAYS[0], end=DAYS[-1], transform="test/1")
    return StagedSet("transactions", DAYS[-1], DAYS[0], DAYS[-1], (part,), {"source": rule})


def source_of_lines(home: Path) -> World:
    file = home.parent.parent / "shop.csv"
    file.write_text(as_csv(days_of_lines(2, 40)))
    return world_at(home, str(file))


def stage_lines(world: World) -> str:
    made = ingest_stage.stage_transactions(world.settings, *DAYS, source=world.given, run_id="run")
    made.save(world.lake)
    return made.digest


def published_before(home: Path) -> World:
    world = world_at(home)
    first = staged(world.lake, "old", 3)
    first.save(world.lake)
    publish_set(world.lake, first)
    world.given = staged(world.lake, "new", 50)
    world.given.save(world.lake)
    return world


def publish_part(world: World) -> str:
    [part] = world.given.parts
    publish(world.lake, part)
    return str(part.digest)


def publish_and_release(world: World) -> str:
    return str(publish_set(world.lake, world.given)["digest"])


def version_and_rows(world: World) -> Any:
    table = world.lake.table("quarantine")
    assert table.read().num_rows == table.rows  # whole files only
    return table.version, table.digests


def released_rows(world: World) -> Any:
    newest = latest_release(world.lake, "transactions")
    return newest and (newest.sequence, world.lake.table("quarantine", newest.versions["quarantine"]).digests)


def save_evidence(world: World) -> str:
    return evidence.save_evidence(world.settings, {"verdict": "promote", "metrics": ["x" * 100] * 100})


def readable_evidence(world: World) -> list[str]:
    files = sorted((world.settings.home_path / "evidence").glob("*.json"))
    return [evidence.load_evidence(world.settings, file.stem).verdict for file in files]


def trained(home: Path) -> World:
    """A bundle where the next one will be written, which is larger."""
    world = world_at(home)
    save_bundle(world, notes=1)
    return world


def save_bundle(world: World, notes: int = 20_000) -> str:
    kind = candidate_class("heuristic")
    params = {"feature": "pair_purchases"}
    columns = {"pair_purchases": pa.array(range(50)).to_numpy()}
    preprocessor = Preprocessor.fit(kind.plan, [("pair_purchases", "number")], columns)
    labels = (columns["pair_purchases"] > 25).astype("int8")
    sample = bundle_sample(preprocessor, columns, labels)
    candidate = kind()
    report = {**candidate.fit(sample, sample, params, seed=1, threads=1), "notes": "x" * notes}
    calibration = BetaCalibration.fit(candidate.predict(sample.matrix), labels)
    manifest = bundle.make_manifest(
        model_name="buy-it-again", candidate="frequency", model="heuristic", params=params, seed=1,
        features=[("pair_purchases", "number")], service="buy_again", spec_digest="0" * 64,
        training_set={"digest": "1" * 64}, report=report,
    )  # fmt: skip
    return bundle.save_bundle(trained_folder(world), manifest, preprocessor, candidate, calibration).digest


def bundle_sample(preprocessor: Preprocessor, columns: dict[str, Any], labels: Any) -> Any:
    from evergreen.models.candidate import Sample

    return Sample(preprocessor.transform(columns, len(labels)), labels, preprocessor.names)


def trained_folder(world: World) -> Path:
    return world.settings.home_path / "models" / "trained" / "attempt"


def loadable_bundle(world: World) -> str:
    return bundle.load_bundle(trained_folder(world)).digest


def with_ledger(home: Path) -> World:
    world = world_at(home)
    Ledger(world.settings).append(Entry("train", "1"))
    return world


def append_entry(world: World) -> str:
    ledger = Ledger(world.settings)
    ledger.append(Entry("train", "2", error_detail="x" * 60_000, timestamp="2011-08-31T00:00:00+00:00", command="test"))
    return "appended"


def whole_chain(world: World) -> list[str]:
    ledger = Ledger(world.settings)
    found = ledger.verify()
    assert found.intact, found.problems
    assert len(ledger.mirror.read_text().splitlines()) == found.entries
    return [sealed.entry.model_version for sealed in ledger.entries()]


STAGE = Case(source_of_lines, stage_lines, lambda world: len(list(world.lake.root.glob("staging/*.json"))))
PUBLISH = Case(published_before, publish_part, version_and_rows)
RELEASE = Case(published_before, publish_and_release, released_rows)
EVIDENCE = Case(world_at, save_evidence, readable_evidence)
BUNDLE = Case(trained, save_bundle, loadable_bundle)
LEDGER = Case(with_ledger, append_entry, whole_chain, tells=False)


def in_place(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def commit_in_place(world: World) -> str:
    """Writes the next version of the log as a plain file."""
    [part] = world.given.parts
    table = world.lake.table("quarantine")
    actions = [{"add": {"path": file.path, "size": file.size_bytes, "partitionValues": {"event_date": str(file.day)},
                        "modificationTime": 0, "dataChange": True, "stats": json.dumps({"numRecords": file.rows})}}
               for file in part.files]  # fmt: skip
    actions += [{"remove": {"path": file.path, "dataChange": True, "deletionTimestamp": 0}} for file in table.files]
    log = table.root / "_delta_log" / f"{(table.version or 0) + 1:020}.json"
    in_place(log, "\n".join(map(json.dumps, actions)))
    return str(part.digest)


def keep_attempts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ingest_stage, "discard", lambda *_: None)


def manifests_in_place(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(staged_sets, "write_whole", in_place)


def evidence_in_place(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(evidence, "write_atomically", in_place)


def remove_and_save(world: World) -> str:
    shutil.rmtree(trained_folder(world), ignore_errors=True)
    return save_bundle(world)


def mirror_fails_the_entry(patch: pytest.MonkeyPatch) -> None:
    """As if what is committed could still be reported as failed."""
    written = Ledger._write_mirror

    def insist(self: Ledger, entries: Any) -> None:
        try:
            written(self, entries)
        except OSError as error:
            raise RuntimeError("the entry could not be written") from error

    patch.setattr(Ledger, "_write_mirror", insist)


def release_first(world: World) -> str:
    """Says that a version is released before it is there."""
    table = world.lake.table("quarantine")
    newest = latest_release(world.lake, "transactions")
    assert newest is not None
    versions = {"quarantine": table.version}
    staged_sets.release(world.lake, "transactions", day=DAYS[-1], digest="soon", versions=versions, inputs={})
    return publish_and_release(world)


def rooms(disk: Disk) -> Iterator[int]:
    """Bytes that are left, from none on."""
    left = 0
    while left < MOST:
        yield left
        left += max(disk.step, left // 16)


def broken(case: Case, why: str, change: Callable[[pytest.MonkeyPatch], None] | None = None, **needs: bool) -> Any:
    mark = pytest.mark.xfail(strict=True, reason=f"control: {why}")
    return pytest.param(case, change, needs.get("real", False), id=f"control: {why}", marks=mark)


@pytest.mark.parametrize(
    ("case", "change", "needs_real"),
    [
        pytest.param(STAGE, None, False, id="staging"),
        pytest.param(PUBLISH, None, False, id="publishing"),
        pytest.param(RELEASE, None, False, id="releasing"),
        pytest.param(EVIDENCE, None, False, id="evidence"),
        pytest.param(BUNDLE, None, False, id="bundle"),
        pytest.param(LEDGER, None, False, id="ledger"),
        broken(STAGE, "staged files of a failed attempt stay", keep_attempts),
        broken(STAGE, "half a manifest can be loaded", manifests_in_place, real=True),
        broken(replace(PUBLISH, write=commit_in_place), "half a commit is a version"),
        broken(replace(RELEASE, write=release_first), "what is released is not there yet", real=True),
        broken(EVIDENCE, "half a document stands under a digest", evidence_in_place),
        broken(replace(BUNDLE, write=remove_and_save), "the bundle before is gone, the new one is not there"),
        broken(LEDGER, "what is committed is reported as failed", mirror_fails_the_entry, real=True),
    ],
)
def test_a_full_disk_shows_nothing_of_it_and_later_the_same_is_written(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case, change: Any, needs_real: bool
) -> None:
    if needs_real and not disk.real:
        pytest.skip("where only the size of files is limited, files that are smaller than those before them fit")
    home = disk.root / "home"
    world = case.prepare(home)
    before, there = case.seen(world), leftovers(home)
    with monkeypatch.context() as patch:
        if change:
            change(patch)
        for left in rooms(disk):
            failed = None
            with disk.room(left):
                try:
                    digest = case.write(world)
                except Exception as error:
                    failed, told = error, told_plainly(error)
            if failed is None:
                break
            assert case.seen(world) == before
            assert leftovers(home) == there
            if case.tells or disk.real:
                assert isinstance(told, DiskFullError), failed
                assert "\n" not in str(told)
                assert "Free space there" in str(told)
                assert not disk.real or str(told).startswith(f"the disk of {disk.root}")
        assert left > 0, "there was room from the start: nothing was shown"
        after = case.seen(world)
        assert after != before

    roomy = case.prepare(tmp_path / "roomy" / "home")
    assert case.write(roomy) == digest
    assert case.seen(roomy) == after


@pytest.fixture(scope="module")
def filled_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop whose lake lies where there is room."""
    settings = load_settings("local").model_copy(update={"home": tmp_path_factory.mktemp("shop")})
    purchases = purchases_of(40, 15, 170)
    day = FIRST + timedelta(days=169)
    publish_purchases(settings, purchases, day)
    return Shop(settings, purchases, day)


@pytest.mark.parametrize(
    "cleans",
    [
        True,
        pytest.param(False, marks=pytest.mark.xfail(strict=True, reason="control: the draft of a failed set stays")),
    ],
)
@pytest.mark.parametrize("left", [0, 1_000, 4_096])
def test_a_training_set_that_did_not_fit_is_not_there(
    disk: Disk, filled_shop: Shop, monkeypatch: pytest.MonkeyPatch, cleans: bool, left: int
) -> None:
    """Its lake lies elsewhere: only what is written now must fit."""
    home = disk.root / "home"
    shop = replace(filled_shop, settings=filled_shop.settings.model_copy(update={"home": home}))
    home.mkdir()
    (home / "lake").symlink_to(filled_shop.settings.lake_path)
    there = leftovers(home)
    with monkeypatch.context() as patch:
        if not cleans:
            patch.setattr(dataset.shutil, "rmtree", lambda *_, **__: None)
        with disk.room(left), pytest.raises(Exception) as raised:  # noqa: PT011 - whichever library notices first
            dataset.build_training_set(shop.settings, shop.day, join=shop.join)
        assert isinstance(told_plainly(raised.value), DiskFullError)
        assert leftovers(home) == there
    made = dataset.build_training_set(shop.settings, shop.day, join=shop.join)
    assert dataset.TrainingSet.open(made.folder, made.digest).digest == made.digest


def test_the_job_says_it_in_one_line(disk: Disk, tmp_path: Path) -> None:
    """As a person sees it: exit code 1 and one line, no traceback; then space, and it works."""
    if not disk.real:
        pytest.skip("a process of its own needs a disk that is full for it")
    source = tmp_path / "shop.csv"
    source.write_text(as_csv(days_of_lines(2, 40)))
    command = [sys.executable, "-m", "evergreen.jobs.ingest", "--start", str(DAYS[0]), "--source", str(source)]
    with disk.room(0):
        done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"evergreen: the disk of {disk.root}")
    assert "is full (0.0 MB free): a file could not be written" in done.stderr
    assert done.stderr.count("\n") == 1
    assert leftovers(disk.root / "home") == []
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 40
