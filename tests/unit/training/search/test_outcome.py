from __future__ import annotations

from datetime import date

import pytest

from evergreen.errors import TrainingError
from evergreen.training.search.outcome import good_enough, keep_outcome, newest_outcome, params_of, why_not_used
from evergreen.training.spec import TrainSpec, make_specs

DAY = date(2024, 6, 13)
BEST = {"max_depth": 5, "learning_rate": 0.1}


def outcome(**changes) -> dict:
    found = {
        "format": "evergreen-search/1",
        "study": "xgboost-abc",
        "model": "xgboost",
        "metric": "average_precision",
        "day": str(DAY),
        "default": {"number": 0, "value": 0.2},
        "best": {"number": 4, "value": 0.21, "params": BEST},
        "gain": 0.01,
        "customers_share": 1.0,
        "finished_at": "2024-06-14T00:00:00+00:00",
    }
    return {**found, **changes}


def specs_of(settings, made_set) -> dict[str, TrainSpec]:
    specs = [TrainSpec.model_validate(one) for one in make_specs(settings, made_set.summary())]
    return {one.candidate: one for one in specs}


def test_a_spec_carries_the_best_and_its_digest_tells(settings, made_set):
    before = specs_of(settings, made_set)
    keep_outcome(settings, outcome())
    after = specs_of(settings, made_set)
    assert after["xgboost"].params == BEST
    assert after["xgboost"].digest != before["xgboost"].digest
    assert after["logistic"] == before["logistic"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"gain": 0.0009}, id="gains too little"),
        pytest.param({"gain": -0.01}, id="is worse"),
        pytest.param({"best": {"number": 0, "value": 0.2, "params": BEST}, "margin": 0}, id="is the defaults' trial"),
        pytest.param({"day": "2024-06-14"}, id="has seen later days"),
        pytest.param({"metric": "log_loss"}, id="is best by another metric"),
        pytest.param({"best": {"number": 4, "value": 0.3, "params": {"depth": 5}}}, id="has an unknown parameter"),
        pytest.param({"best": {"number": 4, "value": 0.3, "params": {"max_depth": 50}}}, id="is out of range"),
        pytest.param({"customers_share": 0.3}, id="has read too few customers"),
        pytest.param({"format": "another/1"}, id="is of another format"),
    ],
)
def test_what_is_not_used(settings, made_set, changes):
    keep_outcome(settings, outcome(**changes))
    assert specs_of(settings, made_set)["xgboost"].params == {}


def test_parameters_in_the_settings_win(searched):
    settings = searched()
    keep_outcome(settings, outcome())
    assert params_of(settings, "xgboost", {"max_depth": 3}, DAY) == {"max_depth": 3}
    assert params_of(settings, "xgboost", {}, DAY) == BEST
    assert params_of(searched(use_best=False), "xgboost", {}, DAY) == {}
    assert params_of(searched(margin=0.02), "xgboost", {}, DAY) == {}
    keep_outcome(settings, outcome(customers_share=0.3))
    assert params_of(searched(customers_share=0.3), "xgboost", {}, DAY) == BEST  # as the settings ask


def test_the_newest_day_counts_and_on_one_day_the_last_search(settings):
    keep_outcome(settings, outcome(study="xgboost-old", day="2024-06-12", finished_at="2024-06-20T00:00:00+00:00"))
    keep_outcome(settings, outcome(study="xgboost-first"))
    keep_outcome(settings, outcome(study="xgboost-last", finished_at="2024-06-15T00:00:00+00:00"))
    newest = newest_outcome(settings, "xgboost", DAY)
    assert newest is not None
    assert newest["study"] == "xgboost-last"
    but = newest_outcome(settings, "xgboost", DAY, but="xgboost-last")
    assert but is not None
    assert but["study"] == "xgboost-first"
    assert newest_outcome(settings, "xgboost", date(2024, 6, 11)) is None
    assert newest_outcome(settings, "lightgbm", DAY) is None


def test_the_reason_is_in_words(settings, searched):
    assert why_not_used(settings, outcome()) == ""
    assert (
        why_not_used(settings, outcome(gain=0.0005)) == "it gains 0.0005 on the defaults, at least 0.001 is asked for"
    )
    assert "it read 30% of the customers" in why_not_used(settings, outcome(customers_share=0.3))
    assert why_not_used(searched(use_best=False), outcome()) == "settings.training.search.use_best is false"


def test_the_margin_is_a_gain_that_is_enough():
    assert good_enough(outcome(gain=0.001), 0.001)
    assert not good_enough(outcome(gain=0.00099), 0.001)


def test_a_damaged_outcome_is_named(settings):
    file = keep_outcome(settings, outcome())
    file.write_text("{")
    with pytest.raises(TrainingError, match=r"outcome .*2024-06-13-abc.json cannot be read"):
        newest_outcome(settings, "xgboost", DAY)
