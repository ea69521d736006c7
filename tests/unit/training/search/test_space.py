from __future__ import annotations

import pytest
from pydantic import ValidationError

from evergreen.errors import TrainingError
from evergreen.models.candidate import known_models
from evergreen.settings.search import DEFAULT_SPACES, RangeSettings, SearchSettings
from evergreen.training.search.space import SearchSpace


def space(given: dict, model: str = "xgboost", **others) -> SearchSpace:
    return SearchSpace(model, SearchSettings(spaces={model: given}, **others))


@pytest.mark.parametrize("model", sorted(DEFAULT_SPACES))
def test_the_spaces_of_the_house_are_within_their_models(model):
    assert model in known_models()
    found = SearchSpace(model, SearchSettings())
    assert found.start() == found.holding(found.start())
    assert set(found.distributions()) == set(DEFAULT_SPACES[model])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"max_dept": {"low": 3, "high": 9}},
            "spaces.xgboost.max_dept is not known; the nearest known one is max_depth",
        ),
        ({"max_depth": {"low": 0, "high": 9}}, "max_depth: low is 0.0, must be a whole number from 1 to 16"),
        ({"max_depth": {"low": 2, "high": 17}}, "max_depth: high is 17.0, must be a whole number from 1 to 16"),
        ({"max_depth": {"low": 2.5, "high": 9}}, "max_depth: low is 2.5, must be a whole number"),
        ({"max_depth": {"low": 2, "high": 9, "step": 0.5}}, "max_depth: step is 0.5, must be whole as max_depth is"),
        ({"subsample": {"choices": [0.7, 1.5]}}, "subsample: a choice is 1.5, must be a number from 0.05 to 1"),
        ({"subsample": {"choices": ["half"]}}, "subsample: a choice is 'half', must be a number"),
        ({"max_depth": {"low": 2, "high": 6}}, "max_depth is without the model's default 7, which is the first trial"),
        ({"max_depth": {"choices": [3, 5]}}, "max_depth is without the model's default 7"),
        ({"max_depth": {"low": 2, "high": 9, "step": 2}}, "max_depth is without the model's default 7"),
        ({"bags": {"low": 1, "high": 5}}, "bags is also in settings.training.search.fixed.xgboost"),
    ],
)
def test_a_bad_range_is_refused_by_name(given, message):
    with pytest.raises(TrainingError) as refused:
        space(given)
    assert str(refused.value).startswith("settings.training.search.spaces.xgboost.")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 3}, "must have low and high, or choices"),
        ({"low": 9, "high": 3}, r"low is 9, must be less than high \(3\)"),
        ({"low": 0, "high": 3, "log": True}, "log needs a low above 0"),
        ({"low": 1, "high": 3, "choices": [1]}, "choices stand alone"),
        ({"choices": [1, 1]}, "choices must differ"),
        ({"low": 1, "high": 3, "step": 0}, "greater than 0"),
        ({"lowest": 1}, "Extra inputs"),
    ],
)
def test_a_range_that_is_none_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        RangeSettings.model_validate(given)


def test_a_text_needs_choices():
    with pytest.raises(TrainingError, match="feature has low and high, must have choices: feature is a text"):
        space({"feature": {"low": 1, "high": 2}}, "heuristic")


def test_what_is_fixed_must_be_allowed_too():
    with pytest.raises(TrainingError, match=r"^settings.training.search.fixed.xgboost: parameter bags .* is 0, must"):
        SearchSpace("xgboost", SearchSettings(fixed={"xgboost": {"bags": 0}}))


def test_a_model_without_a_space_is_refused_by_name():
    with pytest.raises(TrainingError, match=r"spaces.logistic is not set, must name at least one of: "):
        SearchSpace("logistic", SearchSettings())


def test_an_unknown_model_is_refused_by_name():
    with pytest.raises(TrainingError, match="model 'oracle' is unknown, must be one of"):
        SearchSpace("oracle", SearchSettings())


def test_a_grid_needs_finite_lists():
    with pytest.raises(TrainingError, match="learning_rate has no finite list of values, which a grid needs"):
        space({"learning_rate": {"low": 0.01, "high": 0.1}}, strategy="grid")
    with pytest.raises(TrainingError, match="a grid of 1,000,001 combinations, must be at most 100,000"):
        space({"min_child_weight": {"low": 0, "high": 10_000, "step": 0.01}}, strategy="grid")


def test_a_grid_holds_every_combination_once():
    found = space(
        {
            "max_depth": {"low": 5, "high": 8},
            "gamma": {"low": 0, "high": 0.3, "step": 0.1},
            "subsample": {"choices": [0.7, 1]},
        },
        strategy="grid",
    )
    points = list(found.grid(seed=3))
    wanted = {(depth, gamma, share) for depth in (5, 6, 7, 8) for gamma in (0.0, 0.1, 0.2, 0.3) for share in (0.7, 1.0)}
    assert len(points) == found.grid_size() == len(wanted)
    assert {(one["max_depth"], one["gamma"], one["subsample"]) for one in points} == wanted
    assert found.start() in points
    assert [one == other for one, other in zip(points, found.grid(seed=4), strict=True)].count(False) > 0


def test_folds_that_would_share_customers_are_refused():
    with pytest.raises(ValidationError, match=r"folds x validation_share is 1\.2, must be at most 1"):
        SearchSettings(folds=6, validation_share=0.2)
