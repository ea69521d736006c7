"""A search: trials that Optuna proposes, judged fold by fold, kept in a storage from which a killed search goes on.

One process asks and tells; workers only judge. Randomness is seeded by a trial's place in the search, so that one that
was killed proposes what it would have proposed (with `parallel: 1`; else the order in which trials end matters, too).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from evergreen.errors import TrainingError
from evergreen.lake.digest import digest_json
from evergreen.settings import Settings
from evergreen.settings.search import Pruning, SearchSettings, Strategy
from evergreen.training.dataset import INNER, TRAIN, TrainingSet
from evergreen.training.provenance import code_digest
from evergreen.training.register import LOWER_IS_BETTER
from evergreen.training.search.folds import Fold, FoldCustomers, rolling_folds
from evergreen.training.search.outcome import FORMAT, good_enough, keep_outcome, newest_outcome, search_folder
from evergreen.training.search.rows import Question, judge, prepared_rows
from evergreen.training.search.space import SearchSpace
from evergreen.training.search.storage import alone, open_storage
from evergreen.training.search.workers import workers

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

DEFAULT, WARM, PROPOSED = "default", "warm start", "proposed"
RANDOM_TRIALS = 8  # before the estimator has something to go by
UNPRUNED_TRIALS = 4  # before a median says something
SEEDS = 2**32
LINES = 1_000_003  # so that searches of neighbouring seeds share no trial's seed

Say = Callable[[str], object]
Judge = Callable[[Question], dict[str, float]]


@dataclass(frozen=True)
class Tools:
    """What a search uses of the world; tests give their own."""

    clock: Callable[[], float] = monotonic
    judge: Judge = judge
    workers: Callable[[int, int], Executor] = workers


@dataclass
class _Running:
    trial: Trial
    folds: list[float] = field(default_factory=list)
    began: float = 0.0


def run_search(
    settings: Settings,
    training_set: Path | str,
    model: str,
    *,
    digest: str = "",
    search: SearchSettings | None = None,
    say: Say = lambda line: None,
    tools: Tools | None = None,
) -> dict[str, Any]:
    """Searches a model's parameters on the folds of a training set, or goes on with that search.

    The first trial is the model's defaults, the second the best of the search before. The holdout's file is not
    opened, nor are the rows of the customers held out for the choice among candidates read.

    Args:
        settings: home, `training`.
        training_set: its folder.
        model: name of a model.
        digest: which training set it must be; empty for any.
        search: other settings of the search than `settings.training.search`.
        say: gets a line for each trial that ends.
        tools: clock, judge and workers, for tests.

    Returns:
        The outcome, JSON, as it is kept under `home/searches`: best, default, gain, beats_default, trials, folds,
        seconds, training_set (digest), metric, table (every trial).

    Raises:
        TrainingError: a range is wrong, the dates allow no fold, the storage cannot be used, another search of the
            model is at work, or the budget was too small for the defaults.
    """
    search = search or settings.training.search
    opened = TrainingSet.open(training_set, digest, files=(TRAIN, INNER))
    space = SearchSpace(model, search)
    folder = search_folder(settings, model)
    with alone(folder, model):
        one = _Search(settings, search, opened, space, say, tools or Tools())
        one.run()
        document = one.outcome()
        keep_outcome(settings, document)
        shutil.rmtree(one.folder, ignore_errors=True)
    return document


class _Search:
    """One search while it runs."""

    def __init__(
        self, settings: Settings, search: SearchSettings, training_set: TrainingSet, space: SearchSpace,
        say: Say, tools: Tools,
    ) -> None:  # fmt: skip
        training = settings.training
        self.settings, self.search, self.set, self.space = settings, search, training_set, space
        self.say, self.tools = say, tools
        self.metric, self.seed = training.primary_metric, training.seed
        self.sign = -1 if self.metric in LOWER_IS_BETTER else 1
        content = training_set.manifest["content"]
        self.folds = rolling_folds(
            training_set.as_ofs, content["horizon_days"], search.folds, training_set.inner_as_ofs
        )
        self.customers = FoldCustomers(content["salt"], search.validation_share, search.customers_share)
        self.threads = max(1, training.trainer_threads // search.parallel)
        self.folder = search_folder(settings, space.model) / "rows"
        self.grid = list(space.grid(self.seed)) if search.strategy is Strategy.GRID else []
        self.began = tools.clock()
        self.study = self._study()
        self.before = float(self.study.user_attrs.get("seconds", 0.0))
        self.running: dict[Future[dict[str, float]], _Running] = {}

    def run(self) -> None:
        """Asks, judges and tells until a budget is used up."""
        self._take_back(self._in_state("RUNNING"))
        self._begin()
        with self.tools.workers(self.search.parallel, self.threads) as pool:
            try:
                if self._has_budget():
                    self._prepare()
                while self._fill(pool):
                    done, _ = wait(self.running, return_when=FIRST_COMPLETED)
                    for future in sorted(done, key=lambda one: self.running[one].trial.number):
                        self._judged(pool, future)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        if self._default() is None:
            raise TrainingError(
                f"the search of {self.space.model} ended before the defaults were judged on {len(self.folds)} folds: "
                f"{self._spent():.0f} of {self.search.seconds:g} s are used, raise settings.training.search.seconds"
            )

    def outcome(self) -> dict[str, Any]:
        """The document of what was found."""
        default = self._default()
        assert default is not None  # else `run` raised
        complete = sorted(self._in_state("COMPLETE"), key=lambda one: (-self.sign * _value(one), one.number))
        best = complete[0]
        counted = self._counted()
        states = [one.state.name for one in counted]
        gain = self.sign * (_value(best) - _value(default))
        document: dict[str, Any] = {
            "format": FORMAT,
            "study": self.study.study_name,
            "model": self.space.model,
            "strategy": self.search.strategy.value,
            "pruning": self.search.pruning.value,
            "metric": self.metric.value,
            "lower_is_better": self.sign < 0,
            "training_set": self.set.digest,
            "day": str(self.set.day),
            "folds": [
                {"train": [str(one) for one in fold.train], "validation": str(fold.validation), "rows": counts}
                for fold, counts in zip(self.folds, self.study.user_attrs["rows"], strict=True)
            ],
            "best": _told(best),
            "default": _told(default),
            "gain": gain,
            "margin": self.search.margin,
            "customers_share": self.search.customers_share,
            "trials": {
                "complete": states.count("COMPLETE"), "pruned": states.count("PRUNED"), "failed": states.count("FAIL"),
                "wanted": min(self.search.trials, len(self.grid) or self.search.trials),
            },
            "seconds": round(self._spent(), 1),
            "seconds_wanted": self.search.seconds,
            "space": self.space.to_json(),
            "fixed": self.space.fixed,
            "seed": self.seed,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "table": [_told(one) for one in counted],
        }  # fmt: skip
        return {**document, "beats_default": good_enough(document, self.search.margin)}

    def _study(self) -> Study:
        """The study of all that decides this search; its budget may grow."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        digest = digest_json(
            {
                "training_set": self.set.digest,
                "code": code_digest(),
                "space": self.space.to_json(),
                "fixed": self.space.fixed,
                "metric": self.metric.value,
                "seed": self.seed,
                "strategy": self.search.strategy.value,
                "pruning": self.search.pruning.value,
                "folds": [str(fold) for fold in self.folds],
                "shares": [self.search.validation_share, self.search.customers_share],
            }
        )
        return optuna.create_study(
            storage=open_storage(self.search.storage_url, search_folder(self.settings, self.space.model)),
            study_name=f"{self.space.model}-{digest[:16]}",
            direction="minimize" if self.sign < 0 else "maximize",
            pruner=_pruner(self.search.pruning, len(self.folds)),
            load_if_exists=True,
        )

    def _prepare(self) -> None:
        """Prepares the rows of all folds, so that workers find them, and notes how many there are."""
        counts = [prepared_rows(self._question(self.space.start(), fold)).counts for fold in self.folds]
        self.study.set_user_attr("rows", counts)

    def _begin(self) -> None:
        """Puts the defaults and the best of the search before into the queue, once."""
        if self.study.user_attrs.get("begun"):
            return
        self._enqueue(self.space.start(), DEFAULT)
        earlier = newest_outcome(self.settings, self.space.model, self.set.day, but=self.study.study_name)
        warm = self.space.holding(earlier["best"]["params"]) if earlier else {}
        if warm and {**self.space.start(), **warm} != self.space.start():
            self._enqueue({**self.space.start(), **warm}, WARM)
        self.study.set_user_attr("begun", True)

    def _enqueue(self, params: Mapping[str, Any], role: str) -> None:
        self.study.enqueue_trial(dict(params), user_attrs={"role": role}, skip_if_exists=True)

    def _take_back(self, trials: list[FrozenTrial]) -> None:
        """Trials that nobody judges any more go back into the queue.

        In this order nothing is lost by a kill in between: such a trial is taken back again.
        """
        from optuna.trial import TrialState

        for one in trials:
            gone = self.study.user_attrs.get("taken_back", [])
            self.study.set_user_attr("taken_back", sorted({*gone, one.number}))
            params = {**one.system_attrs.get("fixed_params", {}), **one.params}
            if params not in [waiting.system_attrs.get("fixed_params") for waiting in self._in_state("WAITING")]:
                self.study.enqueue_trial(params, user_attrs={"role": one.user_attrs.get("role", PROPOSED)})
            self.study.tell(one.number, state=TrialState.FAIL)

    def _fill(self, pool: Executor) -> bool:
        """Begins trials while there is room and budget. False where nothing runs any more."""
        while len(self.running) < self.search.parallel and (trial := self._next()) is not None:
            self._submit(pool, _Running(trial, began=self.tools.clock()))
        return bool(self.running)

    def _has_budget(self) -> bool:
        return len(self._counted()) < self.search.trials and self._spent() < self.search.seconds

    def _next(self) -> Trial | None:
        counted = self._counted()
        if not self._has_budget():
            return None
        if not self._in_state("WAITING") and self.grid:
            tried = [self.space.holding(one.params) for one in counted]
            point = next((one for one in self.grid if one not in tried), None)
            if point is None:
                return None
            self._enqueue(point, PROPOSED)
        self.study.sampler = self._sampler((self.seed * LINES + len(counted)) % SEEDS)
        return self.study.ask(fixed_distributions=self.space.distributions())

    def _submit(self, pool: Executor, one: _Running) -> None:
        question = self._question(one.trial.params, self.folds[len(one.folds)])
        self.running[pool.submit(self.tools.judge, question)] = one

    def _judged(self, pool: Executor, future: Future[dict[str, float]]) -> None:
        """Takes the answer of one fold: the trial goes on, ends, or is given up."""
        from optuna.trial import TrialState

        one = self.running.pop(future)
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise TrainingError(
                "a process that judged a trial died, most likely for lack of memory: lower "
                "settings.training.search.parallel or customers_share; the search goes on where it was"
            ) from None
        role = one.trial.user_attrs.get("role", PROPOSED)
        if error is not None:
            if role == DEFAULT:
                raise error
            one.trial.set_user_attr("error", f"{type(error).__name__}: {error}".splitlines()[0])
            self._tell(one, TrialState.FAIL)
            return
        one.folds.append(future.result()[self.metric.value])
        one.trial.set_user_attr("folds", one.folds)
        one.trial.report(sum(one.folds) / len(one.folds), len(one.folds) - 1)
        if len(one.folds) == len(self.folds):
            self._tell(one, TrialState.COMPLETE)
        elif role != DEFAULT and one.trial.should_prune():
            self._tell(one, TrialState.PRUNED)
        elif self._spent() >= self.search.seconds:
            self._take_back([self.study.trials[one.trial.number]])
            self._note_seconds()
        else:
            self._submit(pool, one)

    def _tell(self, one: _Running, state: Any) -> None:
        one.trial.set_user_attr("seconds", round(self.tools.clock() - one.began, 3))
        complete = state.name == "COMPLETE"
        self.study.tell(one.trial, sum(one.folds) / len(one.folds) if complete else None, state=state)
        self._note_seconds()
        told = self.study.trials[one.trial.number]
        self.say(self._line(told))

    def _line(self, told: FrozenTrial) -> str:
        """What a person reads of a trial that ended."""
        default = self._default()
        parts = [f"trial {len(self._counted()) - len(self.running)} of {self.search.trials}"]
        folds = told.user_attrs.get("folds", [])
        if told.state.name == "COMPLETE":
            parts.append(f"{self.metric.value} {_value(told):.4f}")
            if default is not None and default.number != told.number:
                parts.append(f"{self.sign * (_value(told) - _value(default)):+.4f} against the defaults")
        elif told.state.name == "PRUNED":
            parts.append(f"pruned after fold {len(folds)} of {len(self.folds)} at {sum(folds) / len(folds):.4f}")
        else:
            parts.append(f"failed: {told.user_attrs['error']}")
        role = told.user_attrs.get("role", PROPOSED)
        if role != PROPOSED:
            parts.append(role)
        return ", ".join([*parts, f"{told.user_attrs['seconds']:.1f} s"])

    def _question(self, tried: Mapping[str, Any], fold: Fold) -> Question:
        return Question(
            self.set, fold, self.customers, self.space.model, self.space.params(tried), self.seed, self.threads,
            self.folder,
        )  # fmt: skip

    def _sampler(self, seed: int) -> BaseSampler:
        from optuna.samplers import RandomSampler, TPESampler

        if self.search.strategy is Strategy.BAYESIAN:
            return TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS, multivariate=True, constant_liar=True)
        return RandomSampler(seed=seed)

    def _spent(self) -> float:
        return self.before + self.tools.clock() - self.began

    def _note_seconds(self) -> None:
        self.study.set_user_attr("seconds", self._spent())

    def _in_state(self, name: str) -> list[FrozenTrial]:
        return [one for one in self.study.trials if one.state.name == name]

    def _counted(self) -> list[FrozenTrial]:
        """Trials that count towards the budget: begun, and not taken back."""
        gone = set(self.study.user_attrs.get("taken_back", []))
        return [one for one in self.study.trials if one.state.name != "WAITING" and one.number not in gone]

    def _default(self) -> FrozenTrial | None:
        found = [one for one in self._in_state("COMPLETE") if one.user_attrs.get("role") == DEFAULT]
        return found[0] if found else None


def _told(one: FrozenTrial) -> dict[str, Any]:
    """A trial as a document."""
    return {
        "number": one.number,
        "role": one.user_attrs.get("role", PROPOSED),
        "state": one.state.name.lower(),
        "value": one.value if one.state.name == "COMPLETE" else None,
        "folds": one.user_attrs.get("folds", []),
        "params": dict(one.params),
        "seconds": one.user_attrs.get("seconds", 0.0),
        **({"error": one.user_attrs["error"]} if "error" in one.user_attrs else {}),
    }


def _value(one: FrozenTrial) -> float:
    assert one.value is not None  # the trial is complete
    return float(one.value)


def _pruner(pruning: Pruning, folds: int) -> BasePruner:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if pruning is Pruning.MEDIAN:
        return MedianPruner(n_startup_trials=UNPRUNED_TRIALS)
    if pruning is Pruning.HYPERBAND:
        return HyperbandPruner(min_resource=1, max_resource=folds, reduction_factor=2)
    return NopPruner()
