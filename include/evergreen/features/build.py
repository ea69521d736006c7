"""Builds the feature tables of a day: folds from the earliest changed day on, and fills missing snapshots."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from evergreen.errors import LakeError
from evergreen.features import factors
from evergreen.features.fold import PAIR_KEY, fold, newest_states, pair_days, pair_rows
from evergreen.features.grid import grid
from evergreen.features.reading import read_files, read_small
from evergreen.features.snapshots import customer_snapshots, product_snapshots
from evergreen.features.tiles import customer_tiles, product_tiles
from evergreen.lake import Lake, LakeTable, Release, Staged, begin, latest_release, seal
from evergreen.lake.digest import digest_json
from evergreen.lake.schemas import TableSpec
from evergreen.lake.staged_set import StagedSet
from evergreen.lake.staging import discard, new_attempt, stage_days
from evergreen.logs import log_context
from evergreen.settings import Settings

LOG = logging.getLogger(__name__)

VERSION = "features/1"
"""Version of the transform. Raise it where the same lines give other rows: everything is then built anew."""

FOLDED = ("pair_features", "daily_customer", "daily_product")
SNAPSHOTS = ("customer_features", "product_features")
TABLES = (*FOLDED, *SNAPSHOTS)

PURCHASES = (*PAIR_KEY, "event_date")

FEW_DAYS = 31
"""The pairs of so many days are few enough to hold here and to send to every task."""


def table_names(settings: Settings) -> tuple[str, ...]:
    """The tables that a build makes: `TABLES`, and those of factors where the settings ask for them."""
    return (*TABLES, *factors.TABLES) if settings.features.factors.enabled else TABLES


@dataclass(frozen=True)
class Plan:
    """What a build has to do, found out from table logs alone."""

    day: date
    transactions: LakeTable  # at the pinned version
    tables: dict[str, LakeTable]
    transform: str
    first_day: date
    newest_day: date
    changed_from: date | None  # fold from this day to the newest; None: no line changed
    snapshots: tuple[date, ...]  # days whose snapshot (`as_of` is the day after) is made
    factors: tuple[date, ...] = ()  # days whose purchases are factorised; none unless the settings say so
    forgotten: tuple[date, ...] = ()  # days whose factors are no longer right, and which nobody needs now

    @property
    def nothing(self) -> bool:
        """True where the tables already hold what the lines give."""
        return self.changed_from is None and not (self.snapshots or self.factors or self.forgotten)

    @property
    def rebuild(self) -> bool:
        """True where nothing that was built before is used."""
        return self.changed_from is not None and self.changed_from <= self.first_day


def plan_build(settings: Settings, day: date) -> Plan:
    """What `stage_features` would do for a day.

    Raises:
        LakeError: the day is not in the newest release of transactions.
    """
    lake = Lake(settings.lake_path)
    released = latest_release(lake, "transactions")
    if released is None:
        raise LakeError("no transactions are released yet; ingest a day first")
    transactions = lake.table("transactions", released.versions["transactions"])
    days = transactions.days()
    if not days or not days[0] <= day <= days[-1]:
        span = f"{days[0]} to {days[-1]}" if days else "no day"
        raise LakeError(f"transactions hold {span}, not {day}; ingest that day first")
    tables = {name: lake.table(name) for name in TABLES}
    transform = f"{VERSION}+{digest_json(list(settings.features.categories.items()))[:8]}"  # their order counts
    changed_from = _earliest_change(lake, tables, transactions, transform)
    have = set.intersection(*(set(tables[name].digests) for name in SNAPSHOTS))
    kept = {found for name in SNAPSHOTS for found in tables[name].digests}
    # The newest day's too: pairs are folded up to it, and the online store serves the newest day that there is, also
    # while a backfill ingests faster than features follow.
    wanted = {days[-1], *(as_of - timedelta(days=1) for as_of in grid(day, settings.training).dates)}
    stale = set() if changed_from is None else {found for found in kept if found >= changed_from}
    wanted = {found for found in wanted if days[0] <= found <= days[-1]}
    snapshots = tuple(sorted((wanted - have) | stale))
    plan = Plan(day, transactions, tables, transform, days[0], days[-1], changed_from, snapshots)
    return _with_factors(lake, settings, plan, wanted) if settings.features.factors.enabled else plan


def _with_factors(lake: Lake, settings: Settings, plan: Plan, wanted: set[date]) -> Plan:
    """The plan with the days to factorise: those that are wanted and are not there, or are not right any more.

    A day that is not right and not wanted is forgotten instead: it takes seconds, and a build for it makes it again.
    """
    tables = {name: lake.table(name) for name in factors.TABLES}
    released = latest_release(lake, "features")
    right: set[date] = set()
    if released is not None and released.inputs.get("factors") == factors.transform(settings.features.factors):
        held = {name: _released(lake, released, name) for name in tables}
        right = {
            found
            for found in set.intersection(*(set(days) for days in held.values()))
            if all(tables[name].digests.get(found) == held[name][found] for name in tables)
            and (plan.changed_from is None or found < plan.changed_from)
        }
    kept = {found for table in tables.values() for found in table.digests}
    made, gone = tuple(sorted(wanted - right)), tuple(sorted(kept - right - wanted))
    return replace(plan, tables=plan.tables | tables, factors=made, forgotten=gone)


def stage_features(
    spark: SparkSession | Callable[[], SparkSession], settings: Settings, day: date, *, run_id: str = ""
) -> StagedSet:
    """Stages the feature tables as they must be after the newest released transactions, with snapshots for `day`.

    Folds from the earliest day whose lines changed since the last release of features (all days after it are derived
    from it), and makes the snapshots that this touches and those of the day's grid that are missing. Stages nothing
    where nothing changed.

    Args:
        spark: the session, or what starts it: not called where there is nothing to do.
        settings: all settings.
        day: day of data; its snapshot has `as_of = day + 1`.
        run_id: who asks, for the log.

    Raises:
        LakeError: the day is not in the newest release of transactions.
    """
    lake = Lake(settings.lake_path)
    attempt = new_attempt()
    tables = table_names(settings)
    try:
        folders = {name: begin(lake, name, attempt) for name in tables}
        plan = plan_build(settings, day)
        scratch = lake.root / "staging" / f"{attempt}.read"
        with log_context(run=run_id, day=day, stage="features"):
            whence = plan.changed_from or "nowhere: no line changed"
            LOG.info("folding from %s, %d snapshots", whence, len(plan.snapshots))
            if not plan.nothing:
                session = spark() if callable(spark) else spark
                try:
                    if plan.changed_from is not None:
                        _stage_folded(session, settings, plan, plan.changed_from, folders, scratch)
                    if plan.snapshots:
                        _stage_snapshots(session, settings, plan, folders, scratch)
                    if plan.factors:
                        _stage_factors(session, settings, plan, folders, scratch)
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
            return _seal(lake, settings, plan, attempt)
    except BaseException:
        for name in tables:
            discard(lake, name, attempt)
        raise


def _earliest_change(lake: Lake, tables: dict[str, LakeTable], transactions: LakeTable, transform: str) -> date | None:
    """The earliest day whose lines (or unreleased rows) differ from those of the newest release of features."""
    first_day = transactions.days()[0]
    released = latest_release(lake, "features")
    if released is None or released.inputs.get("transform") != transform:
        return first_day
    try:
        before = lake.table("transactions", int(released.inputs["transactions"])).digests
    except LakeError:  # vacuumed: what was built from it cannot be compared any more
        return first_day
    changed = _different(before, transactions.digests)
    for name, table in tables.items():  # a build that crashed between two tables leaves rows that no release knows
        changed |= _different(_released(lake, released, name), table.digests)
    return min(changed) if changed else None


def _released(lake: Lake, released: Release, name: str) -> dict[date, str]:
    version = released.versions.get(name)
    return {} if version is None else lake.table(name, version).digests


def _different(old: dict[date, str], new: dict[date, str]) -> set[date]:
    return {day for day in {*old, *new} if old.get(day) != new.get(day)}


def _stage_folded(
    spark: SparkSession, settings: Settings, plan: Plan, start: date, folders: dict[str, Path], scratch: Path
) -> None:
    changed = plan.transactions.paths(start, plan.newest_day)
    days = pair_days(read_files(spark, plan.transactions.spec, changed, scratch))
    previous = None
    if not plan.rebuild:
        stored = plan.tables["pair_features"]
        before = stored.paths(None, start - timedelta(days=1))
        if (plan.newest_day - start).days < FEW_DAYS:
            pairs = _pairs(plan.transactions.spec, changed)
            previous = newest_states(read_files(spark, stored.spec, before, scratch, only=pairs))
        else:
            touched = days.where("customer_id IS NOT NULL").select(*PAIR_KEY).distinct()
            history = read_files(spark, stored.spec, before, scratch)
            previous = newest_states(history.join(touched, list(PAIR_KEY), "left_semi"))
    folded = fold(days, previous).persist()
    categories = settings.features.categories
    _write(pair_rows(folded), folders["pair_features"], PAIR_KEY)
    _write(customer_tiles(folded, categories), folders["daily_customer"], ("customer_id",))
    _write(product_tiles(folded), folders["daily_product"], ("product_id",))
    folded.unpersist()


def _pairs(spec: TableSpec, paths: Sequence[str]) -> pa.Table:
    """The pairs of known customers in a few files of transactions, each once."""
    lines = read_small(spec, paths).select(list(PAIR_KEY))
    return lines.filter(pc.is_valid(lines["customer_id"])).group_by(list(PAIR_KEY)).aggregate([])


def _stage_snapshots(
    spark: SparkSession, settings: Settings, plan: Plan, folders: dict[str, Path], scratch: Path
) -> None:
    as_ofs = [day + timedelta(days=1) for day in plan.snapshots]
    categories = settings.features.categories
    for tile, table, snapshots in (
        ("daily_customer", "customer_features", customer_snapshots),
        ("daily_product", "product_features", product_snapshots),
    ):
        paths = _paths(plan, tile, folders, None, plan.snapshots[-1])
        tiles = read_files(spark, plan.tables[tile].spec, paths, scratch)
        _write(snapshots(tiles, as_ofs, categories), folders[table], plan.tables[table].spec.key)


def _stage_factors(
    spark: SparkSession, settings: Settings, plan: Plan, folders: dict[str, Path], scratch: Path
) -> None:
    given = settings.features.factors
    first = plan.factors[0] + timedelta(days=1) - timedelta(days=given.history_days)
    spec = plan.tables["pair_features"].spec
    narrow = replace(spec, schema=pa.schema([spec.schema.field(name) for name in PURCHASES]))
    paths = _paths(plan, "pair_features", folders, first, plan.factors[-1])
    purchases = read_files(spark, narrow, paths, scratch)
    for day in plan.factors:
        LOG.info("factorising the purchases up to %s", day)
        made = factors.factorise(purchases, day + timedelta(days=1), given)
        for name in factors.TABLES:
            if made is not None:
                _write(made[name], folders[name], plan.tables[name].spec.key)
            else:  # a day without any is a day
                empty = plan.tables[name].spec.file_schema.empty_table()
                stage_days(Lake(settings.lake_path), name, folders[name].name, [(day, empty)])


def _paths(plan: Plan, name: str, folders: dict[str, Path], first: date | None, last: date) -> list[str]:
    """Files of the days from `first` to `last`: published before the first folded day, staged from it on."""
    last_published = last if plan.changed_from is None else min(last, plan.changed_from - timedelta(days=1))
    staged = sorted(
        str(file)
        for folder in folders[name].glob("event_date=*")
        if (first or date.min) <= date.fromisoformat(folder.name.removeprefix("event_date=")) <= last
        for file in folder.glob("*.parquet")
    )
    return [*plan.tables[name].paths(first, last_published), *staged]


def _write(rows: DataFrame, folder: Path, key: Iterable[str]) -> None:
    """One file a day, its rows in the order of the key."""
    ordered = rows.repartition("event_date").sortWithinPartitions("event_date", *key)
    ordered.write.mode("append").partitionBy("event_date").parquet(str(folder))


def _seal(lake: Lake, settings: Settings, plan: Plan, attempt: str) -> StagedSet:
    inputs = {"transactions": plan.transactions.version, "transform": plan.transform}
    counts: dict[str, int] = {}
    covered: dict[str, tuple[date, ...]] = dict.fromkeys(SNAPSHOTS, plan.snapshots)
    if settings.features.factors.enabled:
        inputs["factors"] = factors.transform(settings.features.factors)
        counts["factors"] = len(plan.factors)
        covered |= dict.fromkeys(factors.TABLES, (*plan.factors, *plan.forgotten))
    last = max([plan.newest_day, *(day for table in plan.tables.values() for day in table.days()[-1:])])
    parts: list[Staged] = []
    for name in table_names(settings):
        only = covered.get(name, () if plan.changed_from is None else None)
        start = min([plan.changed_from or plan.day, *(only or ())])
        parts.append(
            seal(
                lake, name, attempt, start=start, end=last, transform=plan.transform, inputs=inputs, only=only,
                mark_empty=name in SNAPSHOTS,
            )
        )  # fmt: skip
    counts = {part.table: part.rows for part in parts} | {"snapshots": len(plan.snapshots)} | counts
    days = [plan.changed_from or plan.day, *plan.snapshots[:1], *plan.factors[:1]]
    return StagedSet("features", plan.day, min(days), plan.newest_day, tuple(parts), inputs, counts)
