"""Spark jobs of `evergreen.jobs`, submitted by the Spark provider with the house's settings."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.common.compat.sdk import AirflowException

import evergreen
from evergreen.errors import EvergreenError
from evergreen_airflow.defaults import HEAVY_POOL, parse_day
from evergreen_airflow.failures import fails_plainly
from evergreen_airflow.operators.process import SAID_BY_US

if TYPE_CHECKING:
    from airflow.sdk import Context

JOBS = Path(evergreen.__file__).parent / "jobs"
FROM_ELSEWHERE = ("spark.master", "spark.driver.memory")  # the connection, and an argument of its own


class SparkJobOperator(SparkSubmitOperator):
    """Submits `evergreen/jobs/<job>.py` for a day and returns the JSON that the job wrote to its `--result` file.

    Driver memory comes from the settings, the master from the connection (`local[*]` unless it says otherwise).

    :param job: name of the module in `evergreen.jobs`.
    :param day: the day of data. Templated.
    :param arguments: further command-line arguments of the job. Templated.
    :raises EvergreenError: the job refused; its own message.
    """

    template_fields: Sequence[str] = (*SparkSubmitOperator.template_fields, "day", "arguments")

    def __init__(self, *, job: str, day: str, arguments: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs.setdefault("pool", HEAVY_POOL)
        super().__init__(application=str(JOBS / f"{job}.py"), name=f"evergreen-{job}", **kwargs)
        self.job = job
        self.day = day
        self.arguments = list(arguments)

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]  # the provider's returns None
        """Runs the job to its end."""
        from evergreen.features.session import spark_options
        from evergreen.settings import load_settings

        spark = load_settings().spark
        day = parse_day(self.day, context["run_id"])
        with tempfile.TemporaryDirectory(prefix=f"evergreen-{self.job}-") as folder:
            result = Path(folder) / "result.json"
            self._driver_memory = f"{spark.memory_gib}g"
            # The JVM starts before the job's own session is asked for: what it starts with must be said here.
            options = {key: value for key, value in spark_options(spark).items() if key not in FROM_ELSEWHERE}
            self.conf = options | dict(self.conf or {})
            self.application_args = [
                *("--day", str(day), "--run-id", context["run_id"], "--result", str(result)),
                *self.arguments,
            ]
            try:
                super().execute(context)
            except AirflowException as error:
                if refusal := _refusal(str(error)):
                    raise EvergreenError(refusal) from None
                raise
            if not result.exists():
                raise RuntimeError(f"{self.application} ended well but wrote no result to --result")
            document: dict[str, Any] = json.loads(result.read_text())
        return document

    def on_kill(self) -> None:
        """Ends spark-submit and what it started: the provider ends the JVM alone, and Python would live on."""
        import psutil

        submitted = self._hook._submit_sp if self._hook is not None else None
        children: list[psutil.Process] = []
        if submitted is not None and submitted.poll() is None:
            children = psutil.Process(submitted.pid).children(recursive=True)
        super().on_kill()
        for child in children:
            if child.is_running():
                child.kill()


def _refusal(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip().startswith(SAID_BY_US)]
    return lines[-1].removeprefix(SAID_BY_US) if lines else ""
