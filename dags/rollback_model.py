"""Bring an earlier champion back, in seconds.

- **Starts** by hand only: give the `reason`, and `to` if it shall not be the version before.
- **Publishes**: asset `champion`, so that the newest day is scored anew.
- **The version that is left** is barred: it cannot be promoted again until somebody releases it by name. Approvals and
  judgements made before the rollback are void.
- **How you know that it worked**: the task's log names the champion and its generation; `./evergreen status` shows it.
"""

from __future__ import annotations

from airflow.sdk import Param, dag

from evergreen_airflow.assets import CHAMPION
from evergreen_airflow.defaults import DEFAULTS, Tag
from evergreen_airflow.operators.promotion import RollbackOperator


@dag(
    schedule=None,
    max_active_runs=1,
    params={
        "to": Param(
            None,
            type=["null", "string"],
            title="Version",
            description="A version that was champion before. Empty: the newest earlier one that is not barred.",
        ),
        "reason": Param(
            "", type="string", minLength=3, title="Reason", description="Why. Whoever releases the version reads it."
        ),
    },
    tags=[Tag.MODEL, Tag.BY_HAND],
    doc_md=__doc__,
    **DEFAULTS,
)
def rollback_model() -> None:
    """One task: bar the present champion, bring an earlier one back, point serving at it."""
    RollbackOperator(task_id="rollback", to="{{ params.to or '' }}", reason="{{ params.reason }}", outlets=[CHAMPION])


rollback_model()
