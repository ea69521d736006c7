"""What every DAG must have, and the order that keeps unchecked data and unapproved models from being published."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evergreen.platform.airflow import CONSUMERS_FIRST, GPU_POOL, HEAVY_POOL

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import DAG

PROJECT = Path(__file__).resolve().parents[2]
ORDER = {
    "ingest_transactions": ["wait", "stage", "check", "publish"],
    "build_features": ["stage", "check", "publish", "materialize"],
    "train_candidates": ["dataset", "check", "search", "specs", "train", "register"],
    "promote_model": ["drift", "judge", "approve", "promote"],
    "score_batch": ["score"],
    "rollback_model": ["rollback"],
    "maintain_platform": [("vacuum", "files", "history", "reap"), "summary", "backup", "drill"],
}
HEAVY = ("pandas", "pyarrow", "numpy", "deltalake", "duckdb", "feast", "mlflow", "evidently", "great_expectations")
HEAVY += ("pyspark", "sklearn", "xgboost", "fastapi", "pydantic_settings")


@pytest.fixture(params=sorted(ORDER))
def dag(request: pytest.FixtureRequest, dag_bag: DagBag) -> DAG:
    return dag_bag.dags[request.param]


def test_all_dags_are_imported(dag_bag):
    assert dag_bag.import_errors == {}
    assert set(dag_bag.dags) == set(ORDER)


def test_the_platform_unpauses_each_dag_consumers_first(dag_bag):
    """Events to a paused DAG are dropped."""
    assert set(CONSUMERS_FIRST) == set(dag_bag.dags)
    consumes = {dag_id: _consumed(dag_bag.dags[dag_id]) for dag_id in CONSUMERS_FIRST}
    for position, dag_id in enumerate(CONSUMERS_FIRST):
        fed = {other for other in consumes if consumes[other] & _published(dag_bag.dags[dag_id])} - {dag_id}
        # A rollback is made by hand, long after the start.
        assert dag_id == "rollback_model" or fed <= set(CONSUMERS_FIRST[:position])


def test_a_file_holds_the_dag_of_its_name(dag):
    assert dag.fileloc.endswith(f"/dags/{dag.dag_id}.py")


def test_the_manual_is_shown(dag):
    assert dag.doc_md
    for heading in ("**Starts", "**Publishes**"):
        assert heading in dag.doc_md, f"{dag.dag_id}: its docstring has no line {heading}"


def test_tags_are_from_the_vocabulary(dag):
    from evergreen_airflow.defaults import Tag

    assert dag.tags
    unknown = set(dag.tags) - {tag.value for tag in Tag}
    assert not unknown, f"{dag.dag_id}: add {unknown} to evergreen_airflow.defaults.Tag, or use one of {list(Tag)}"


def test_params_are_typed_and_described(dag):
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.schema.get("type"), f"{dag.dag_id}: params.{name} has no type"
        assert param.description, f"{dag.dag_id}: params.{name} has no description"
        assert param.schema.get("title"), f"{dag.dag_id}: params.{name} has no title"


def test_each_task_has_an_owner_retries_and_a_limit(dag):
    assert dag.dagrun_timeout
    assert dag.start_date is not None
    assert dag.catchup is False
    for task in dag.tasks:
        assert task.owner == "evergreen"
        if task.task_id == "approve":
            assert task.retries == 0  # a retry would ask with the first try's text
        else:
            assert task.retries == 2
            assert task.retry_policy is not None
            assert task.execution_timeout == timedelta(hours=6)


def test_tasks_run_in_this_order(dag):
    """Tasks in one step do not wait for each other."""
    steps = [(step,) if isinstance(step, str) else step for step in ORDER[dag.dag_id]]
    assert set(dag.task_ids) == {task for step in steps for task in step}
    for step, following in pairwise(steps):
        for before, after in product(step, following):
            assert after in dag.get_task(before).downstream_task_ids, f"{after} does not follow {before}"
    for before, after in ((one, other) for step in steps for one, other in product(step, step)):
        assert after not in dag.get_task(before).downstream_task_ids, f"{after} waits for {before}"


@pytest.mark.parametrize(
    ("dag_id", "safety", "danger"),
    [
        ("ingest_transactions", "check", "publish"),
        ("build_features", "check", "publish"),
        ("train_candidates", "check", "train"),
        ("train_candidates", "check", "register"),
        ("promote_model", "judge", "promote"),
        ("promote_model", "approve", "promote"),
    ],
)
def test_nothing_runs_past_its_safety_step(dag_bag, dag_id, safety, danger):
    """The step is upstream, and a failed or skipped one stops what follows."""
    task = dag_bag.dags[dag_id].get_task(danger)
    assert safety in task.get_flat_relative_ids(upstream=True)
    assert task.trigger_rule == "all_success"


@pytest.mark.parametrize(
    ("dag_id", "consumed", "published"),
    [
        ("ingest_transactions", set(), {"transactions"}),
        ("build_features", {"transactions"}, {"features"}),
        ("train_candidates", {"features"}, {"challenger"}),
        ("promote_model", {"challenger"}, {"champion"}),
        ("score_batch", {"features", "champion"}, set()),
        ("rollback_model", set(), {"champion"}),
        ("maintain_platform", set(), set()),
    ],
)
def test_assets_wire_the_loop(dag_bag, dag_id, consumed, published):
    dag = dag_bag.dags[dag_id]
    assert _consumed(dag) == consumed
    assert _published(dag) == published


def test_only_the_last_task_says_that_something_was_published(dag):
    last = ORDER[dag.dag_id][-1]
    assert [task.task_id for task in dag.tasks if task.outlets] in ([], [last])


def test_one_feature_build_at_a_time_and_many_waiting_approvals(dag_bag):
    assert dag_bag.dags["build_features"].max_active_runs == 1
    assert dag_bag.dags["promote_model"].max_active_runs > 1


@pytest.mark.parametrize(
    ("dag_id", "task_id"),
    [
        ("build_features", "stage"),
        ("train_candidates", "dataset"),
        ("train_candidates", "search"),
        ("train_candidates", "train"),
        ("score_batch", "score"),
    ],
)
def test_what_takes_much_memory_waits_for_its_slot(dag_bag, dag_id, task_id):
    assert dag_bag.dags[dag_id].get_task(task_id).pool == HEAVY_POOL


ASKED_FOR = {("rollback_model", "reason")}


def test_the_trigger_form_can_be_sent_as_it_opens(dag_bag):
    """An empty text that is not nullable disables the form's button, whatever its description says of empty."""
    refused = {
        (dag_id, name)
        for dag_id, dag in dag_bag.dags.items()
        for name, param in dag.params.items()
        if param.value in ("", None) and "null" not in param.schema["type"]
    }
    assert refused == ASKED_FOR


