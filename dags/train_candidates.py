"""Train every candidate model on the newest day and register the best as challenger.

- **Starts on**: asset `features`. By hand: give `day`.
- **Publishes**: asset `challenger`.
- **Skips** (the reason is in the log of `dataset`): days older than the newest published one, days that a backfill
  loaded, and what assets start when `settings.retraining.mode` is `controlled`. `force` trains all the same.
- **The holdout** is written but not read here: candidates are chosen on held-out customers at the training dates.
- **Running it again** is safe: the same features give the same training set, the same bundle and the same version.
- **Where it trains**: in a child process, or with `settings.training.runtime: docker` in a container without network,
  as `docs/how-to/train-in-a-container.md` says. Both give the same bundle.
- **Which candidates**: those of `settings.training.candidates` that are enabled, or those that `candidates` names.
- **Parameters**: `search` looks for better ones before the training, on rolling-origin folds of the training dates
  (`docs/how-to/search-parameters.md`). What it finds is used by later runs, too.
- **To add a candidate**: an entry in `settings.training.candidates`, and a file in `evergreen/models/candidates` if it
  is another kind of model.
"""

from __future__ import annotations

from airflow.sdk import Param, PartitionedAssetTimetable, TriggerRule, dag

from evergreen_airflow.assets import CHALLENGER, FEATURES
from evergreen_airflow.defaults import DAY, DEFAULTS, Tag, day_param
from evergreen_airflow.operators.quality import GreatExpectationsOperator
from evergreen_airflow.operators.search import SearchOperator
from evergreen_airflow.operators.training import (
    RegisterChallengerOperator,
    TrainingSetOperator,
    TrainingSpecsOperator,
    trainer,
)

TRAIN, POOL = trainer()  # a process or a container, by `settings.training.runtime`


@dag(
    schedule=PartitionedAssetTimetable(assets=FEATURES),
    max_active_runs=1,
    params={
        "day": day_param("Train on the data up to this day. Empty: the day of the run's partition."),
        "force": Param(
            False, type="boolean", title="Force", description="Train although it is not the newest published day."
        ),
        "candidates": Param(
            None,
            type=["null", "string"],
            title="Candidates",
            description="Names from settings.training.candidates with commas between, also of those that are not "
            "enabled. Empty: all that are enabled. The gate on heuristics needs one of them among the names.",
        ),
        "search": Param(
            False,
            type="boolean",
            title="Search",
            description="First search the parameters of settings.training.search.models, for so many seconds each as "
            "settings.training.search.seconds says.",
        ),
    },
    tags=[Tag.MODEL, Tag.RETRAINING, Tag.DAILY],
    doc_md=__doc__,
    **DEFAULTS,
)
def train_candidates() -> None:
    """Builds and checks the training set, trains each candidate by itself, registers the best."""
    dataset = TrainingSetOperator(task_id="dataset", day=DAY, force="{{ params.force }}")
    check = GreatExpectationsOperator(task_id="check", suite="training_set", staged=dataset.output)
    search = SearchOperator(task_id="search", training_set=dataset.output, wanted="{{ params.search }}")
    specs = TrainingSpecsOperator(
        task_id="specs",
        training_set=dataset.output,
        candidates="{{ params.candidates or '' }}",
        # `search` is skipped where nobody asked for it; a day that is not trained on skips all three before it.
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    )
    train = TRAIN.partial(
        task_id="train",
        pool=POOL,  # here, since a mapped task does not see what its class would set
        map_index_template="{{ task.spec.candidate }}",
    ).expand(spec=specs.output)
    register = RegisterChallengerOperator(
        task_id="register", training_set=dataset.output, trained=train.output, outlets=[CHALLENGER]
    )

    dataset >> check >> search >> specs >> train >> register
    check >> specs


train_candidates()
