from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.errors import TrainingError
from evergreen.models.candidate import candidate_class, check_candidates, frameworks_of, known_models
from evergreen.models.params import Number, Text, resolve
from evergreen.settings.training import TrainingSettings

RANGES = {"depth": Number(6, 1, 16, whole=True), "rate": Number(0.1, 0.0, 1.0), "feature": Text("x")}


def test_what_is_not_given_has_its_default():
    assert resolve("m", {"depth": 3}, RANGES) == {"depth": 3, "rate": 0.1, "feature": "x"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"depth": 17}, r"parameter depth of model m is 17, must be a whole number from 1 to 16"),
        ({"depth": 2.5}, r"parameter depth of model m is 2.5, must be a whole number"),
        ({"depth": True}, r"parameter depth of model m is True"),
        ({"rate": -0.1}, r"parameter rate of model m is -0.1, must be a number from 0 to 1"),
        ({"rate": math.nan}, r"parameter rate of model m is nan"),
        ({"rate": "fast"}, r"parameter rate of model m is 'fast'"),
        ({"feature": ""}, r"parameter feature of model m is '', must be a text"),
        ({"feature": 3}, r"parameter feature of model m is 3, must be a text"),
        ({"dept": 3}, r"parameter dept of model m is not known; the nearest known one is depth"),
    ],
)
def test_what_is_out_of_range_or_unknown_is_named(params, message):
    with pytest.raises(TrainingError, match=message):
        resolve("m", params, RANGES)


def test_a_model_without_parameters_says_so():
    with pytest.raises(TrainingError, match="it has none"):
        resolve("m", {"depth": 1}, {})


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_number_is_taken_exactly_where_its_range_says(value):
    inside = 0.0 <= value <= 1.0
    try:
        assert resolve("m", {"rate": value}, RANGES)["rate"] == value
        assert inside
    except TrainingError:
        assert not inside


@pytest.mark.parametrize("model", known_models())
def test_every_model_can_be_made_from_its_own_defaults(model):
    ranges = candidate_class(model).ranges
    assert set(resolve(model, {}, ranges)) == set(ranges)


def test_the_candidates_of_the_default_settings_are_valid():
    entries = TrainingSettings().candidates
    checked = check_candidates({name: (one.model, one.params) for name, one in entries.items()})
    assert {"frequency", "recency", "popularity", "logistic", "xgboost"} <= set(checked)
    assert {one.model for one in entries.values()} <= set(known_models())


@pytest.mark.parametrize("members", ["ensemble", "xgboost,oracle", "xgboost,xgboost", ",", 3])
def test_members_of_an_ensemble_are_other_models(members):
    with pytest.raises(TrainingError, match=r"parameter members of model ensemble is .*, must be") as raised:
        resolve("ensemble", {"members": members}, candidate_class("ensemble").ranges)
    assert "one of: ensemble" not in str(raised.value)


def test_an_ensemble_needs_what_its_members_need():
    assert frameworks_of("ensemble", {"members": "xgboost, heuristic"}) == ["xgboost"]
    assert frameworks_of("ensemble", {}) == ["onnx", "onnxruntime", "scikit-learn", "xgboost"]
    assert frameworks_of("xgboost", {"rounds": 3}) == ["xgboost"]


@pytest.mark.parametrize("model", ["oracle", "", "../evil", "os"])
def test_an_unknown_model_is_named_with_those_that_are_known(model):
    with pytest.raises(TrainingError, match=r"is unknown, must be one of: ensemble, heuristic, .*, xgboost$"):
        candidate_class(model)


def test_a_bad_parameter_names_its_settings_key():
    with pytest.raises(TrainingError, match=r"settings.training.candidates.deep: parameter max_depth .* is 99"):
        check_candidates({"deep": ("xgboost", {"max_depth": 99})})
