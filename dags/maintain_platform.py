"""Clean up once a week: free what nobody needs any more, and end what nobody waits for.

- **Starts on**: Sundays, 03:00 UTC. By hand: `dry_run` only counts.
- **Publishes**: nothing.
- **`vacuum`** frees files of the lake that are older than `settings.lake.retention_days`. What the newest releases,
  registered models, kept training sets and evidence name stays readable.
- **`files`** removes what killed tasks left half-written, and old logs. **`history`** removes Airflow's own records of
  old runs; the ledger keeps everything. Their ages stand in `settings.maintenance`.
- **`reap`** removes trainer containers whose task does not run any more. It skips where no Docker engine answers.
- **Running it again** is safe: what is gone is gone, and nothing younger is touched.
- **What was removed** stands as a table in the log of `summary`.
"""

from __future__ import annotations

from airflow.sdk import CronTriggerTimetable, Param, dag

from evergreen_airflow.defaults import DEFAULTS, Tag
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
    """Four tasks that do not wait for each other, and a table of what they did."""
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

    [vacuum, files, history, reap] >> summary


maintain_platform()
