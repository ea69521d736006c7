from __future__ import annotations

import fcntl
import math

import pytest
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError

from evergreen.errors import TrainingError
from evergreen.settings.training import InnerMetric
from evergreen.training.search.outcome import keep_outcome, newest_outcome, search_folder
from evergreen.training.search.study import Tools, run_search
from evergreen.training.search.workers import Here

SPACE = {
    "max_depth": {"low": 3, "high": 9},
    "learning_rate": {"low": 0.01, "high": 0.3, "log": True},
}
GRID = {"max_depth": {"choices": [5, 7, 9]}, "subsample": {"choices": [0.7, 0.9]}}


class World:
    """A clock that a judged fold moves on, and a judge who knows which parameters are good."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds, self.now = seconds, 0.0
        self.judged: list[tuple[dict, int]] = []
        self.kill_at = math.inf
        self.fails = lambda params: False

    @property
    def tools(self) -> Tools:
        return Tools(clock=lambda: self.now, judge=self.judge, workers=lambda parallel, threads: Here())

    def judge(self, question) -> dict[str, float]:
        if len(self.judged) == self.kill_at:
            self.kill_at = math.inf
            raise KeyboardInterrupt
        self.judged.append((dict(question.params), question.fold.number))
        self.now += self.seconds
        if self.fails(question.params):
            raise ValueError("no such trees\nin this forest")
        off = abs(question.params["max_depth"] - 5) + abs(math.log(question.params["learning_rate"] / 0.1))
        score = 0.3 - 0.01 * off - 0.001 * question.fold.number
        return {"average_precision": score, "log_loss": 1 - score}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def find(searched, made_set, world):
    """Runs a search whose space is small, with other settings of it."""

    def run(**changes):
        settings = searched(**{"spaces": {"xgboost": SPACE}, "trials": 6, "seconds": 1e6, **changes})
        return run_search(settings, made_set.folder, "xgboost", digest=made_set.digest, tools=world.tools)

    return run


def test_the_defaults_are_first_and_the_best_is_the_best(find, world):
    found = find(trials=12)
    assert found["table"][0]["role"] == "default"
    assert found["table"][0]["params"] == {"max_depth": 7, "learning_rate": 0.06}
    assert found["default"]["value"] == pytest.approx(0.3 - 0.01 * (2 + math.log(0.1 / 0.06)) - 0.001)
    complete = [one for one in found["table"] if one["state"] == "complete"]
    assert found["best"] == max(complete, key=lambda one: one["value"])
    assert found["gain"] == found["best"]["value"] - found["default"]["value"] > 0
    assert found["beats_default"]
    assert all(params["bags"] == 1 for params, _ in world.judged)  # fixed in every trial
    assert "bags" not in found["best"]["params"]
    assert found["training_set"]
    assert [fold["validation"] for fold in found["folds"]] == ["2024-04-05", "2024-04-12", "2024-04-19"]


def test_pruned_trials_count_and_are_told(find, world):
    found = find(trials=15)
    counts = found["trials"]
    assert counts["complete"] + counts["pruned"] == counts["wanted"] == 15
    assert counts["pruned"] > 0
    pruned = [one for one in found["table"] if one["state"] == "pruned"]
    assert all(one["value"] is None and 1 <= len(one["folds"]) < 3 for one in pruned)
    assert len(world.judged) == sum(len(one["folds"]) for one in found["table"])
    assert find(trials=15, pruning="none")["trials"] == {"complete": 15, "pruned": 0, "failed": 0, "wanted": 15}


@pytest.mark.parametrize("pruning", ["median", "none"])
@pytest.mark.parametrize("strategy", ["bayesian", "random"])
def test_a_search_that_was_stopped_proposes_what_it_would_have(
    find, world, searched, made_set, strategy, pruning, home
):
    """The same trials as of one that nobody disturbed, whichever fold was at work."""
    stopped = {"strategy": strategy, "pruning": pruning, "trials": 10}
    world.kill_at = 14
    with pytest.raises(KeyboardInterrupt):
        find(**stopped)
    done = len(world.judged)
    again = find(**stopped)
    assert len(world.judged) - done < 30  # it did not begin anew
    other = World()
    settings = searched(spaces={"xgboost": SPACE}, seconds=1e6, **stopped)
    settings = settings.model_copy(update={"home": home / "other"})
    whole = run_search(settings, made_set.folder, "xgboost", tools=other.tools)
    facts = ("params", "value", "folds", "state", "role")
    assert [{key: one[key] for key in facts} for one in again["table"]] == [
        {key: one[key] for key in facts} for one in whole["table"]
    ]


def test_no_fold_begins_after_the_budget(find, world):
    """A fold takes 10 s: the defaults' three, one more trial, and two folds of a third that waits for more budget."""
    found = find(seconds=75, trials=50)
    assert len(world.judged) == 8
    assert found["seconds"] == 80
    assert found["trials"]["complete"] == 2
    assert len(found["table"]) == 2
    more = find(seconds=140, trials=50)
    assert world.judged[8][0] == world.judged[7][0]  # the trial that was given up is the next one
    assert more["trials"]["complete"] + more["trials"]["pruned"] >= 3
    assert more["seconds"] <= 150
    assert more["study"] == found["study"]


def test_a_used_up_budget_changes_nothing(find, world):
    first = find()
    judged = len(world.judged)
    again = find()
    assert len(world.judged) == judged
    assert {**again, "finished_at": ""} == {**first, "finished_at": ""}


def test_a_budget_too_small_for_the_defaults_is_refused(find):
    with pytest.raises(TrainingError, match=r"ended before the defaults were judged on 3 folds: 20 of 15 s are used"):
        find(seconds=15)
    assert find(seconds=60)["default"]["state"] == "complete"


