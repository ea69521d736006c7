"""Vacuum: frees what no reader needs any more, and keeps what evidence pins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from deltalake import DeltaTable

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
        Number of files removed (or that would be) for each table.
    """
    removed = {}
    for name in lake.versions():
        table = DeltaTable(lake.table(name).root)
        keep = sorted({int(version) for version in pinned.get(name, ())} | {int(table.version())})
        removed[name] = len(
            table.vacuum(
                retention_hours=retention_days * 24,
                dry_run=dry_run,
                enforce_retention_duration=False,
                full=True,
                keep_versions=keep,
            )
        )
    return removed
