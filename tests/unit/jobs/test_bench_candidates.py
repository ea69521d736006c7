"""The bench of candidates, on a shop and a training set that train in a moment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from evergreen.errors import EvaluationError, TrainingError
from evergreen.evaluation.scores import Scores
from evergreen.jobs import bench_candidates, bench_models
from evergreen.jobs.bench_candidates import (
    compare,
    expected_regret,
    feature_groups,
    measure,
    refit,
    sample_regret,
    true_scores,
)
from evergreen.jobs.bench_models import Models, groups_of
from evergreen.settings import Settings
from evergreen.training.dataset import TrainingSet, write_training_set
from evergreen.training.dates import TrainingDates
from evergreen.training.splits import Split
from tests.weekly_set import AS_OFS, HOLDOUT, chunk, make_set

FEW = {"bags": 1, "rounds": 8, "min_child_weight": 1, "negative_share": 1.0}


def settings_with(settings: Settings, candidates: dict[str, object]) -> Settings:
    document = settings.model_dump(mode="json")
    document["training"]["candidates"] = candidates
    document["evaluation"]["resamples"] = 50
    return Settings.model_validate(document)


@pytest.fixture
def few(settings: Settings) -> Settings:
    return settings_with(
        settings,
        {
            "xgboost": {"model": "xgboost", "params": FEW},
            "frequency": {"model": "heuristic", "params": {"feature": "pair_purchases"}},
        },
    )


@pytest.fixture
def models(few: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Models:
    """Trains in this process: starting another takes longer than the training."""

    def run(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:3] == ["-m", "evergreen.jobs.bench_models"]
        return subprocess.CompletedProcess(command, bench_models.main(command[3:]), "", "")

    monkeypatch.setattr(bench_models.subprocess, "run", run)
    return Models(tmp_path / "work", few, threads=1)


@pytest.fixture(scope="session")
def weekly(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return make_set(tmp_path_factory.mktemp("weekly"))


@pytest.fixture(scope="session")
def month_later(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], TrainingSet]:
    """The weekly set, all of whose dates lie so many days later."""

    def made(days: int) -> TrainingSet:
        move = timedelta(days=days)
        dates = TrainingDates(HOLDOUT + move, tuple(as_of + move for as_of in AS_OFS), len(AS_OFS))
        release = SimpleNamespace(versions={"pair_features": 1}, digest="0" * 64)
        folder = tmp_path_factory.mktemp("later")
        return write_training_set(
            folder, release, dates, Settings(), SimpleNamespace(of=chunk), day=HOLDOUT + move + timedelta(days=27)
        )

    return made


def test_candidates_are_compared_with_the_reference_on_the_same_pairs(models: Models, weekly: TrainingSet) -> None:
    found = compare(models, weekly, ["xgboost", "frequency"], "xgboost")
    xgboost, frequency = found["candidates"]
    assert xgboost["gain"] is None  # it is the reference
    for name, sign in (("roc_auc", 1), ("log_loss", -1)):
        difference = sign * (frequency["metrics"][name]["value"] - xgboost["metrics"][name]["value"])
        assert frequency["gain"][name]["value"] == pytest.approx(difference)
        assert frequency["gain"][name]["low"] <= difference <= frequency["gain"][name]["high"]
    assert set(xgboost["metrics"]) == set(bench_candidates.TOLD)
    assert frequency["features"] == 1
    assert xgboost["cpu_seconds"] > 0
    assert xgboost["peak_mib"] > 50
    assert xgboost["bundle_bytes"] > frequency["bundle_bytes"] > 0
    assert found["chosen"] in {"xgboost", "frequency"}


def test_the_holdout_chooses_nothing(models: Models, weekly: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> dict[str, dict[str, float]]:
        return {name: {"value": 0.0, "low": 0.0, "high": 0.0} for name in bench_candidates.TOLD}

    chosen = compare(models, weekly, ["frequency", "xgboost"], "xgboost")["chosen"]
    monkeypatch.setattr(bench_candidates, "intervals", nothing)
    assert compare(models, weekly, ["frequency", "xgboost"], "xgboost")["chosen"] == chosen


def test_a_reference_may_come_from_another_set_with_parameters_of_its_own(
    models: Models, weekly: TrainingSet, month_later: Callable[[int], TrainingSet]
) -> None:
    alone = models.narrowed(weekly, ["pair"])
    found = measure(models, [weekly], ["xgboost"], "xgboost", references=[alone], reference_params={**FEW, "rounds": 2})
    reference = found["on"][0]["reference"]
    assert reference["params"]["rounds"] == 2
    assert reference["training_set"] == alone.digest
    assert found["on"][0]["candidates"][0]["gain"] is not None
    with pytest.raises(TrainingError, match="a reference has holdout 2024-06-14, which no training set of --on has"):
        measure(models, [weekly], ["xgboost"], "xgboost", references=[month_later(28)])


def test_what_is_finished_is_found_again(
    models: Models, weekly: TrainingSet, monkeypatch: pytest.MonkeyPatch, few: Settings
) -> None:
    first = compare(models, weekly, ["xgboost", "frequency"], "xgboost")
    monkeypatch.setattr(bench_models.subprocess, "run", lambda *_, **__: pytest.fail("nothing is left to train"))
    again = Models(models.folder, few, threads=2)
    assert compare(again, weekly, ["xgboost", "frequency"], "xgboost") == first
    monkeypatch.setattr(bench_models, "code_digest", lambda: "other code")
    with pytest.raises(BaseException, match="nothing is left to train"):
        Models(models.folder, few, threads=1).train(again.spec(weekly, "xgboost"))


def test_a_training_in_a_process_of_its_own(few: Settings, tmp_path: Path, weekly: TrainingSet) -> None:
    models = Models(tmp_path / "work", few, threads=1)
    trained = models.train(models.spec(weekly, "frequency"))
    assert trained.facts["cpu_seconds"] > 0
    assert len(models.scores(trained, weekly)) == weekly.rows["holdout"]


def test_a_failed_training_tells_its_last_line(
    few: Settings, tmp_path: Path, weekly: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models(tmp_path / "work", few, threads=1)
    failed = subprocess.CompletedProcess([], 1, "", "a warning\nevergreen: labels from 0 to 2 were seen\n")
    monkeypatch.setattr(bench_models.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(TrainingError, match="training frequency ended with code 1: evergreen: labels from 0 to 2 were"):
        models.train(models.spec(weekly, "frequency"))


def test_unknown_candidates_are_named_and_a_model_goes_by_its_own_name(models: Models, weekly: TrainingSet) -> None:
    assert models.spec(weekly, "logistic").params == {}
    with pytest.raises(TrainingError, match=r"candidate 'xgbost' is unknown, must be one of: ensemble, frequency, "):
        models.spec(weekly, "xgbost")
    with pytest.raises(TrainingError, match="bags"):
        models.spec(weekly, "xgboost", {"bags": 0})


def test_without_names_all_candidates_are_compared_whose_features_are_there(
    few: Settings, tmp_path: Path, weekly: TrainingSet, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = {"model": "heuristic", "params": {"feature": "product_buyers_90d"}}
    document = few.model_dump(mode="json")
    document["training"]["candidates"]["popularity"] = lacking
    models = Models(tmp_path / "work", Settings.model_validate(document), threads=1)
    assert models.candidates(weekly) == ["xgboost", "frequency"]
    assert (
        "leaving out popularity: parameter feature of model heuristic is 'product_buyers_90d'"
        in capsys.readouterr().err
    )


def test_a_narrowed_set_lists_fewer_features_of_the_same_rows(models: Models, filled_training_set: TrainingSet) -> None:
    assert groups_of(filled_training_set) == {
        "pair": ["pair_recency_days", "pair_purchases"],
        "customer": ["country"],
        "product": ["product_buyers_90d"],
    }
    narrowed = models.narrowed(filled_training_set, ["pair", "product"])
    assert {name for name, _ in narrowed.features} == {"pair_recency_days", "pair_purchases", "product_buyers_90d"}
    assert narrowed.digest != filled_training_set.digest
    assert narrowed.rows == filled_training_set.rows
    again = models.narrowed(filled_training_set, ["product", "pair"])
    assert again == narrowed
    with pytest.raises(TrainingError, match="has no feature of calendar"):
        models.narrowed(filled_training_set, ["calendar"])


def test_a_group_adds_what_the_model_lacks_without_it(models: Models, filled_training_set: TrainingSet) -> None:
    found = feature_groups(models, filled_training_set, "xgboost")
    rows = {row["group"]: row for row in found["groups"]}
    assert list(rows) == ["pair", "customer", "product"]
    assert rows["pair"]["features"] == 2
    best = max(rows, key=lambda group: rows[group]["last"]["holdout"]["roc_auc"]["value"])
    assert best == "pair"  # customers of the shop buy in a pair's own rhythm
    alone = {group: row["alone"]["holdout"]["roc_auc"]["value"] for group, row in rows.items()}
    assert alone["pair"] > alone["customer"]
    whole = found["all"]["selection"]["roc_auc"]["value"]
    less = models.train(models.spec(models.narrowed(filled_training_set, ["customer", "product"]), "xgboost"))
    assert rows["pair"]["last"]["selection"]["roc_auc"]["value"] == pytest.approx(
        whole - less.facts["inner"]["roc_auc"], abs=1e-6
    )


def test_a_refit_is_judged_where_neither_model_has_seen(
    models: Models, weekly: TrainingSet, month_later: Callable[[int], TrainingSet]
) -> None:
    later = month_later(28)
    found = refit(models, weekly, later, "xgboost")
    assert found["judged"] == str(HOLDOUT + timedelta(days=28))
    assert found["promoted"]["newest_date"] == str(AS_OFS[-1])
    assert found["refitted"]["newest_date"] == str(HOLDOUT)
    metrics = [found[one]["metrics"]["roc_auc"]["value"] for one in ("refitted", "promoted")]
    assert found["gain"]["roc_auc"]["value"] == pytest.approx(metrics[0] - metrics[1])
    with pytest.raises(TrainingError, match="are 27 days apart, expected 28 or more"):
        refit(models, weekly, month_later(27), "xgboost")


def truth_of(scores: Scores, probabilities: object) -> pd.DataFrame:
    return pd.DataFrame(
        {"customer_id": scores.customer_ids, "product_id": scores.product_ids, "probability": probabilities}
    )


def test_the_oracle_is_never_beaten_in_expectation(
    models: Models, weekly: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = chunk(HOLDOUT).to_pandas()
    chance = 1 / (1 + np.exp(-(rows["pair_purchases"] - 2.0 - rows["pair_recency_days"] / 80)))
    truth = truth_of(SimpleNamespace(customer_ids=rows["customer_id"], product_ids=rows["product_id"]), chance)
    shuffled = truth.sample(frac=1, random_state=1)
    monkeypatch.setattr("evergreen.ingest.sample.true_probabilities", lambda *_: shuffled)
    found = sample_regret(models, weekly, ["frequency", "xgboost"])
    assert found["pairs"] == len(rows)
    assert found["expected_positives"] == pytest.approx(chance.sum(), abs=0.1)
    for row in found["candidates"]:
        assert 0 < row["expected_regret"]["low"] <= row["expected_regret"]["value"] <= row["expected_regret"]["high"]
        assert row["regret"]["log_loss"]["value"] == pytest.approx(
            row["metrics"]["log_loss"]["value"] - found["oracle"]["log_loss"]["value"]
        )
    by_hand = true_scores(weekly, models.settings)
    assert expected_regret(by_hand, by_hand, models.settings.evaluation) == {"value": 0.0, "low": 0.0, "high": 0.0}
    with pytest.raises(EvaluationError, match="differ"):
        expected_regret(by_hand, replace(by_hand, labels=1 - by_hand.labels), models.settings.evaluation)
    monkeypatch.setattr("evergreen.ingest.sample.true_probabilities", lambda *_: truth.iloc[5:])
    with pytest.raises(TrainingError, match=r"5 of 480 pairs of training set .* are unknown to the sample"):
        true_scores(weekly, models.settings)


def test_expected_regret_is_what_labels_give_on_average(settings: Settings) -> None:
    rng = np.random.default_rng(3)
    customers = np.repeat([f"c{number}" for number in range(40)], 5).astype(object)
    products = np.array([f"p{number}" for number in range(5)] * 40, object)
    true = rng.uniform(0.01, 0.6, 200)
    said = np.clip(true + rng.normal(0, 0.1, 200), 0.01, 0.99)
    truth = Scores(customers, products, np.zeros(200, np.int8), true)
    model = replace(truth, probabilities=said)
    drawn = rng.random((20_000, 200)) < true
    lost = [np.where(drawn, -np.log(p), -np.log(1 - p)).mean() for p in (said, true)]
    found = expected_regret(truth, model, settings.evaluation)["value"]
    assert found == pytest.approx(lost[0] - lost[1], rel=0.02)


def test_one_line_of_json_with_all_tables(
    models: Models,
    weekly: TrainingSet,
    month_later: Callable[[int], TrainingSet],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    few: Settings,
) -> None:
    monkeypatch.setattr(bench_candidates, "load_settings", lambda: few)
    out, work = tmp_path / "candidates.json", str(tmp_path / "work")
    sets = ["--on", str(weekly.folder), "--refit", str(weekly.folder), str(month_later(35).folder)]
    assert (
        bench_candidates.main(
            [*sets, "--candidates", "frequency", "--main", "frequency", "--work", work, "--out", str(out)]
        )
        == 0
    )
    found = json.loads(out.read_text())
    assert found == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["command"] == (
        "./evergreen bench candidates -- --on SET --candidates frequency --main frequency --refit EARLIER LATER"
    )
    assert found["refits"][0]["days_after_the_verdicts_holdout"] == 35
    assert found["groups"] == []
    assert found["sample"] is None


def test_selection_customers_are_scored_apart(models: Models, weekly: TrainingSet) -> None:
    trained = models.train(models.spec(weekly, "xgboost"))
    selection = models.scores(trained, weekly, Split.SELECTION)
    holdout = models.scores(trained, weekly)
    assert len(selection) == weekly.rows["selection"]
    assert set(selection.customer_ids) < set(holdout.customer_ids)
