"""Brings a release of features online: explicit windows, one transaction, and a check before anybody can read it.

Feast's own watermarks are not used: they say up to when something was materialized, not which versions of which tables,
so that a corrected day would be skipped. The online store keeps what it holds beside its rows; the lake's table
`materializations` keeps the history for people.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from evergreen.errors import FeatureStoreError
from evergreen.features import store as features
from evergreen.lake import Lake, Release, publish, seal, stage_days
from evergreen.lake.releases import releases
from evergreen.lake.staging import new_attempt
from evergreen.settings import Settings
from evergreen.settings.prediction import ACTIVE_DAYS

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from evergreen.features.store import FeatureStore

PAIRS = "pair_state"
TABLES = features.VIEWS | features.FACTOR_VIEWS
DAY = timedelta(days=1)
RECORD = "materializations"
RELEASE = "features"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Held:
    """What the online store holds, or is to hold."""

    as_of: date
    sequence: int  # of the release
    digest: str  # of the release
    definitions: str
    versions: dict[str, int]

    @property
    def views(self) -> list[str]:
        """Views whose tables it was made from."""
        return [view for view, table in TABLES.items() if table in self.versions]

    @staticmethod
    def read(store: FeatureStore) -> Held | None:
        """The online store's own note, None before the first load."""
        note = features.materialized(store)
        if note is None:
            return None
        as_of = date.fromisoformat(note["as_of"])
        return Held(as_of, note["sequence"], note["digest"], note["definitions"], note["versions"])


@dataclass(frozen=True)
class Window:
    """Days whose rows are brought online for one view."""

    view: str
    start: date
    end: date
    full: bool  # the view is emptied first


def materialize(settings: Settings, release: Release) -> dict[str, Any]:
    """Makes the online store equal to a release, or leaves it as it was.

    Pairs: rows of the days since the earliest change against what the store has (first load: 365 days). Customers and
    products: their snapshots as of the newest day. All in one transaction: counts are reconciled and a seeded sample of
    pairs is read online and compared with offline before it ends, so that readers see the old state or the checked one.

    Returns:
        `as_of`, `release`, `windows` (first and last day of data by view), `rows` (in the store, by view), `checked`
        (values compared), `seconds` and `unchanged`. A release older than the one that is online changes nothing.

    Raises:
        FeatureStoreError: a snapshot is missing, counts differ, or a value online is not the value offline.
    """
    began = monotonic()
    features.check_factors(settings, release.versions)
    features.apply(settings)
    lake = Lake(settings.lake_path)
    store = features.feature_store(settings, release.versions)
    versions = {table: release.versions[table] for table in features.views(settings).values()}
    definitions = features.definitions_digest(settings)
    now = Held(newest_as_of(lake, release), release.sequence, release.digest, definitions, versions)
    with features.online_store(store).transaction(store.config):
        held = Held.read(store)
        if held is not None and not _released(lake, held):
            held = None  # the lake is another one than the store was made from
        if held is not None and held.sequence > now.sequence:
            log.info("release %s is online already, release %s is older", held.sequence, now.sequence)
            return _summary(held, [], _counts(store, held), began, 0)
        if held is not None and held.definitions != now.definitions:
            held = None  # nothing can be built on rows of other definitions
        windows = plan(lake, held, now)
        checked = _bring_online(settings, lake, store, windows, held, now) if windows else 0
        _note(store, now)
        rows = _counts(store, now)
    summary = _summary(now, windows, rows, began, checked)
    if windows:
        _record(lake, windows, summary, now)
    return summary


def _bring_online(
    settings: Settings, lake: Lake, store: FeatureStore, windows: list[Window], held: Held | None, now: Held
) -> int:
    for window in windows:
        _load(lake, store, window, held, now)
    first = now.as_of - ACTIVE_DAYS * DAY
    features.forget_before(store, PAIRS, _seen(first))
    table, version = TABLES[PAIRS], now.versions[TABLES[PAIRS]]
    active = _keys(lake, table, version, [first + n * DAY for n in range(ACTIVE_DAYS)])
    _reconcile(store, lake, now, active.num_rows)
    sample = _sample(lake, table, version, now.as_of, active, settings.feature_store.check_pairs)
    return check_online(store, sample, now.as_of, now.views)


