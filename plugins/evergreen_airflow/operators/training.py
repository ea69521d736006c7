"""Training sets, trainers and the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from evergreen_airflow.defaults import GPU_POOL, HEAVY_POOL, emit, is_backfill, parse_day
from evergreen_airflow.failures import fails_plainly
from evergreen_airflow.links import MlflowLink
from evergreen_airflow.operators.process import TRAIN_JOB, JobProcess

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Context

    from evergreen.settings import Settings


class TrainingSetOperator(BaseOperator):
    """Builds the point-in-time training set of a day, or finds it by its inputs; skips days that nobody trains on.

    Skipped are runs that a backfill started, days older than the newest published one, and, with
    `settings.retraining.mode: controlled`, what only the schedule asks for. `force` builds it all the same.

    :param day: newest day of data. Templated.
    :param force: `True` (as text, from a param) skips nothing. Templated.
    """

    template_fields: Sequence[str] = ("day", "force")

    def __init__(self, *, day: str, force: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("pool", HEAVY_POOL)
        super().__init__(**kwargs)
        self.day = day
        self.force = force

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Builds and returns the set's summary: `folder`, `digest`, dates, rows."""
        from evergreen.settings import load_settings
        from evergreen.training.dataset import build_training_set

        settings = load_settings()
        day = parse_day(self.day, context["run_id"])
        reason = "" if self.force.lower() == "true" else why_not_train(settings, day, context)
        if reason:
            raise AirflowSkipException(f"{reason}. To train all the same: trigger with `force`")
        return build_training_set(settings, day, run_id=context["run_id"]).summary()


class TrainingSpecsOperator(BaseOperator):
    """Makes one training spec for each candidate of `settings.training.candidates` that is enabled or asked for.

    :param training_set: what `TrainingSetOperator` returned. Templated.
    :param candidates: names with commas between, enabled or not. Empty: all that are enabled. Templated.
    :raises TrainingError: a candidate, its model or a parameter is unknown or out of range.
    """

    template_fields: Sequence[str] = ("training_set", "candidates")

    def __init__(self, *, training_set: Any, candidates: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.training_set = training_set
        self.candidates = candidates

    @fails_plainly
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Returns the specs, in the order of the settings."""
        from evergreen.settings import load_settings
        from evergreen.training.spec import make_specs

        asked = [name.strip() for name in self.candidates.split(",") if name.strip()]
        specs = make_specs(load_settings(), self.training_set, asked)
        for spec in specs:
            params = ", ".join(f"{name} {value}" for name, value in sorted(spec["params"].items()))
            self.log.info("%s (%s): %s", spec["candidate"], spec["model"], params or "the model's defaults")
        return specs


class TrainProcessOperator(BaseOperator):
    """Runs the trainer's entry point as a child process, the very one that a container would run.

    :param spec: one training spec (`evergreen.training.spec`). Templated.
    :raises EvergreenError: the trainer refused; its own message.
    :raises RuntimeError: it crashed or was killed.
    """

    template_fields: Sequence[str] = ("spec",)

    def __init__(self, *, spec: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self._job: JobProcess | None = None

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Trains, unless the same was trained before, and returns the trainer's result."""
        from evergreen.settings import load_settings
        from evergreen.training.trained import train_once

        return train_once(load_settings(), self.spec, self._run)

    def _run(self, _folder: Path, arguments: list[str]) -> dict[str, Any]:
        self._job = JobProcess(TRAIN_JOB, arguments)
        return self._job.run(self.log.info)

    def on_kill(self) -> None:
        """Ends the trainer and its threads."""
        if self._job is not None:
            self._job.kill()


def trainer() -> tuple[type[BaseOperator], str]:
    """The operator that trains by `settings.training.runtime`, and the pool in which it waits for memory or a GPU.

    DAG files call it while they are parsed: it takes milliseconds.
    """
    from evergreen.settings import load_settings
    from evergreen.settings.container import Gpus
    from evergreen.settings.training import Runtime

    settings = load_settings()
    if settings.training.runtime is Runtime.PROCESS:
        return TrainProcessOperator, HEAVY_POOL
    from evergreen_airflow.operators.container import TrainContainerOperator  # imports Docker's client

    return TrainContainerOperator, GPU_POOL if settings.container.gpus is Gpus.ON else HEAVY_POOL


class RegisterChallengerOperator(BaseOperator):
    """Logs all candidates to MLflow and registers the best by inner validation as challenger, also in the ledger.

    :param training_set: what `TrainingSetOperator` returned. Templated.
    :param trained: what the trainers returned. Templated.
    """

    template_fields: Sequence[str] = ("training_set", "trained")
    operator_extra_links = (MlflowLink(),)

    def __init__(self, *, training_set: Any, trained: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.training_set = training_set
        self.trained = trained
        self.mlflow_url = ""

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Registers, and emits an event for the day that the challenger was trained on."""
        from evergreen.promotion.ledger import Entry, Ledger
        from evergreen.settings import load_settings
        from evergreen.training.register import register_challenger

        settings = load_settings()
        training_set: Mapping[str, Any] = self.training_set
        day = date.fromisoformat(training_set["day"])
        results = list(self.trained)
        registered = register_challenger(settings, day, results, training_set, run_id=context["run_id"])
        self.mlflow_url = f"http://127.0.0.1:{settings.mlflow.port}/{registered['mlflow_url_path']}"
        self.log.info(
            "version %s: %s, %s",
            *(registered["version"], registered["candidate"], "new" if registered["new"] else "registered before"),
        )
        if registered["new"]:
            Ledger(settings).append(
                Entry(
                    "train",
                    str(registered["version"]),
                    resources_affected=(
                        f"bundle:{registered['bundle_digest']}",
                        f"training_set:{registered['training_set_digest']}",
                        f"run:{context['run_id']}",
                    ),
                    duration_seconds=sum(float(result.get("seconds", 0)) for result in results),
                    metrics={"candidate": registered["candidate"], **registered["inner"]},
                )
            )
        extra = {key: registered[key] for key in ("version", "bundle_digest", "training_set_digest", "new")}
        emit(context, self.outlets, day, {"challenger": registered, **extra})
        return registered


def why_not_train(settings: Settings, day: date, context: Mapping[str, Any]) -> str:
    """Why nobody trains on this day in this run; empty where somebody does."""
    if is_backfill(context):
        return f"{day} was loaded by a backfill, which trains nothing"
    newest = newest_published_day(settings)
    if newest is not None and day < newest:
        return f"{day} is not the newest published day, {newest} is"
    run_type = context["dag_run"].run_type
    by_event = str(getattr(run_type, "value", run_type)) == "asset_triggered"
    if by_event and settings.retraining.mode == "controlled":
        return "settings.retraining.mode is 'controlled': the retrain controller decides when to train"
    return ""


def newest_published_day(settings: Settings) -> date | None:
    """The newest day for which features were released, None before the first."""
    from evergreen.lake import Lake, latest_release

    release = latest_release(Lake(settings.lake_path), "features")
    return release.day if release else None
