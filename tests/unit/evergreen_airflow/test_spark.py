from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.common.compat.sdk import AirflowException

from evergreen.errors import EvergreenError
from evergreen_airflow.defaults import HEAVY_POOL
from evergreen_airflow.operators.spark import SparkJobOperator


@pytest.fixture
def operator() -> SparkJobOperator:
    return SparkJobOperator(task_id="stage", job="build_features", day="2011-08-31", arguments=["--publish"])


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch):
    """Stands in for spark-submit: keeps the hook that would submit, and does what the test says."""
    seen = SimpleNamespace(hook=None, application="", act=lambda hook: None)

    def submit(hook: SparkSubmitHook, application: str) -> None:
        seen.hook, seen.application = hook, application
        seen.act(hook)

    connection = {
        "master": "local[*]",
        "queue": None,
        "deploy_mode": "client",
        "spark_binary": "spark-submit",
        "namespace": None,
        "principal": None,
        "keytab": None,
    }
    monkeypatch.setattr(SparkSubmitHook, "_resolve_connection", lambda hook: connection)
    monkeypatch.setattr(SparkSubmitHook, "submit", submit)
    return seen


def write_result(hook: SparkSubmitHook) -> None:
    arguments = hook._application_args
    Path(arguments[arguments.index("--result") + 1]).write_text(json.dumps({"rows": 7}))


def test_it_submits_the_module_with_its_day_and_returns_its_result(operator, submitted, context):
    submitted.act = write_result
    assert operator.execute(context("2011-08-31")) == {"rows": 7}
    assert submitted.application.endswith("/evergreen/jobs/build_features.py")
    assert Path(submitted.application).exists()
    arguments = submitted.hook._application_args
    assert arguments[:4] == ["--day", "2011-08-31", "--run-id", "run-1"]
    assert arguments[-1] == "--publish"


def test_the_driver_gets_the_memory_of_the_settings(operator, submitted, context, monkeypatch):
    monkeypatch.setenv("EVERGREEN__SPARK__DRIVER_MEMORY_GIB", "3")
    submitted.act = write_result
    operator.execute(context())
    assert submitted.hook._driver_memory == "3g"


def test_the_jvm_starts_with_the_session_s_options(operator, submitted, context):
    submitted.act = write_result
    operator.execute(context("2011-08-31"))
    assert "UseSerialGC" in submitted.hook._conf["spark.driver.extraJavaOptions"]
    assert submitted.hook._conf["spark.sql.session.timeZone"] == "UTC"
    assert "spark.master" not in submitted.hook._conf  # the connection says it


def test_a_refusal_keeps_its_own_words(operator, submitted, context):
    def refuse(_hook):
        raise AirflowException(
            "Cannot execute: spark-submit.\nWARN x\nevergreen: 2011-08-31 is not ingested: ingest it"
        )

    submitted.act = refuse
    with pytest.raises(EvergreenError, match=r"^2011-08-31 is not ingested: ingest it$"):
        operator.execute(context())


def test_a_crash_stays_what_it_was(operator, submitted, context):
    def crash(_hook):
        raise AirflowException("Cannot execute: spark-submit. Error code is: 137.")

    submitted.act = crash
    with pytest.raises(AirflowException, match="Error code is: 137"):
        operator.execute(context())


def test_a_job_that_writes_no_result_has_not_succeeded(operator, submitted, context):
    with pytest.raises(RuntimeError, match="ended well but wrote no result to --result"):
        operator.execute(context())


def test_a_run_without_a_day_submits_nothing(submitted, context):
    with pytest.raises(ValueError, match="has no partition key and no param `day`"):
        SparkJobOperator(task_id="stage", job="build_features", day="").execute(context())
    assert submitted.hook is None


def test_on_kill_ends_python_too(operator, submitted, context):
    """spark-submit's JVM starts Python as a child, which would outlive it."""
    submitted.act = write_result
    operator.execute(context())
    sleep = "import time; time.sleep(60)"
    code = (
        f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', '{sleep}']); "
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        operator._hook._submit_sp = parent
        operator.on_kill()
        parent.wait(5)
        _, alive = psutil.wait_procs([child], timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_house_defaults(operator):
    assert operator.pool == HEAVY_POOL
    assert {"day", "arguments", "application_args"} <= set(operator.template_fields)
    operator.on_kill()  # before anything was submitted