def newest_as_of(lake: Lake, release: Release) -> date:
    """The day after the newest day in a release's tables: a late release of an old day does not set time back."""
    days = [lake.table(table, release.versions[table]).days()[-1:] for table in features.VIEWS.values()]
    return max([release.day, *(day for last in days for day in last)]) + DAY


def plan(lake: Lake, held: Held | None, now: Held) -> list[Window]:
    """What must be brought online; nothing where the store holds it already."""
    last = now.as_of - DAY
    windows = []
    for view in now.views:
        if view == PAIRS:
            continue
        changed = _changed_days(lake, TABLES[view], held, now, last)
        if held is None or changed or held.as_of != now.as_of:
            windows.append(Window(view, last, last, full=True))
    first = now.as_of - ACTIVE_DAYS * DAY
    if held is None:
        windows.append(Window(PAIRS, first, last, full=True))
    elif changed := _changed_days(lake, TABLES[PAIRS], held, now, first):
        windows.append(Window(PAIRS, changed[0], last, full=False))
    return windows


def check_online(store: FeatureStore, pairs: pd.DataFrame, as_of: date, views: Iterable[str] = features.VIEWS) -> int:
    """Compares state of views and features of pairs, online against offline; gives how many values were equal.

    Raises:
        FeatureStoreError: naming the pair, the feature and both values.
    """
    references = [*features.state_references(store, views), *features.service_references(store)]
    offline = features.read_offline(store, references, pairs, as_of)
    online = features.read_online(store, references, pairs, as_of)
    for name in offline.columns:
        differ = ~_equal(offline[name], online[name])
        if differ.any():
            row = int(np.flatnonzero(differ)[0])
            customer, product = (pairs[key].iloc[row] for key in features.KEYS)
            values = [frame[name].tolist()[row] for frame in (online, offline)]
            raise FeatureStoreError(
                f"customer {customer}, product {product} as of {as_of}: {name} is {values[0]!r} online, "
                f"{values[1]!r} offline ({int(differ.sum())} of {len(pairs)} sampled pairs differ). The "
                "online store stays as it was"
            )
    return len(references) * len(pairs)


def _changed_days(lake: Lake, table: str, held: Held | None, now: Held, first: date) -> list[date]:
    """Days from `first` on whose content differs from what the online store was made from."""
    if held is None:
        return []
    before, after = (lake.table(table, which.versions[table]).digests for which in (held, now))
    return sorted(day for day in {*before, *after} if day >= first and before.get(day) != after.get(day))


def _load(lake: Lake, store: FeatureStore, window: Window, held: Held | None, now: Held) -> None:
    """Brings a window online. Entities whose rows changed are forgotten first: a correction may take rows away."""
    table = TABLES[window.view]
    if window.full or held is None:
        features.forget(store, window.view, None)
        features.bring_online(store, window.view, _seen(window.start), _seen(window.end))
        return
    changed = _changed_days(lake, table, held, now, window.start)
    before = _keys(lake, table, held.versions[table], changed)
    features.forget(store, window.view, before)
    features.bring_online(store, window.view, _seen(window.start), _seen(window.end))
    after = _keys(lake, table, now.versions[table], [window.start + n * DAY for n in range(_days(window))])
    gone = before.join(after, list(features.KEYS), join_type="left anti")
    if gone.num_rows:
        earliest = _seen(now.as_of - ACTIVE_DAYS * DAY)
        features.bring_online(store, window.view, earliest, _seen(window.start - DAY), only=gone)


def _reconcile(store: FeatureStore, lake: Lake, now: Held, active: int) -> None:
    """Counts what is online against what the lake says.

    Raises:
        FeatureStoreError: they differ, or customers or products have no snapshot as of the newest day.
    """
    last = now.as_of - DAY
    for view, rows in _counts(store, now).items():
        table = TABLES[view]
        files = lake.table(table, now.versions[table]).files
        expected = active if view == PAIRS else sum(file.rows for file in files if file.day == last)
        if active and not expected and view not in features.FACTOR_VIEWS:  # a short history may hold no purchase
            raise FeatureStoreError(f"{table} has no snapshot as of {now.as_of}: build the features of {last} first")
        if rows != expected:
            raise FeatureStoreError(f"{view} has {rows} entities online and {expected} offline as of {now.as_of}")


