"""Measures the online store against Feast's own SQLite store, on made-up pairs with the real columns."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from evergreen.jobs.entry import run_job
from evergreen.lake import Lake, begin, publish, seal, stage_days
from evergreen.lake.feature_columns import CUSTOMER_COLUMNS, PAIR_COLUMNS, PRODUCT_COLUMNS, Column
from evergreen.lake.staging import new_attempt
from evergreen.settings import Settings, load_settings

if TYPE_CHECKING:
    from evergreen.features.store import FeatureStore

NEWEST = date(2011, 8, 31)
DAY = timedelta(days=1)
YEAR = 365
CUSTOMERS, PRODUCTS = 4_300, 3_900
READ_PAIRS, READS = 50, 20
SEED = 28


@dataclass(frozen=True)
class Way:
    """A way to bring features online."""

    name: str
    online: Mapping[str, Any] | None  # None: ours
    bring: Callable[[FeatureStore, str, datetime, datetime], None]


def measure(home: Path, pairs: int) -> dict[str, Any]:
    """First load, one day more, size and reads of each way, in a home of its own.

    Returns:
        For each way: seconds of wall clock and CPU for the first load of all pairs and for a day (its pairs and all
        snapshots), bytes on disk, and the median milliseconds of reading the state of 50 pairs; and how many times as
        much Feast's own store takes.
    """
    settings = load_settings().model_copy(update={"home": home})
    write_tables(Lake(settings.lake_path), pairs)
    ways = {way.name: measure_way(settings, home, way) for way in the_ways(home)}
    feast, ours = ways["feast_sqlite"], ways["ours"]
    ratios = {name: round(feast[name] / ours[name], 2) for name in ours}
    return {"pairs": pairs, "cores": len(os.sched_getaffinity(0)), "ways": ways, "feast_sqlite_to_ours": ratios}


def the_ways(home: Path) -> list[Way]:
    """Ours, ours written by Feast's materialize, and Feast's materialize into Feast's own store."""
    from evergreen.features.store import bring_online

    return [
        Way("ours", None, bring_online),
        Way("ours_by_feast_materialize", None, _by_feast),
        Way("feast_sqlite", {"type": "sqlite", "path": str(home / "feast-sqlite.db")}, _by_feast),
    ]


def measure_way(settings: Settings, home: Path, way: Way) -> dict[str, float]:
    """Figures of one way; the online store begins empty."""
    from evergreen.features.store import VIEWS, definitions, feature_store, register, state_references

    for file in home.glob("**/*.db*"):
        file.unlink()
    (home / "feast").mkdir(exist_ok=True)
    store = feature_store(settings, online=way.online)
    register(store, definitions(settings))
    newest = datetime.combine(NEWEST + DAY, time(), UTC)
    first_load = _timed(lambda: way.bring(store, "pair_state", newest - (YEAR - 1) * DAY, newest))

    def bring_day() -> None:
        for view in VIEWS:
            way.bring(store, view, newest, newest)

    one_day = _timed(bring_day)
    request = {
        "customer_id": [_customer(number) for number in range(READ_PAIRS)],
        "product_id": [_product(number) for number in range(READ_PAIRS)],
    }
    references = state_references(store)
    reads = [_timed(lambda: store.get_online_features(references, request).to_dict()) for _ in range(READS)]
    path = Path(store.config.online_store.path)
    return {
        "first_load_seconds": round(first_load[0], 3),
        "first_load_cpu_seconds": round(first_load[1], 3),
        "day_seconds": round(one_day[0], 3),
        "day_cpu_seconds": round(one_day[1], 3),
        "bytes": sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")),
        "read_50_pairs_cpu_ms": round(median(cpu for _, cpu in reads) * 1000, 3),
    }


def write_tables(lake: Lake, pairs: int) -> None:
    """Publishes `pairs` pairs over a year and the snapshots of the newest day."""
    random = np.random.default_rng(SEED)
    days = random.integers(0, YEAR, pairs)

    def by_day() -> Iterator[tuple[date, pa.Table]]:
        for age in range(YEAR - 1, -1, -1):
            numbers = np.flatnonzero(days == age).tolist()
            keys = {
                "customer_id": [_customer(number) for number in numbers],
                "product_id": [_product(number) for number in numbers],
            }
            yield NEWEST - age * DAY, _rows(random, PAIR_COLUMNS, keys, NEWEST - age * DAY)

    customers = {"customer_id": [_customer(number) for number in range(CUSTOMERS)]}
    products = {"product_id": [_product(number) for number in range(PRODUCTS)]}
    _publish(lake, "pair_features", by_day())
    _publish(lake, "customer_features", [(NEWEST, _rows(random, CUSTOMER_COLUMNS, customers, NEWEST))])
    _publish(lake, "product_features", [(NEWEST, _rows(random, PRODUCT_COLUMNS, products, NEWEST))])


def _publish(lake: Lake, table: str, days: Any) -> None:
    attempt = new_attempt()
    begin(lake, table, attempt)
    stage_days(lake, table, attempt, days)
    publish(lake, seal(lake, table, attempt, start=NEWEST - YEAR * DAY, end=NEWEST, transform="bench"))


def _rows(random: np.random.Generator, columns: Sequence[Column], keys: Mapping[str, list[str]], day: date) -> pa.Table:
    rows = len(next(iter(keys.values())))
    offsets = np.concatenate([[0], np.cumsum(random.integers(1, 6, rows))]).astype(np.int32)
    made: dict[str, Any] = dict(keys)
    made["event_timestamp"] = pa.array([datetime.combine(day + DAY, time(), UTC)] * rows, pa.timestamp("us", tz="UTC"))
    for column in columns:
        if column.kind == "string":
            made[column.name] = ["United Kingdom"] * rows
        elif column.kind == "list<int64>":
            made[column.name] = pa.ListArray.from_arrays(offsets, random.integers(14_000, 15_000, offsets[-1]))
        else:
            made[column.name] = random.integers(0, 100_000, rows)
    return pa.table(made)


def _customer(number: int) -> str:
    return f"{12_000 + number % CUSTOMERS}"


def _product(number: int) -> str:
    """With `_customer` a different pair for each number: the two counts have no common divisor but 100."""
    return f"{20_000 + (number + number // (CUSTOMERS * PRODUCTS // 100)) % PRODUCTS}"


def _by_feast(store: FeatureStore, view: str, start: datetime, end: datetime) -> None:
    quiet = io.StringIO()  # Feast prints its progress
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        store.materialize(start, end, [view])


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall clock and of CPU."""
    wall, cpu = perf_counter(), process_time()
    work()
    return perf_counter() - wall, process_time() - cpu


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.bench_online_store [--pairs N] [--out FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.bench_online_store", description=__doc__)
    parser.add_argument("--pairs", type=int, default=190_000, help="pairs that are brought online first")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)

    def job() -> dict[str, Any]:
        command = f"python -m evergreen.jobs.bench_online_store --pairs {given.pairs}"
        with tempfile.TemporaryDirectory() as home:
            return {"command": command, **measure(Path(home), given.pairs)}

    return run_job(job, given.out)


if __name__ == "__main__":
    sys.exit(main())
