"""Vacuum: frees what no reader needs any more, and keeps what evidence pins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from deltalake import DeltaTable

from evergreen.lake.publish import KEEP_LOG
from evergreen.lake.table import Lake


def vacuum(
    lake: Lake, pinned: Mapping[str, Iterable[int]], *, retention_days: int, dry_run: bool = False
) -> dict[str, int]:
    """Deletes files of versions older than `retention_days` that nobody pins, and what dead attempts left in staging.

    Args:
        lake: the lake.
        pinned: for each table the versions that a registered model, a release or the ledger names: they stay readable.
        retention_days: younger files stay, whoever made them: an attempt may still be under way.
        dry_run: only count.

    Returns:
        Number of files removed (or that would be) for each table. Where it is 0 the table got no new version either.
    """
    removed = {}
    for name in lake.versions():
        table = DeltaTable(lake.table(name).root)
        newest = int(table.version())
        keep = sorted({version for version in map(int, pinned.get(name, ())) if version <= newest} | {newest})
        removed[name] = len(_vacuum(table, lake.table(name).root, keep, retention_days, dry_run=True))
        if removed[name] and not dry_run:
            if not KEEP_LOG.items() <= table.metadata().configuration.items():  # made before tables had it
                table.alter.set_table_properties(KEEP_LOG, raise_if_not_exists=False)
            _vacuum(table, lake.table(name).root, keep, retention_days, dry_run=False)
            _remove_empty(lake.table(name).root / "staging")
    return removed


def _vacuum(table: DeltaTable, root: Path, keep: list[int], retention_days: int, *, dry_run: bool) -> list[str]:
    found = table.vacuum(
        retention_hours=retention_days * 24,
        dry_run=dry_run,
        enforce_retention_duration=False,
        full=True,
        keep_versions=keep,
    )
    return [path for path in found if (root / path).exists()]  # the log remembers what was deleted long ago


def _remove_empty(folder: Path) -> None:
    """Removes folders without files, innermost first."""
    for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(inner.iterdir()):
            inner.rmdir()
