"""What a challenger is put through before the gates look: edited rows, broken features, its data, a cold start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen.errors import EvaluationError
from evergreen.evaluation.behaviour import behaviour
from evergreen.evaluation.fairness import fairness
from evergreen.evaluation.infra import validate
from evergreen.evaluation.poisoning import poisoning
from evergreen.evaluation.robustness import robustness
from evergreen.evaluation.scores import Scores
from evergreen.models.bundle import Bundle
from evergreen.promotion.champion import bundle_folder
from evergreen.promotion.subjects import Subject
from evergreen.settings import Settings
from evergreen.settings.checks import BehaviourSettings

if TYPE_CHECKING:
    import pandas as pd


def probe(settings: Settings, subject: Subject, frame: pd.DataFrame, scores: Scores) -> dict[str, dict[str, Any]]:
    """Figures for the gates of the same names: `behaviour`, `robustness`, `fairness`, `poisoning`, `infra`.

    All but the times and the memory of `infra` are the same for the same inputs and settings.

    Args:
        settings: sizes, seeds and limits.
        subject: the challenger with its training set.
        frame: the holdout.
        scores: the challenger's on the holdout.
    """
    wanted = settings.evaluation
    bundle = subject.bundle
    golden = frame.iloc[: wanted.infra.golden_rows]
    return {
        "behaviour": _behaviour(bundle, frame, wanted.behaviour),
        "robustness": robustness(bundle.predict, frame, bundle.preprocessor.features, wanted.robustness),
        "fairness": fairness(scores, wanted),
        "poisoning": poisoning(subject.training_set, wanted.poisoning),
        "infra": validate(
            bundle_folder(settings, bundle.digest), bundle.digest, golden, bundle.predict(golden), wanted.infra
        ),
    }


def signature(subject: Subject) -> tuple[tuple[str, str], ...]:
    """(name, dtype) of each feature that the bundle reads, as its manifest states them."""
    return tuple((str(one["name"]), str(one["dtype"])) for one in subject.bundle.manifest["features"])


def _behaviour(bundle: Bundle, frame: pd.DataFrame, settings: BehaviourSettings) -> dict[str, Any]:
    """The behaviour tests, or why there are none: the gate then misses its evidence."""
    try:
        return behaviour(bundle.predict, frame, settings)
    except EvaluationError as error:
        return {"problem": str(error)}
