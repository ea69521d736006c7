"""Judge the challenger; if every gate passes and somebody approves, make it the champion.

- **Starts on**: asset `challenger`. By hand: give `day`, to judge the present challenger again.
- **Publishes**: asset `champion`.
- **`drift`** compares current features and predictions with what the model was trained on (link: Evidently's report).
- **`judge`** runs the gates against the champion, scored anew on the same holdout, and writes the evidence.
- **`approve`** asks for an answer to that evidence, named by its digest. It is skipped, with the reason in its log,
  when the verdict is not `promote`. No answer within `settings.promotion.approval_hours`, a rejection, and an
  answer to a request that a newer one has replaced: all mean no. `settings.promotion.approval: policy` asks nobody.
  Runbook: `docs/runbooks/approval-pending.md`.
- **`promote`** is a compare-and-set: it refuses if anything was promoted or rolled back since the judgement. Serving is
  pointed at the new champion, MLflow's alias follows.
- **Running it again** is safe: a champion is not promoted twice, and a cleared `promote` task cannot undo a rollback.
"""

from __future__ import annotations

from airflow.sdk import PartitionedAssetTimetable, dag

from evergreen_airflow.assets import CHALLENGER, CHAMPION
from evergreen_airflow.defaults import DAY, DEFAULTS, Tag, day_param
from evergreen_airflow.operators.drift import EvidentlyReportOperator
from evergreen_airflow.operators.judge import PromotionGateOperator
from evergreen_airflow.operators.promotion import EvidenceApprovalOperator, PromoteOperator


@dag(
    schedule=PartitionedAssetTimetable(assets=CHALLENGER),
    max_active_runs=16,  # a run that waits for its approval must not hold up the next day's
    params={"day": day_param("Day of the challenger's data. Empty: the day of the run's partition.")},
    tags=[Tag.MODEL, Tag.DAILY],
    doc_md=__doc__,
    **DEFAULTS,
)
def promote_model() -> None:
    """Drift, gates and evidence, approval, compare-and-set."""
    drift = EvidentlyReportOperator(task_id="drift", day=DAY)
    judge = PromotionGateOperator(task_id="judge", drift=drift.output)
    approve = EvidenceApprovalOperator(task_id="approve", judged=judge.output)
    promote = PromoteOperator(task_id="promote", judged=judge.output, approved=approve.output, outlets=[CHAMPION])

    drift >> judge >> approve >> promote


promote_model()
