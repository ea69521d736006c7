"""Ingest one day of purchase lines.

- **Starts at** midnight UTC, for the day that just ended (its partition). By hand: give `day`; with `start`, all days
  from there to `day` are loaded in one go, which leaves the same rows as a run a day. `airflow backfill create` works.
- **Publishes**: asset `transactions`, with the day as partition, also when nothing changed.
- **Write, audit, publish**: lines are staged by the canonical contract, what it rejects is quarantined, expectations
  are checked on the staged files, one commit publishes. What failed a check was never visible.
- **Running it again** is safe: the same lines publish nothing new; corrected or late lines make a new version.
- **A day that the source does not reach** is skipped and starts nothing. A landing folder is waited for.
- **If `check` fails**: nothing was published. The log names the expectation, the observed value and the limit. An
  unusual number of lines that is right after all: run it by hand with `accept_volume`.
  Runbook: `docs/runbooks/transactions-rejected.md`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronPartitionTimetable, Param, dag

from evergreen_airflow.assets import TRANSACTIONS
from evergreen_airflow.defaults import DAY, DEFAULTS, KEY_FORMAT, Tag, day_param
from evergreen_airflow.operators.ingest import LandingSensor, StageTransactionsOperator
from evergreen_airflow.operators.publish import PublishOperator
from evergreen_airflow.operators.quality import GreatExpectationsOperator

SOURCE = "{{ params.source or '' }}"


@dag(
    # Midnight exactly: another hour would give a backfill one day less, and manual runs of a day other partition dates.
    schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format=KEY_FORMAT),
    max_active_runs=4,
    params={
        "day": day_param("Ingest this day. Empty: the day of the run's partition."),
        "start": Param(
            None,
            type=["null", "string"],
            format="date",
            title="First day",
            description="Ingest all days from here to the day in one go. Empty: that day alone.",
        ),
        "source": Param(
            "",
            type=["null", "string"],
            title="Source",
            description="File, landing folder or database URL. Empty: the one that was run last, else the sample.",
        ),
        "accept_volume": Param(
            False,
            type="boolean",
            title="Accept the volume",
            description="Publish although the number of lines is unusual for this weekday.",
        ),
    },
    tags=[Tag.INGEST, Tag.DAILY],
    doc_md=__doc__,
    **DEFAULTS,
)
def ingest_transactions() -> None:
    """Waits for the day's lines, stages, checks and publishes them."""
    wait = LandingSensor(
        task_id="wait", day=DAY, source=SOURCE, poke_interval=timedelta(minutes=5), timeout=timedelta(hours=20)
    )
    stage = StageTransactionsOperator(task_id="stage", day=DAY, start="{{ params.start or '' }}", source=SOURCE)
    check = GreatExpectationsOperator(
        task_id="check", suite="transactions", staged=stage.output, accept_volume="{{ params.accept_volume }}"
    )
    publish = PublishOperator(task_id="publish", staged=stage.output, outlets=[TRANSACTIONS])

    wait >> stage >> check >> publish


ingest_transactions()
