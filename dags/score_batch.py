"""Score every pair of the newest day with the champion, ranked per customer.

- **Starts on**: asset `features` (a new day) or `champion` (a new model). By hand: give `day`.
- **Publishes**: table `predictions`: `customer_id, product_id, probability, rank, model_version`.
- **Skips** (the reason is in the log): before the first promotion, and days older than the newest published one unless
  `force` is set.
- **Running it again** is safe: the same features and model publish nothing new. `./evergreen score` runs the same job.
"""

from __future__ import annotations

from airflow.sdk import Param, PartitionedAssetTimetable, dag

from evergreen_airflow.assets import CHAMPION, FEATURES
from evergreen_airflow.defaults import DAY, DEFAULTS, Tag, day_param
from evergreen_airflow.operators.scoring import ScoreOperator


@dag(
    # Either will do: waiting for both would wait for ever on days without a promotion.
    schedule=PartitionedAssetTimetable(assets=FEATURES | CHAMPION),
    max_active_runs=1,
    params={
        "day": day_param("Score as of the day after this one. Empty: the day of the run's partition."),
        "force": Param(
            False, type="boolean", title="Force", description="Score although it is not the newest published day."
        ),
    },
    tags=[Tag.SCORING, Tag.DAILY],
    doc_md=__doc__,
    **DEFAULTS,
)
def score_batch() -> None:
    """One task: read, score, rank, publish."""
    ScoreOperator(task_id="score", day=DAY, force="{{ params.force }}")


score_batch()
