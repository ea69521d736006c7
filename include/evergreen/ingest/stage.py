"""Stages days of transactions and quarantine from a source: nothing is visible before both are published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from evergreen.errors import SourceError, SourceNotReadyError
from evergreen.ingest.contract import RULES, TRANSFORM, Judged, balance, judge
from evergreen.ingest.sources import Source, resolve_source
from evergreen.lake import Lake, StagedSet, begin, seal, stage_days
from evergreen.lake.staging import discard, new_attempt
from evergreen.settings import Settings
from evergreen.settings.ingest import IngestSettings

TABLES = ("transactions", "quarantine")


def stage_transactions(settings: Settings, start: date, end: date, *, source: str = "", run_id: str) -> StagedSet:
    """Stages the days `start` to `end` (both inclusive) of a source by the canonical contract.

    Every covered day gets a file of transactions, without rows where the source has no lines for it. `counts` says what
    became of the lines: `rows_in` = `rows_out` + `quarantined` + `duplicates`.

    Raises:
        SourceError: the source cannot be read, does not meet the contract, or too many of its lines are rejected.
        SourceNotReadyError: the source does not reach `end` yet.
    """
    lake = Lake(settings.lake_path)
    attempt = new_attempt()
    try:
        for table in TABLES:
            begin(lake, table, attempt)  # before the source is read: publishing refuses to undo what came in between
        found = resolve_source(settings, source)
        _refuse_outside(found, start, end)
        counts = _stage(lake, attempt, found, settings.ingest, start, end, run_id)
        made_from = {"source": found.name, "fingerprint": found.fingerprint(start, end), "counts": counts}
        parts = tuple(
            seal(
                lake,
                table,
                attempt,
                start=start,
                end=end,
                transform=TRANSFORM,
                inputs=made_from,
                mark_empty=table == "transactions",
            )
            for table in TABLES
        )
    except BaseException:
        for table in TABLES:
            discard(lake, table, attempt)
        raise
    return StagedSet("transactions", end, start, end, parts, {"source": found.name, "transform": TRANSFORM}, counts)


def _refuse_outside(source: Source, start: date, end: date) -> None:
    if start > end:
        raise SourceError(f"the range {start} to {end} has no days; expected a start that is not after the end")
    if not source.ready(end):
        raise SourceNotReadyError(
            f"{source.name} reaches to {source.last_day()}, {end} was asked for. Wait for it, or name an earlier day"
        )
    if start < source.first_day():
        raise SourceError(f"{source.name} begins on {source.first_day()}, {start} was asked for. Name a later day")


def _stage(
    lake: Lake, attempt: str, source: Source, settings: IngestSettings, start: date, end: date, run_id: str
) -> dict[str, int]:
    counts = Counter[str](rows_in=0, rows_out=0, quarantined=0, duplicates=0)
    rules = Counter[str]()
    examples: dict[str, str] = {}
    for chunk in source.chunks(start, end):
        judged = judge(chunk.lines, chunk.layout, settings, run_id=run_id)
        stage_days(lake, "transactions", attempt, by_day(judged.accepted))
        stage_days(lake, "quarantine", attempt, by_day(judged.quarantined))
        counts.update(_counted(judged))
        for row in judged.quarantined.select(["rule", "source", "source_row", "detail"]).to_pylist():
            rules[row["rule"]] += 1
            examples.setdefault(row["rule"], f"{row['source']}, line {row['source_row']}: {row['detail']}")
    balance(counts["rows_in"], counts["rows_out"], counts["quarantined"], counts["duplicates"])
    _refuse_too_many(source.name, counts, rules, examples, settings)
    return dict(counts) | {f"quarantined_{rule}": rules[rule] for rule in RULES if rules[rule]}


def _counted(judged: Judged) -> dict[str, int]:
    rows = judged.accepted
    flags = ("is_purchase", "is_cancellation", "is_return")
    return {
        "rows_in": judged.rows_in,
        "rows_out": rows.num_rows,
        "quarantined": judged.quarantined.num_rows,
        "duplicates": judged.duplicates,
        "without_customer": rows["customer_id"].null_count,
        **{f"{flag.removeprefix('is_')}s": int(pc.sum(rows[flag]).as_py() or 0) for flag in flags},
    }


def _refuse_too_many(
    name: str, counts: Counter[str], rules: Counter[str], examples: dict[str, str], settings: IngestSettings
) -> None:
    rejected, limit = counts["quarantined"], settings.max_quarantine_share * counts["rows_in"]
    if rejected <= max(limit, settings.quarantine_grace):
        return
    rule, lines = rules.most_common(1)[0]
    raise SourceError(
        f"{name}: {rejected:,} of {counts['rows_in']:,} lines were rejected, at most "
        f"{settings.max_quarantine_share:.1%} may be; {lines:,} by rule {rule} ({examples[rule]}). Nothing was staged: "
        "mend the source, or raise settings.ingest.max_quarantine_share"
    )


def by_day(rows: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    """Splits rows that are ordered by `event_date` into days, without copying."""
    offset = 0
    for entry in sorted(pc.value_counts(rows["event_date"]).to_pylist(), key=lambda entry: entry["values"]):
        yield entry["values"], rows.slice(offset, entry["counts"])
        offset += entry["counts"]