def test_any_of_two_assets_starts_the_scoring(dag_bag):
    from airflow.sdk import AssetAny

    assert isinstance(dag_bag.dags["score_batch"].timetable.asset_condition, AssetAny)


def test_the_midnight_run_is_for_yesterday(dag_bag):
    timetable = dag_bag.dags["ingest_transactions"].timetable
    assert (timetable.expression, timetable.run_offset, timetable.key_format) == ("0 0 * * *", -1, "%Y-%m-%d")


@pytest.mark.parametrize("runtime", ["process", "docker"])
def test_parsing_imports_nothing_heavy(runtime):
    """Workers parse the DAG again for every task: a second here is a second for each. Settings take milliseconds."""
    code = (
        "import sys, airflow.sdk\n"
        "before = set(sys.modules)\n"
        "import importlib.util, pathlib\n"
        "for file in sorted(pathlib.Path('dags').glob('*.py')):\n"
        "    spec = importlib.util.spec_from_file_location(file.stem, file)\n"
        "    spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        f"print(sorted(loaded & set({HEAVY!r})), 'docker' in loaded)\n"
    )
    environment = {**os.environ, "EVERGREEN__TRAINING__RUNTIME": runtime}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip().splitlines()[-1] == f"[] {runtime == 'docker'}"


@pytest.mark.parametrize(
    ("runtime", "gpus", "operator", "pool"),
    [
        ("process", "on", "TrainProcessOperator", HEAVY_POOL),
        ("docker", "auto", "TrainContainerOperator", HEAVY_POOL),
        ("docker", "on", "TrainContainerOperator", GPU_POOL),
    ],
)
def test_the_settings_say_what_trains_and_where_it_waits(monkeypatch, runtime, gpus, operator, pool):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("EVERGREEN__TRAINING__RUNTIME", runtime)
    monkeypatch.setenv("EVERGREEN__CONTAINER__GPUS", gpus)
    bag = DagBag(str(PROJECT / "dags" / "train_candidates.py"))
    assert bag.import_errors == {}
    train = bag.dags["train_candidates"].get_task("train")
    assert (train.operator_class.__name__, train.pool) == (operator, pool)


def _consumed(dag: DAG) -> set[str]:
    condition = getattr(dag.timetable, "asset_condition", None)
    return {asset.name for asset in getattr(condition, "objects", [condition]) if asset is not None}


def _published(dag: DAG) -> set[str]:
    return {asset.name for task in dag.tasks for asset in task.outlets}
