"""Clean up once a week: free what nobody needs any more, end what nobody waits for, and back up what is left.

- **Starts on**: Sundays, 03:00 UTC. By hand: `dry_run` only counts.
- **Publishes**: nothing.
- **`vacuum`** frees files of the lake that are older than `settings.lake.retention_days`. What the newest releases,
  registered models, kept training sets and evidence name stays readable.
- **`files`** removes what killed tasks left half-written, and old logs. **`history`** removes Airflow's own records of
  old runs; the ledger keeps everything. Their ages stand in `settings.maintenance`.
- **`backup`** backs up the workspace and keeps the newest `settings.backup.keep`; **`drill`** restores the newest one
  into a folder that is removed again, with every check of a real restore, and returns the seconds of each step. They
  skip where `settings.backup.weekly` is off; a drill tries what there is all the same. A dry run does neither.
  Runbook: `docs/runbooks/backup-failed.md`.
- **`reap`** removes trainer containers whose task does not run any more. It skips where no Docker engine answers.
- **Running it again** is safe: what is gone is gone, and nothing younger is touched.
- **What was removed** stands as a table in the log of `summary`.
"""

from __future__ import annotations

from airflow.sdk import CronTriggerTimetable, Param, dag

from evergreen_airflow.defaults import DEFAULTS, Tag
from evergreen_airflow.operators.backup import BackupOperator, RestoreDrillOperator
from evergreen_airflow.operators.maintenance import (
    CleanFilesOperator,
    CleanHistoryOperator,
    ReapContainersOperator,
    SummaryOperator,
    VacuumOperator,
)

DRY_RUN = "{{ params.dry_run }}"


@dag(
    schedule=CronTriggerTimetable("0 3 * * 0", timezone="UTC"),
    max_active_runs=1,
    params={"dry_run": Param(False, type="boolean", title="Dry run", description="Only count, remove nothing.")},
    tags=[Tag.MAINTENANCE, Tag.WEEKLY],
    doc_md=__doc__,
    **DEFAULTS,
)
def maintain_platform() -> None:
    """Four tasks that do not wait for each other, a table of what they did, and a backup of what they left."""
    vacuum = VacuumOperator(task_id="vacuum", only_count=DRY_RUN)
    files = CleanFilesOperator(task_id="files", only_count=DRY_RUN)
    history = CleanHistoryOperator(task_id="history", only_count=DRY_RUN)
    reap = ReapContainersOperator(task_id="reap", only_count=DRY_RUN)
    summary = SummaryOperator(
        task_id="summary",
        only_count=DRY_RUN,
        rows=[vacuum.output, files.output, history.output, reap.output],
        trigger_rule="none_failed",  # tasks that skipped have nothing to tell
    )
    # Also where a clean-up failed.
    backup = BackupOperator(task_id="backup", only_count=DRY_RUN, trigger_rule="all_done")
    drill = RestoreDrillOperator(task_id="drill", only_count=DRY_RUN, trigger_rule="none_failed")

    [vacuum, files, history, reap] >> summary >> backup >> drill


maintain_platform()
