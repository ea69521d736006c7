"""Measures the offline store against Feast's own `duckdb` and `dask` stores: the same label rows, the same features.

Each measurement is a process of its own, so that its peak of memory is its own. It joins a few label rows first, so
that imports do not count, then all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from importlib import import_module
from itertools import product
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evergreen.errors import FeatureStoreError
from evergreen.jobs.entry import run_job
from evergreen.lake import Lake, begin, publish, seal, stage_days
from evergreen.lake.digest import digest_table
from evergreen.lake.feature_columns import CUSTOMER_COLUMNS, PAIR_COLUMNS, PRODUCT_COLUMNS
from evergreen.lake.staging import new_attempt

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore

OURS = "ours"
PEERS = ("feast_duckdb", "feast_dask")
LABEL_ROWS = (200_000, 1_000_000)
OBSERVATIONS = {"sparse": 2, "dense": 10}
"""Rows of an entity's history within the year that is joined."""

FIRST = date(2010, 9, 1)
DAYS = 364
AS_OFS, STEP_DAYS = 8, 7
TTL = timedelta(days=364)
PAIRS_A_CUSTOMER, PAIRS_A_PRODUCT = 25, 50
FEATURES_A_TABLE = 8
TABLES = {
    "pair_features": (("customer_id", "product_id"), PAIR_COLUMNS),
    "customer_features": (("customer_id",), CUSTOMER_COLUMNS),
    "product_features": (("product_id",), PRODUCT_COLUMNS),
}
FEATURES = {
    table: [column.name for column in columns if column.kind == "int64"][:FEATURES_A_TABLE]
    for table, (_, columns) in TABLES.items()
}
TIME = pa.timestamp("us", tz="UTC")
WARM_ROWS = 1_000
POLL_SECONDS = 0.1
SEED = 28
MIB = 2**20
ONE_DAY = np.timedelta64(1, "D")
ENDED = "ended"


def measure(folder: Path, label_rows: Sequence[int], memory_gib: float) -> dict[str, Any]:
    """All stores on all sizes and histories.

    Returns:
        `cases`: a list of label rows, history, `stores` (figures of `measure_store`, or why it was ended) and `to_ours`
        (how many times as much each peer takes).
    """
    cases = []
    for rows, (history, observations) in product(label_rows, OBSERVATIONS.items()):
        data = folder / f"{rows}-{history}"
        write_data(data, rows, observations)
        stores = {store: run_store(data, store, memory_gib) for store in (OURS, *PEERS)}
        to_ours = {peer: ratios(stores[peer], stores[OURS]) for peer in PEERS if ENDED not in stores[peer]}
        cases.append({"label_rows": rows, "history": history, "stores": stores, "to_ours": to_ours})
    return {"cores": len(os.sched_getaffinity(0)), "observations": OBSERVATIONS, "cases": cases}


