"""The search for parameters, before the training specs are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from evergreen_airflow.defaults import HEAVY_POOL
from evergreen_airflow.failures import fails_plainly
from evergreen_airflow.links import MlflowLink
from evergreen_airflow.operators.process import JobProcess

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.settings import Settings

SEARCH_JOB = "evergreen.jobs.search"
STATES = ("complete", "pruned", "failed")  # of trials that count


class SearchOperator(BaseOperator):
    """Searches the parameters of `settings.training.search.models`, each in a child process of the task.

    A retry goes on where the killed search was. With `settings.training.runtime: docker`, too, it is a process of the
    worker: its trials are kept in a database, which a trainer without network does not reach.

    :param training_set: what `TrainingSetOperator` returned. Templated.
    :param wanted: `True` (as text, from a param), else the task is skipped. Templated.
    :raises EvergreenError: the search refused; its own message.
    """

    template_fields: Sequence[str] = ("training_set", "wanted")
    operator_extra_links = (MlflowLink(),)

    def __init__(self, *, training_set: Any, wanted: str, **kwargs: Any) -> None:
        kwargs.setdefault("pool", HEAVY_POOL)
        super().__init__(**kwargs)
        self.training_set = training_set
        self.wanted = wanted
        self.mlflow_url = ""
        self._job: JobProcess | None = None

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Searches one model after the other; returns what each found, by model."""
        if self.wanted.lower() != "true":
            raise AirflowSkipException("no search was asked for: trigger with `search`")
        from evergreen.settings import load_settings

        settings = load_settings()
        return {model: self._search(settings, model) for model in settings.training.search.models}

    def _search(self, settings: Settings, model: str) -> dict[str, Any]:
        where = ["--training-set", str(self.training_set["folder"]), "--digest", str(self.training_set["digest"])]
        self._job = JobProcess(SEARCH_JOB, [*where, "--model", model])
        outcome = self._job.run(self.log.info)
        self._track(settings, outcome)
        self.log.info(_what_comes_of_it(settings, outcome))
        told = {name: outcome[name] for name in ("study", "metric", "gain", "beats_default", "trials", "seconds")}
        return {**told, "best": outcome["best"]["params"], "value": outcome["best"]["value"]}

    def _track(self, settings: Settings, outcome: Mapping[str, Any]) -> None:
        """MLflow is for people to look at: where it does not answer the search is good all the same."""
        from mlflow.exceptions import MlflowException

        from evergreen.training.search.tracking import log_search

        try:
            page = log_search(settings, outcome)
        except MlflowException as error:
            self.log.warning("MLflow has no record of this search: %s", str(error).splitlines()[0])
        else:
            self.mlflow_url = f"http://127.0.0.1:{settings.mlflow.port}/{page}"
            self.log.info("trials in MLflow: %s", self.mlflow_url)

    def on_kill(self) -> None:
        """Ends the search and its workers."""
        if self._job is not None:
            self._job.kill()


def _what_comes_of_it(settings: Settings, outcome: Mapping[str, Any]) -> str:
    """The last line of a search, for the person who asked for it."""
    from evergreen.training.search.outcome import why_not_used

    trials = outcome["trials"]
    told = f"{outcome['model']}: {outcome['metric']} {outcome['gain']:+.4f} against the defaults, on held-out customers"
    told += f" of {len(outcome['folds'])} folds, best of {sum(trials[name] for name in STATES)} trials"
    reason = why_not_used(settings, outcome)
    return f"{told}; not used by the training: {reason}" if reason else f"{told}; used by the training from now on"