def _sample(lake: Lake, table: str, version: int, as_of: date, active: pa.Table, size: int) -> pd.DataFrame:
    """Pairs to compare: a seeded choice of the active ones, some that are no longer active, and one that never was."""
    rng = np.random.default_rng(as_of.toordinal())
    first = as_of - ACTIVE_DAYS * DAY
    older = [day for day in lake.table(table, version).days() if day < first][-10:]
    known = active.sort_by([(key, "ascending") for key in features.KEYS])
    expired = _keys(lake, table, version, older).join(active, list(features.KEYS), join_type="left anti")
    parts = [
        rows.take(np.sort(rng.choice(rows.num_rows, min(some, rows.num_rows), replace=False)))
        for rows, some in ((known, size), (expired, size // 10))
    ]
    nobody = pa.table({key: ["nobody"] for key in features.KEYS})
    sampled: pd.DataFrame = pa.concat_tables([*parts, nobody]).to_pandas()
    return sampled


def _keys(lake: Lake, table: str, version: int, days: list[date]) -> pa.Table:
    """Different (customer, product) pairs with a row on one of these days."""
    pinned = lake.table(table, version)
    keys = list(features.KEYS)
    none = pa.table({key: pa.array([], pa.string()) for key in keys})
    held = set(pinned.days())
    rows = pa.concat_tables([none, *(pinned.read(day, day, keys) for day in days if day in held)])
    return rows.group_by(keys).aggregate([])


def _equal(left: pd.Series, right: pd.Series) -> npt.NDArray[np.bool_]:
    return np.array([_same(one, other) for one, other in zip(left, right, strict=True)], dtype=bool)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list | np.ndarray) and isinstance(other, list | np.ndarray):
        return list(one) == list(other)
    missing = [value is None or value != value for value in (one, other)]
    return all(missing) or (not any(missing) and bool(one == other))


def _released(lake: Lake, held: Held) -> bool:
    return any((known.sequence, known.digest) == (held.sequence, held.digest) for known in releases(lake, RELEASE))


def _counts(store: FeatureStore, held: Held) -> dict[str, int]:
    online = features.online_store(store)
    return {view: online.count(store.config, store.get_feature_view(view)) for view in held.views}


def _note(store: FeatureStore, now: Held) -> None:
    note = {**asdict(now), "as_of": str(now.as_of)}
    features.online_store(store).note(store.config, features.NOTE, json.dumps(note))


def _record(lake: Lake, windows: list[Window], summary: dict[str, Any], now: Held) -> None:
    """Adds one row a view to the lake's table of materializations; those of the same release are replaced."""
    table = lake.table(RECORD)
    finished = datetime.now(UTC)
    rows = [
        {
            "release": now.sequence,
            "view": window.view,
            "as_of": now.as_of,
            "window_start": window.start,
            "window_end": window.end,
            "rows": summary["rows"][window.view],
            "checked": summary["checked"],
            "seconds": summary["seconds"],
            "definitions": now.definitions,
            "finished_at": finished,
        }
        for window in windows
    ]
    day = now.as_of - DAY
    earlier = table.read(day, day).select(table.spec.file_schema.names).to_pylist()
    written = {(row["release"], row["view"]) for row in rows}
    kept = [row for row in earlier if (row["release"], row["view"]) not in written]
    attempt = new_attempt()
    stage_days(lake, RECORD, attempt, [(day, pa.Table.from_pylist([*kept, *rows], schema=table.spec.file_schema))])
    publish(lake, seal(lake, RECORD, attempt, start=day, end=day, transform=f"{RECORD}/1"))


def _summary(held: Held, windows: list[Window], rows: dict[str, int], began: float, checked: int) -> dict[str, Any]:
    return {
        "as_of": str(held.as_of),
        "release": held.sequence,
        "windows": {window.view: [str(window.start), str(window.end)] for window in windows},
        "rows": rows,
        "checked": checked,
        "seconds": round(monotonic() - began, 3),
        "unchanged": not windows,
    }


def _days(window: Window) -> int:
    return (window.end - window.start).days + 1


def _seen(day: date) -> datetime:
    """When the rows of a day are first seen: the midnight after it."""
    return datetime.combine(day + DAY, time(), UTC)
