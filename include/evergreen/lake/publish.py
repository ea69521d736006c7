"""One Delta commit publishes what was staged; two writers of a day leave the rows of one of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from time import time

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from evergreen.errors import PublishRefusedError
from evergreen.lake.staging import Staged
from evergreen.lake.table import PARTITION, DayFile, Lake, LakeTable

ATTEMPTS = 20
KEEP_LOG = {"delta.enableExpiredLogCleanup": "false"}
"""Property of our tables. By default delta-rs deletes log entries that are older than 30 days at every vacuum and every
hundredth commit, and with them the way back to versions that models pin, whatever vacuum left of their files."""


@dataclass(frozen=True)
class Published:
    """The outcome of publishing one table."""

    table: str
    version: int | None
    changed_days: tuple[date, ...]  # what this commit changed; empty where everything was there already
    rows: int  # rows of the changed days

    @property
    def unchanged(self) -> bool:
        """True where the table already held these rows and no new version was made."""
        return not self.changed_days


def publish(lake: Lake, staged: Staged, *, run_id: str = "") -> Published:
    """Makes staged days visible in one commit, or changes nothing.

    A day that already holds the staged content is left alone. A day that another writer changed after the attempt began
    is refused: the attempt was made from what is no longer there. Commits of other days in between are no conflict.

    Raises:
        PublishRefusedError: another writer published one of the days first, with other content.
    """
    for _ in range(ATTEMPTS):
        table = lake.table(staged.table)
        changed = _to_change(staged, table)
        if not changed:
            return Published(staged.table, table.version, (), 0)
        try:
            version = _commit(table, staged, set(changed), run_id)
        except CommitFailedError:
            continue  # someone committed in between: look again at what they changed
        rows = sum(file.rows for file in staged.files if file.day in set(changed))
        return Published(staged.table, version, tuple(changed), rows)
    raise PublishRefusedError(
        f"{staged.table}: {ATTEMPTS} commits by others came in between, nothing was published. Run the task again."
    )


def _to_change(staged: Staged, table: LakeTable) -> list[date]:
    now = {day: digest for day, digest in table.digests.items() if staged.covers(day)}
    new = staged.digests
    changed = []
    for day in sorted({*now, *new}):
        if now.get(day) == new.get(day):
            continue
        if now.get(day) != staged.base.get(day):
            raise PublishRefusedError(
                f"{staged.table} of {day}: another writer published {_short(now.get(day))} while this attempt was made "
                f"from {_short(staged.base.get(day))}. Nothing was published; run the task again."
            )
        changed.append(day)
    return changed


def _commit(table: LakeTable, staged: Staged, days: set[date], run_id: str) -> int:
    schema = table.spec.schema
    now_ms = int(time() * 1000)
    if table.version is None:
        DeltaTable.create(
            table.root, schema, mode="ignore", partition_by=[PARTITION], name=staged.table, configuration=KEEP_LOG
        )
    delta = DeltaTable(table.root, version=table.version or 0)
    actions: list[AddAction | RemoveAction] = [_add(file, now_ms) for file in staged.files if file.day in days]
    actions += [_remove(file, now_ms) for file in table.files if file.day in days]
    metadata = {
        "run_id": run_id,
        "attempt": staged.attempt,
        "transform": staged.transform,
        "inputs": json.dumps(dict(staged.inputs), sort_keys=True, default=str),
    }
    # With delta-rs's own retries two writers of a new day would BOTH commit: each adds files that the other never saw.
    delta.create_write_transaction(
        actions,
        mode="append",
        schema=pa.schema(schema),
        partition_by=[PARTITION],
        commit_properties=CommitProperties(custom_metadata=metadata, max_commit_retries=0),
        post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),  # tables made without KEEP_LOG
    )
    return int(delta.version()) if delta.version() > (table.version or 0) else int(DeltaTable(table.root).version())


def _add(file: DayFile, now_ms: int) -> AddAction:
    return AddAction(
        path=file.path,
        size=file.size_bytes,
        partition_values={PARTITION: str(file.day)},
        modification_time=now_ms,
        data_change=True,
        stats=json.dumps({"numRecords": file.rows}),
    )


def _remove(file: DayFile, now_ms: int) -> RemoveAction:
    return RemoveAction(
        path=file.path,
        data_change=True,
        deletion_timestamp=now_ms,
        partition_values={PARTITION: str(file.day)},
        size=file.size_bytes,
    )


def _short(digest: str | None) -> str:
    return f"digest {digest[:8]}" if digest else "nothing"


__all__ = ["KEEP_LOG", "DeltaError", "Published", "publish"]
