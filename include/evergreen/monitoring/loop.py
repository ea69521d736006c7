"""Figures of the loop, from where the truth is: the ledger's database, the lake's logs, the disk."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime

from sqlalchemy import Engine, func, inspect, select, text

from evergreen.lake import Lake, latest_release
from evergreen.monitoring.exposition import Metric, by_label, gauge
from evergreen.promotion.database import APPROVALS, AUDIT_LOG, CHAMPIONS, ENTRIES
from evergreen.settings import Settings

RELEASED = ("transactions", "features", "predictions")


def ledger_metrics(engine: Engine, model_name: str) -> list[Metric]:
    """Entries by operation and outcome, the newest of each, the champion, and approvals that wait.

    A ledger that nobody has written to yet has no figures.
    """
    if not inspect(engine).has_table(ENTRIES.name):
        return []
    entries = f"SELECT operation, outcome, count(*), max(timestamp) FROM {AUDIT_LOG} GROUP BY operation, outcome"
    with engine.connect() as connection:
        counted = [tuple(row) for row in connection.execute(text(entries))]
        champion = connection.execute(
            select(CHAMPIONS.c.generation, CHAMPIONS.c.promoted_at, CHAMPIONS.c.data_day)
            .where(CHAMPIONS.c.model_name == model_name)
            .order_by(CHAMPIONS.c.generation.desc())
            .limit(1)
        ).first()
        waiting = connection.execute(
            select(func.count(), func.min(APPROVALS.c.requested_at)).where(
                APPROVALS.c.model_name == model_name,
                APPROVALS.c.state == "pending",
                APPROVALS.c.expires_at > datetime.now(UTC).isoformat(),
            )
        ).one()
    labelled = [({"operation": operation, "outcome": outcome}, count, at) for operation, outcome, count, at in counted]
    found = [
        Metric(
            "evergreen_ledger_entries_total",
            "Entries of the ledger.",
            tuple((labels, float(count)) for labels, count, _ in labelled),
            "counter",
        ),
        Metric(
            "evergreen_ledger_newest_entry_timestamp_seconds",
            "When the newest entry of this operation and outcome was made.",
            tuple((labels, seconds(at)) for labels, _, at in labelled),
        ),
        gauge("evergreen_champion_generation", "Promotions and rollbacks so far.", champion[0] if champion else 0),
        gauge("evergreen_approvals_waiting", "Approvals that wait for a person.", waiting[0]),
    ]
    if champion:
        found.append(
            gauge("evergreen_champion_promoted_timestamp_seconds", "When it became champion.", seconds(champion[1]))
        )
        found.append(
            gauge("evergreen_champion_data_timestamp_seconds", "Newest day that it knows.", seconds(champion[2]))
        )
    if waiting[1]:
        found.append(gauge("evergreen_approval_requested_timestamp_seconds", "Oldest that waits.", seconds(waiting[1])))
    return found


def lake_metrics(lake: Lake) -> list[Metric]:
    """Rows and version of every table, and the newest day that each release covers."""
    rows: dict[str, float] = {}
    versions: dict[str, float] = {}
    for name, version in lake.versions().items():
        table = lake.table(name)
        versions[name], rows[name] = version, table.rows
    released = {name: latest_release(lake, name) for name in RELEASED}
    days = {name: seconds(found.day.isoformat()) for name, found in released.items() if found is not None}
    return [
        by_label("evergreen_release_day_timestamp_seconds", "Newest day that a release covers.", "release", days),
        by_label("evergreen_table_rows", "Rows of a table.", "table", rows),
        by_label("evergreen_table_version", "Delta version of a table.", "table", versions),
    ]


def disk_metrics(settings: Settings) -> list[Metric]:
    """Space on the disk of the lake."""
    usage = shutil.disk_usage(settings.home_path)
    return [
        gauge("evergreen_disk_free_bytes", "Free space on the disk of the lake.", usage.free),
        gauge("evergreen_disk_size_bytes", "Size of the disk of the lake.", usage.total),
    ]


def seconds(moment: str) -> float:
    """Seconds since 1970 of an ISO 8601 time or day, UTC where it says nothing else."""
    if len(moment) == len("2011-01-01"):
        return datetime.combine(date.fromisoformat(moment), datetime.min.time(), UTC).timestamp()
    parsed = datetime.fromisoformat(moment)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
