"""The probe: a twin of the model learns a column of random numbers among its features, and should not believe it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evergreen.evaluation.explanations.attribution import attribute, drawn
from evergreen.models.bundle import Bundle
from evergreen.models.calibration import BetaCalibration
from evergreen.models.candidate import Sample, candidate_class, twin_params
from evergreen.models.preprocessing import FeatureKind, Preprocessor
from evergreen.settings.explanations import ExplanationSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBE = "random_probe"
HELD_OUT = 5  # one customer of so many stops the twin's training, and is explained


def random_probe(bundle: Bundle, frame: pd.DataFrame, settings: ExplanationSettings) -> dict[str, Any]:
    """Where a random column ranks among the features of a twin of the model.

    The twin is of the same kind with the same parameters, and learns from a sample: customers of their own stop its
    training and are explained. A column of noise that ranks high tells that the model learns noise, or that the
    explanations do not tell what it learned (the random probe of Stoppiglia et al. 2003, "Ranking a random feature for
    variable and feature selection").

    Args:
        bundle: the model whose twin is trained.
        frame: training rows: `customer_id`, `label` and the features.
        settings: rows, seed.

    Returns:
        `rank` (1 is the most important) `of` so many features, the probe among them, and its `share` of the sum of mean
        absolute contributions.
    """
    sample = frame.iloc[drawn(len(frame), settings.probe_rows, settings.seed)]
    noise = np.random.default_rng(settings.seed).normal(size=len(sample))
    sample = sample.assign(**{PROBE: noise.astype(np.float32)})
    model = str(bundle.manifest["model"])
    kind, params = candidate_class(model), twin_params(model, bundle.manifest["params"])
    kinds: dict[str, FeatureKind] = dict(bundle.preprocessor.features) | {PROBE: "number"}
    features = [(name, kinds[name]) for name in kind.features(params, list(kinds))]
    if PROBE not in {name for name, _ in features}:  # a heuristic reads the feature that it is named for
        return {"rank": len(features) + 1, "of": len(features) + 1, "share": 0.0}
    held = pd.factorize(sample["customer_id"], sort=True)[0] % HELD_OUT == 0
    train, rest = sample[~held], sample[held]
    preprocessor = Preprocessor.fit(kind.plan, features, train)
    twin = kind()
    twin.fit(
        _sample(train, preprocessor), _sample(rest, preprocessor), params, seed=int(bundle.manifest["seed"]), threads=1
    )
    made = Bundle(bundle.manifest, preprocessor, twin, BetaCalibration(1.0, 1.0, 0.0))
    return probe_rank(made.features, attribute(made, rest, settings).mean_abs)


def probe_rank(features: Sequence[str], mean_abs: Any) -> dict[str, Any]:
    """Rank, number and share of the probe; equal ones share the better rank, so that a tie never hides it."""
    own = float(mean_abs[list(features).index(PROBE)])
    total = float(np.sum(mean_abs))
    rank = 1 + int(np.sum(np.asarray(mean_abs) > own))
    return {"rank": rank, "of": len(features), "share": round(own / total, 6) if total > 0 else 0.0}


def _sample(frame: pd.DataFrame, preprocessor: Preprocessor) -> Sample:
    matrix = preprocessor.transform(frame, len(frame))
    return Sample(matrix, frame["label"].to_numpy(np.int8), preprocessor.names)
