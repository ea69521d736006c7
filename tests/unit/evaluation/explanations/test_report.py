from __future__ import annotations

import json

import numpy as np
import pytest

from evergreen.errors import BundleError
from evergreen.evaluation.explanations.probe import PROBE, probe_rank, random_probe
from evergreen.evaluation.explanations.report import explain, summary


@pytest.fixture
def document(xgboost_bundle, frame, few) -> dict:
    return explain(xgboost_bundle, frame, few)


def test_the_document_is_plain_json_and_the_same_again(document, xgboost_bundle, frame, few) -> None:
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert explain(xgboost_bundle, frame, few) == document


def test_what_matters_stands_first(document) -> None:
    ranked = document["global"]
    assert {ranked[0]["feature"], ranked[1]["feature"]} == {"pair_recency_days", "pair_purchases"}
    assert [entry["rank"] for entry in ranked] == [1, 2, 3, 4]
    assert sum(entry["share"] for entry in ranked) == pytest.approx(1, abs=1e-4)
    assert [entry["mean_abs"] for entry in ranked] == sorted((entry["mean_abs"] for entry in ranked), reverse=True)


def test_additivity_is_told_against_predict(document) -> None:
    assert document["additivity"]["max_error"] < 1e-6
    assert document["additivity"]["rows"] == document["rows"] == 300


def test_the_gate_has_what_it_asks_for(document) -> None:
    kept = summary(document)
    assert set(kept["random_probe"]) == {"rank", "of", "share"}
    assert kept["random_probe"]["of"] == 5
    assert "dependence" not in kept


def test_curves_have_points_in_order(document) -> None:
    curve = next(one for one in document["dependence"] if one["feature"] == "pair_purchases")
    points = [point for point, _ in curve["partial_dependence"]]
    assert points == sorted(points)
    assert curve["partial_dependence"][-1][1] > curve["partial_dependence"][0][1], "more purchases, likelier"
    assert curve["ale"][-1][1] > curve["ale"][0][1]
    assert len(curve["dots"]) <= 250


def test_examples_go_from_the_likeliest_to_the_unlikeliest(document) -> None:
    probabilities = [one["probability"] for one in document["examples"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert document["examples"][0]["reasons"][0]["raises"]
    assert not document["examples"][-1]["reasons"][0]["raises"]


def test_a_missing_feature_is_named(xgboost_bundle, frame, few) -> None:
    with pytest.raises(BundleError, match="needs feature 'country'"):
        explain(xgboost_bundle, frame.drop(columns="country"), few)


def test_noise_ranks_last_in_a_sound_model(train, frame, few) -> None:
    found = random_probe(train("logistic"), frame, few)
    assert found["rank"] >= 4
    assert found["share"] < 0.05


def test_a_model_that_lives_on_noise_is_seen(train, frame, few) -> None:
    shuffled = frame.assign(label=np.random.default_rng(0).permutation(frame["label"].to_numpy()))
    found = random_probe(train("logistic"), shuffled, few)
    sound = random_probe(train("logistic"), frame, few)
    assert found["share"] > 2 * sound["share"], "four features tell as little as the probe: it has its part of the rest"


def test_a_heuristic_never_reads_the_probe(train, frame, few) -> None:
    assert random_probe(train("heuristic"), frame, few) == {"rank": 2, "of": 2, "share": 0.0}


def test_a_tie_does_not_hide_the_probe() -> None:
    assert probe_rank(["a", PROBE, "b"], np.array([0.5, 0.5, 0.1])) == {"rank": 1, "of": 3, "share": 0.454545}
    assert probe_rank(["a", PROBE], np.zeros(2)) == {"rank": 1, "of": 2, "share": 0.0}
