"""Figures that need more than one table's own rows: the lake's history, other tables, every column at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from evergreen.lake import Lake
from evergreen.quality import volume
from evergreen.quality.outliers import outlier_share
from evergreen.quality.rows import Contents, Rows
from evergreen.quality.suites import OUTLIER_COLUMNS, TRAINING_TABLES
from evergreen.settings import Settings

DAY_LINES = 100
"""Lines that a day must have for its share of missing customers to be judged."""


@dataclass
class Given:
    """Figures by table and name, and what there is to say about some of them in words."""

    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)  # by check key

    def put(self, table: str, name: str, value: Any, words: str = "") -> None:
        """Adds a figure."""
        self.figures.setdefault(table, {})[name] = value
        if words:
            self.words[f"{table}.{name}"] = words


def work_out(suite: str, rows: Rows, found: Contents, lake: Lake, settings: Settings, *, accept_volume: bool) -> Given:
    """All given figures of a suite. What cannot be worked out is left out, and its expectation fails to run."""
    made = Given()
    for table in found.files:
        made.put(table, "rows", _rows_after_publishing(table, rows, found, lake))
    if suite == "transactions":
        _of_transactions(made, rows, found, lake, settings, accept_volume=accept_volume)
    if suite == "training_set":
        _of_training_set(made, rows)
    return made


def _rows_after_publishing(table: str, rows: Rows, found: Contents, lake: Lake) -> int:
    part = found.staged.get(table)
    if part is None:
        return rows.count(table)
    kept = (file.rows for file in lake.table(table).files if file.day not in part.digests and file.day not in part.base)
    return part.rows + sum(kept)


def _of_transactions(
    made: Given, rows: Rows, found: Contents, lake: Lake, settings: Settings, *, accept_volume: bool
) -> None:
    table = "transactions"
    columns = rows.columns(table)
    if "customer_id" in columns and "event_date" in columns:
        worst = rows.row(
            "SELECT CAST(count(*) FILTER (customer_id IS NULL) AS DOUBLE) / count(*) AS share, event_date "
            f"FROM {table} GROUP BY event_date HAVING count(*) >= {DAY_LINES} ORDER BY share DESC, event_date LIMIT 1"
        )
        share, day = worst or (0.0, None)
        words = f"{share:.1%} of the lines of {day} have no customer: was the column lost at the source?"
        made.put(table, "lost_customers", share, words)
    judged, history = _volume(found, lake, settings)
    accepted = " (accepted)" if accept_volume and judged else ""
    made.put(table, "impossible_volume", 0 if accept_volume else len(judged), _volume_words(judged) + accepted)
    made.put(table, "unusual_history", len(history), _history_words(history))
    lines = rows.count(table)
    rejected = rows.count("quarantine") if rows.has("quarantine") else 0
    made.put(table, "quarantined", rejected / (rejected + lines) if rejected else 0.0)
    for column in OUTLIER_COLUMNS:
        if column in columns:
            share = outlier_share(rows, table, column, settings.quality.outlier_z)
            made.put(table, f"outliers_{column}", share or 0.0)


def _volume(
    found: Contents, lake: Lake, settings: Settings
) -> tuple[list[volume.VolumeFinding], list[volume.VolumeFinding]]:
    """Findings of the days that are judged, and of those that are loaded as history."""
    part = found.staged.get("transactions")
    if part is None:
        return [], []
    counts: Counter[date] = Counter()
    published = lake.table("transactions").files
    for file in (*(f for f in published if f.day not in part.digests and f.day not in part.base), *part.files):
        counts[file.day] += file.rows
    days = found.days("transactions")
    limits = settings.quality.volume
    findings = volume.judge(counts, days, limits)
    if len(days) <= limits.bulk_days:
        return findings, []
    last = max(days)
    return [f for f in findings if f.day == last], [f for f in findings if f.day != last]


def _volume_words(findings: list[volume.VolumeFinding]) -> str:
    if not findings:
        return ""
    first = findings[0]
    more = f" (and {len(findings) - 1} more days)" if len(findings) > 1 else ""
    return f"{first}{more}: not published. If this is right: ./evergreen run --day {first.day} --accept-volume"


def _history_words(findings: list[volume.VolumeFinding]) -> str:
    shown = "; ".join(map(str, findings[:3]))
    more = f" and {len(findings) - 3} more days" if len(findings) > 3 else ""
    return f"unusual days in the loaded history: {shown}{more}" if findings else ""


def _of_training_set(made: Given, rows: Rows) -> None:
    columns = {table: rows.columns(table) for table in TRAINING_TABLES if rows.has(table)}
    for table, kinds in columns.items():
        floats = [name for name, kind in kinds.items() if kind in ("FLOAT", "DOUBLE")]
        infinite, empty = _of_floats(rows, table, floats)
        made.put(table, "infinite_values", sum(infinite.values()), _named("infinite values in", infinite))
        made.put(table, "empty_features", sum(empty.values()), _named("missing everywhere:", empty))
        if "train" in columns and table != "train":
            other = (set(kinds) ^ set(columns["train"])) - {"split"}
            made.put(table, "same_columns", len(other), f"columns that only one has: {', '.join(sorted(other))}")
    keyed = {table for table, kinds in columns.items() if {"as_of", "customer_id"} <= set(kinds)}
    if keyed >= {"train", "inner"}:
        (shared,) = rows.row(
            'SELECT count(*) FROM (SELECT customer_id FROM "inner" INTERSECT SELECT customer_id FROM train)'
        )
        made.put("inner", "customers_shared", shared)
    if keyed >= set(TRAINING_TABLES):
        (gap,) = rows.row(
            "SELECT date_diff('day', (SELECT max(as_of) FROM (SELECT as_of FROM train UNION ALL SELECT as_of FROM "
            '"inner")), (SELECT min(as_of) FROM holdout))'
        )
        made.put("holdout", "embargo_days", gap)


def _of_floats(rows: Rows, table: str, floats: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """By column: infinite values; 1 where every value is missing, else 0."""
    if not floats:
        return {}, {}
    # Not `count(*) FILTER`: with hundreds of columns it costs DuckDB five times as much.
    parts = [f'coalesce(sum(CAST(isinf("{name}") AS INT)), 0)' for name in floats]
    parts += [f'CAST(coalesce(NOT bool_or(NOT isnan("{name}")), true) AS INT)' for name in floats]
    found = rows.row(f'SELECT {", ".join(parts)} FROM "{table}"')
    return dict(zip(floats, found, strict=False)), dict(zip(floats, found[len(floats) :], strict=False))


def _named(prefix: str, counts: Mapping[str, int]) -> str:
    return f"{prefix} {', '.join(name for name, count in counts.items() if count)}"