def ratios(peer: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """The peer's figures as multiples of ours, and whether it gave the same rows and values."""
    names = ("seconds", "cpu_seconds", "join_mib", "peak_mib")
    found: dict[str, Any] = {name: round(peer[name] / max(ours[name], 0.001), 2) for name in names}
    return found | {"same_values": peer["digest"] == ours["digest"]}


def run_store(data: Path, store: str, memory_gib: float) -> dict[str, Any]:
    """`measure_store` in a process of its own, which is ended where it takes more memory than it may.

    Raises:
        FeatureStoreError: it failed; its last line.
    """
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--store", store, "--data", str(data)]
    began = perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(command, stdout=out, stderr=said, text=True)
        watched = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                if watched.memory_info().rss > memory_gib * 1024 * MIB:
                    child.kill()
                    child.wait()
                    return {ENDED: f"took more than {memory_gib:g} GiB after {perf_counter() - began:.0f} s"}
                child.wait(POLL_SECONDS)
            except (subprocess.TimeoutExpired, psutil.NoSuchProcess):
                continue
        out.seek(0)
        said.seek(0)
        if child.returncode:
            raise FeatureStoreError(f"{store} ended with code {child.returncode}: {(said.readlines() or ['?'])[-1]}")
        measured: dict[str, Any] = json.loads(out.readlines()[-1])
        return measured


def measure_store(data: Path, store: str) -> dict[str, Any]:
    """Joins all label rows with one store in this process.

    Returns:
        `rows_in`, `rows_out`; `seconds` and `cpu_seconds` of the join; `join_mib`, by how much the peak of memory
        exceeds what the process held before; `peak_mib` of the whole process; `digest` of the sorted result.
    """
    feast = open_store(data, store)
    labels: pd.DataFrame = pq.read_table(data / "labels.parquet").to_pandas()
    references = [f"{table}:{name}" for table, names in FEATURES.items() for name in names]
    feast.get_historical_features(labels.head(WARM_ROWS).copy(), references).to_arrow()
    held = psutil.Process().memory_info().rss / MIB
    forget_peak()
    wall, cpu = perf_counter(), process_time()
    found = feast.get_historical_features(labels, references).to_arrow()
    wall, cpu = perf_counter() - wall, process_time() - cpu
    peak = peak_mib()
    return {
        "rows_in": len(labels),
        "rows_out": found.num_rows,
        "seconds": round(wall, 3),
        "cpu_seconds": round(cpu, 3),
        "join_mib": round(peak - held, 1),
        "peak_mib": round(peak, 1),
        "digest": digest(found),
    }


def digest(found: pa.Table) -> str:
    """Of keys, times and features, whatever types a store gives them and in whatever order its rows are."""
    columns = {name: found[name].cast(pa.string()) for name in ("customer_id", "product_id")}
    columns["event_timestamp"] = found["event_timestamp"].cast(TIME)
    for name in (name for names in FEATURES.values() for name in names):
        columns[name] = pc.fill_null(found[name].cast(pa.float64()), float("nan"))
    return digest_table(pa.table(columns), sort_by=("customer_id", "product_id", "event_timestamp"))


def open_store(data: Path, store: str) -> FeatureStore:
    """A Feast store over the data, with one view a table."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Int64

    offline: dict[str, Any] = {"type": store.removeprefix("feast_")}
    if store == OURS:
        offline = {"type": "feature_repo.stores.delta.DeltaOfflineStore", "lake": str(data / "lake")}
    config = RepoConfig(
        project="bench",
        provider="local",
        registry={"registry_type": "file", "path": str(data / f"{store}.registry")},
        online_store={"type": "sqlite", "path": str(data / f"{store}.online")},
        offline_store=offline,
        entity_key_serialization_version=3,
    )
    entities = {
        key: Entity(name=key.removesuffix("_id"), join_keys=[key], value_type=ValueType.STRING)
        for key in ("customer_id", "product_id")
    }
    views = [
        FeatureView(
            name=table,
            entities=[entities[key] for key in keys],
            ttl=TTL,
            schema=[Field(name=name, dtype=Int64) for name in FEATURES[table]],
            source=import_module("feature_repo.stores.delta").DeltaSource(table=table)
            if store == OURS
            else FileSource(path=str(data / f"{table}.parquet"), timestamp_field="event_timestamp"),
        )
        for table, (keys, _) in TABLES.items()
    ]
    feast = FeatureStore(config=config)
    feast.apply([*entities.values(), *views])
    return feast


def write_data(folder: Path, label_rows: int, observations: int) -> None:
    """Label rows in no order, and the same history in the lake (a file a day) and as one Parquet file a table.

    Args:
        folder: where all of it goes.
        label_rows: `AS_OFS` for each pair.
        observations: rows of each pair, customer and product, on days drawn from a year.
    """
    random = np.random.default_rng(SEED)
    pairs = label_rows // AS_OFS
    customers, products = pairs // PAIRS_A_CUSTOMER, pairs // PAIRS_A_PRODUCT
    of_pair = np.arange(pairs) // PAIRS_A_CUSTOMER
    keys = {
        "customer_id": np.char.add("c", of_pair.astype(str)),
        "product_id": np.char.add("p", ((np.arange(pairs) % PAIRS_A_CUSTOMER + of_pair * 13) % products).astype(str)),
    }
    folder.mkdir(parents=True)
    newest = np.datetime64(FIRST + timedelta(days=DAYS), "us")
    labels = pa.table(
        {name: np.tile(values, AS_OFS) for name, values in keys.items()}
        | {"event_timestamp": pa.array(newest - np.repeat(np.arange(AS_OFS), pairs) * STEP_DAYS * ONE_DAY, TIME)}
    )
    pq.write_table(labels.take(random.permutation(labels.num_rows)), folder / "labels.parquet")
    entities = {
        "pair_features": pa.table(keys),
        "customer_features": pa.table({"customer_id": np.char.add("c", np.arange(customers).astype(str))}),
        "product_features": pa.table({"product_id": np.char.add("p", np.arange(products).astype(str))}),
    }
    for table, known in entities.items():
        days = np.argsort(random.random((known.num_rows, DAYS), np.float32), axis=1)[:, :observations].astype(np.int16)
        parts = list(_history(table, known, days, random))
        whole = pa.concat_tables(
            part.select([*known.column_names, "event_timestamp", *FEATURES[table]]) for _, part in parts
        )
        pq.write_table(whole, folder / f"{table}.parquet")
        lake, attempt = Lake(folder / "lake"), new_attempt()
        begin(lake, table, attempt)
        stage_days(lake, table, attempt, parts)
        publish(lake, seal(lake, table, attempt, start=FIRST, end=FIRST + timedelta(days=DAYS), transform="bench"))


def _history(
    table: str, entities: pa.Table, days: npt.NDArray[np.int16], random: np.random.Generator
) -> Iterator[tuple[date, pa.Table]]:
    """Rows by day, with the columns that are measured; the others are null."""
    schema = Lake("").table(table).spec.file_schema
    for number in range(DAYS):
        day = FIRST + timedelta(days=number)
        part = entities.take(np.flatnonzero((days == number).any(axis=1)))
        seen = np.full(part.num_rows, np.datetime64(day, "us") + ONE_DAY)
        made: dict[str, Any] = {name: part[name] for name in part.column_names}
        made |= {"event_timestamp": pa.array(seen, TIME)}
        made |= {name: random.integers(0, 100_000, part.num_rows) for name in FEATURES[table]}
        columns = [made[field.name] if field.name in made else pa.nulls(part.num_rows, field.type) for field in schema]
        yield day, pa.table(columns, names=schema.names).cast(schema)


def forget_peak() -> None:
    """Starts the kernel's record of this process's greatest memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """Greatest resident memory since then."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.bench_point_in_time_join [--label-rows N ...] [--memory-gib N] [--out FILE]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.bench_point_in_time_join", description=__doc__)
    parser.add_argument("--label-rows", type=int, nargs="+", default=list(LABEL_ROWS), help="sizes of the label frame")
    parser.add_argument("--memory-gib", type=float, default=6.0, help="a store that takes more is ended")
    parser.add_argument("--store", choices=[OURS, *PEERS], help="measure this one, in this process")
    parser.add_argument("--data", type=Path, help="folder that was written before, for --store")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)

    def job() -> dict[str, Any]:
        if given.store:
            return measure_store(given.data, given.store)
        sizes = " ".join(map(str, given.label_rows))
        command = (
            f"python -m evergreen.jobs.bench_point_in_time_join --label-rows {sizes} --memory-gib {given.memory_gib:g}"
        )
        with tempfile.TemporaryDirectory() as folder:
            return {"command": command, **measure(Path(folder), given.label_rows, given.memory_gib)}

    return run_job(job, given.out)


if __name__ == "__main__":
    sys.exit(main())
