from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from evergreen.models.bundle import Bundle, make_manifest
from evergreen.models.calibration import BetaCalibration
from evergreen.models.candidate import Sample, candidate_class
from evergreen.models.params import resolve
from evergreen.models.preprocessing import Preprocessor
from evergreen.settings.explanations import ExplanationSettings

FEATURES = [
    ("pair_purchases", "number"),
    ("pair_recency_days", "number"),
    ("pair_gap_mean_days", "number"),
    ("country", "category"),
]
SMALL = {
    "xgboost": {"rounds": 20, "max_depth": 3, "min_child_weight": 1, "learning_rate": 0.3, "negative_share": 1},
    "hist_boosting": {"rounds": 20, "min_samples_leaf": 10, "negative_share": 1},
}


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    """Pairs whose purchase depends on how often and how lately they were bought."""
    rng = np.random.default_rng(5)
    rows = 2_000
    made = pd.DataFrame(
        {
            "customer_id": [f"c{number}" for number in rng.integers(0, 300, rows)],
            "product_id": [f"p{number}" for number in rng.integers(0, 80, rows)],
            "pair_purchases": rng.integers(1, 20, rows).astype(np.float32),
            "pair_recency_days": rng.integers(0, 365, rows).astype(np.float32),
            "pair_gap_mean_days": rng.integers(5, 90, rows).astype(np.float32),
            "country": rng.choice(["UK", "FR"], rows),
        }
    )
    made.loc[rng.random(rows) < 0.1, "pair_gap_mean_days"] = np.nan
    margin = 0.3 * made["pair_purchases"] - 0.015 * made["pair_recency_days"] + (made["country"] == "FR") - 1.5
    return made.assign(label=(rng.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.int8))


@pytest.fixture(scope="session")
def train(frame: pd.DataFrame) -> Callable[[str], Bundle]:
    def trained(model: str) -> Bundle:
        kind = candidate_class(model)
        params = resolve(model, SMALL.get(model, {}), kind.ranges)
        kinds = dict(FEATURES)
        features = [(name, kinds[name]) for name in kind.features(params, list(kinds))]
        fit, held = frame.iloc[:1_400], frame.iloc[1_400:]
        preprocessor = Preprocessor.fit(kind.plan, features, fit)

        def sample(part: pd.DataFrame) -> Sample:
            matrix = preprocessor.transform(part, len(part))
            return Sample(matrix, part["label"].to_numpy(np.int8), preprocessor.names)

        candidate = kind()
        candidate.fit(sample(fit), sample(held), params, seed=3, threads=1)
        manifest = make_manifest(
            model_name="buy-it-again", candidate=model, model=model, params=params, seed=3, features=features,
            service="buy_again", spec_digest="0" * 64, training_set={"digest": "1" * 64}, report={},
        )  # fmt: skip
        scores = candidate.predict(sample(held).matrix)
        return Bundle(manifest, preprocessor, candidate, BetaCalibration.fit(scores, held["label"].to_numpy()))

    return trained


@pytest.fixture(scope="session")
def xgboost_bundle(train: Callable[[str], Bundle]) -> Bundle:
    return train("xgboost")


@pytest.fixture
def few() -> ExplanationSettings:
    return ExplanationSettings(rows=300, sampled_rows=40, background_rows=40, probe_rows=1_000, dependence_features=3)
