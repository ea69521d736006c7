"""Build one day's point-in-time features and make them servable.

- **Starts on**: asset `transactions`, one run a day partition, one at a time. By hand: give `day`.
- **Publishes**: asset `features`, once they are online too.
- **Write, audit, publish**: Spark folds from the earliest changed day into staging, expectations are checked on the
  staged files, one commit a table publishes. Then Feast materializes the release and compares a sample with offline.
- **Running it again** is safe: same input, nothing new; corrected input rebuilds from the earliest changed day.
- **If `check` fails**: nothing was published. The log names the expectation, the observed value and the limit;
  runbook: `docs/runbooks/features-rejected.md`.
- **If `materialize` fails**: features are published, the online store is what it was. Clear the task to try
  again; runbook: `docs/runbooks/online-differs.md`.
"""

from __future__ import annotations

from airflow.sdk import PartitionedAssetTimetable, dag

from evergreen_airflow.assets import FEATURES, TRANSACTIONS
from evergreen_airflow.defaults import DAY, DEFAULTS, Tag, day_param
from evergreen_airflow.operators.feast import FeastMaterializeOperator
from evergreen_airflow.operators.publish import PublishOperator
from evergreen_airflow.operators.quality import GreatExpectationsOperator
from evergreen_airflow.operators.spark import SparkJobOperator


@dag(
    schedule=PartitionedAssetTimetable(assets=TRANSACTIONS),
    max_active_runs=1,  # folds state forward: two at once would each miss the other's day
    params={"day": day_param("Build this day. Empty: the day of the run's partition.")},
    tags=[Tag.FEATURES, Tag.DAILY],
    doc_md=__doc__,
    **DEFAULTS,
)
def build_features() -> None:
    """Stages with Spark, checks, publishes, materializes."""
    stage = SparkJobOperator(task_id="stage", job="build_features", day=DAY)
    check = GreatExpectationsOperator(task_id="check", suite="features", staged=stage.output)
    publish = PublishOperator(task_id="publish", staged=stage.output)
    # The event comes last: who starts on it may read online.
    materialize = FeastMaterializeOperator(task_id="materialize", published=publish.output, outlets=[FEATURES])

    stage >> check >> publish >> materialize


build_features()