def test_a_grid_is_every_combination_once(find, world):
    found = find(strategy="grid", spaces={"xgboost": GRID}, trials=100, pruning="none")
    tried = [(one["params"]["max_depth"], one["params"]["subsample"]) for one in found["table"]]
    assert sorted(tried) == [(depth, share) for depth in (5, 7, 9) for share in (0.7, 0.9)]
    assert found["trials"]["wanted"] == 6
    assert found["best"]["params"]["max_depth"] == 5
    assert len(world.judged) == 18


def test_a_failed_trial_is_counted_and_told(find, world):
    world.fails = lambda params: params["max_depth"] > 7
    found = find(trials=12)
    failed = [one for one in found["table"] if one["state"] == "fail"]
    assert found["trials"]["failed"] == len(failed) > 0
    assert {one["error"] for one in failed} == {"ValueError: no such trees"}


def test_defaults_that_fail_end_the_search(find, world):
    world.fails = lambda params: True
    with pytest.raises(ValueError, match="no such trees"):
        find()


def test_a_lower_loss_is_better(searched, made_set, world):
    settings = searched(spaces={"xgboost": SPACE}, trials=8)
    training = settings.training.model_copy(update={"primary_metric": InnerMetric.LOG_LOSS})
    found = run_search(
        settings.model_copy(update={"training": training}), made_set.folder, "xgboost", tools=world.tools
    )
    assert found["metric"] == "log_loss"
    assert found["gain"] == found["default"]["value"] - found["best"]["value"] > 0


def outcome(found: dict, **changes) -> dict:
    return {**found, "study": "xgboost-other", **changes}


def test_the_best_of_the_day_before_is_the_second_trial(find, settings):
    found = find()
    (search_folder(settings, "xgboost") / "studies.db").unlink()
    best = {"params": {"max_depth": 4, "learning_rate": 0.123, "gamma": 1.0}, "number": 9}
    keep_outcome(settings, outcome(found, best=best))
    again = find(trials=3)
    assert [one["role"] for one in again["table"]] == ["default", "warm start", "proposed"]
    assert again["table"][1]["params"] == {"max_depth": 4, "learning_rate": 0.123}  # gamma is not searched here


def test_a_search_on_later_data_starts_nothing(find, settings):
    found = find()
    (search_folder(settings, "xgboost") / "studies.db").unlink()
    keep_outcome(settings, outcome(found, day="2024-06-14", best={"params": {"max_depth": 4}, "number": 9}))
    assert {one["role"] for one in find(trials=3)["table"]} == {"default", "proposed"}


def test_what_is_searched_decides_the_study(find):
    names = {
        find(trials=1, **changes)["study"] for changes in ({}, {"folds": 2}, {"strategy": "random"}, {"margin": 1})
    }
    assert len(names) == 3  # the margin does not change what is searched


def test_two_searches_of_a_model_do_not_meet(find, settings):
    folder = search_folder(settings, "xgboost")
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="another search of xgboost is at work"):
            find()
    assert find()["trials"]["complete"] >= 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "settings.training.search.storage_url is no URL"),
        ("postgresql://evergreen:secret@127.0.0.1:1/none", r"postgresql://evergreen:\*\*\*@127.0.0.1:1/none cannot be"),
    ],
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(find, url, message):
    with pytest.raises(TrainingError, match=message) as refused:
        find(storage_url=url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2"])
def test_a_driver_need_not_be_named(find, scheme):
    """Nobody listens there: it is the driver that is installed which says so."""
    with pytest.raises(TrainingError, match=r"psycopg2\.OperationalError"):
        find(storage_url=f"{scheme}://evergreen:secret@127.0.0.1:1/none")


@pytest.mark.parametrize("misses", [1, 5])
def test_tables_that_another_search_is_making_are_waited_for(find, monkeypatch, misses):
    made = []

    class Crowded(RDBStorage):
        def __init__(self, url):
            made.append(url)
            if len(made) <= misses:
                raise IntegrityError("CREATE TABLE studies", {}, Exception("duplicate key pg_type_typname_nsp_index"))
            super().__init__(url)

    monkeypatch.setattr("optuna.storages.RDBStorage", Crowded)
    monkeypatch.setattr("evergreen.training.search.storage.TRY_SECONDS", 0)
    if misses < 5:
        assert find(trials=1)["trials"]["complete"] == 1
    else:  # it is no crowd: what is wrong is told
        with pytest.raises(TrainingError, match=r"cannot be used: .*duplicate key"):
            find(trials=1)
    assert len(made) == min(misses + 1, 5)


def test_nothing_is_left_but_trials_and_outcome(find, settings):
    found = find()
    left = {path.name for path in search_folder(settings, "xgboost").iterdir()}
    assert left == {".lock", "studies.db", "outcomes"}
    assert newest_outcome(settings, "xgboost", made_day(found)) == found


def made_day(found: dict):
    from datetime import date

    return date.fromisoformat(found["day"])


def test_real_trials_in_processes_of_their_own(searched, made_set):
    settings = searched(
        spaces={"xgboost": {"max_depth": {"low": 2, "high": 7}}},
        fixed={"xgboost": {"bags": 1, "rounds": 5, "min_child_weight": 1.0}},
        trials=3,
        parallel=2,
        folds=1,
    )
    lines: list[str] = []
    found = run_search(settings, made_set.folder, "xgboost", say=lines.append)
    assert found["trials"]["complete"] == 3
    assert [line.split(",")[0] for line in lines] == [f"trial {number} of 3" for number in (1, 2, 3)]


def test_hyperband_prunes_too(find):
    counts = find(trials=12, pruning="hyperband")["trials"]
    assert counts["complete"] + counts["pruned"] == 12
    assert counts["pruned"] > 0
