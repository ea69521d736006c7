"""Drift of the data that a challenger is judged on: Evidently's page for people, a verdict for the gate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen.errors import BundleError, TrainingError
from evergreen.evaluation.drift import PREDICTION, drift_report, drift_verdict
from evergreen.models.bundle import Bundle
from evergreen.promotion.champion import current
from evergreen.promotion.subjects import (
    holdout_frame,
    open_subject,
    stored_bundle,
    stored_training_set,
    training_frame,
)
from evergreen.settings import Settings
from evergreen.training.dataset import TrainingSet

if TYPE_CHECKING:
    import pandas as pd


REPORTS = {  # name -> file in the folder of a judgement
    "evaluation": "evaluation.html",
    "drift": "drift.html",
    "card": "model_card.html",
    "explanations": "explanations.json",
}
CARD_TEXT = "model_card.md"  # the card as its digest was taken


def drift_of(settings: Settings, challenger: Mapping[str, Any]) -> dict[str, Any]:
    """Compares the holdout with what the champion was trained on (for people) and the challenger (for the gate).

    Args:
        settings: thresholds, home.
        challenger: what `register_challenger` returned.

    Returns:
        `drift_report` against the champion's training data (at a cold start, or where those are gone, against the
        challenger's own), and under `own` the `drift_verdict` against the challenger's own.

    Raises:
        BundleError, TrainingError, PromotionRefusedError: as `open_subject`.
    """
    subject = open_subject(settings, challenger)
    champion = current(settings)
    page = reports_folder(settings, subject.digest, champion.generation if champion else 0) / REPORTS["drift"]
    frame = holdout_frame(subject.training_set)
    evaluation = settings.evaluation
    own = _pair(subject.bundle, subject.training_set, frame)
    name, reference, now = "the challenger's training data (there is no champion to compare with)", *own
    if champion is not None:
        try:
            bundle = stored_bundle(settings, champion.bundle_digest)
            training_set = stored_training_set(settings, str(bundle.manifest["training_set"]["digest"]))
            name, reference, now = "the champion's training data", *_pair(bundle, training_set, frame)
        except (BundleError, TrainingError) as error:
            name = f"the challenger's training data (the champion's cannot be read: {error})"
    report = drift_report(reference, now, evaluation, page, reference_name=name)
    return report | {"own": drift_verdict(*own, evaluation)}


def reports_folder(settings: Settings, bundle_digest: str, generation: int) -> Path:
    """Folder of the reports about a bundle judged against a generation of the champion."""
    return settings.home_path / "reports" / "judgements" / f"{bundle_digest[:16]}-against-{generation}"


def _pair(bundle: Bundle, training_set: TrainingSet, holdout: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A model's training data and the holdout, both with its predictions and only what it reads.

    Raises:
        BundleError: the holdout lacks a feature that the model needs.
    """
    trained = training_frame(training_set, bundle.features)
    now = holdout.reindex(columns=[name for name in bundle.features if name in holdout.columns])
    return trained.assign(**{PREDICTION: bundle.predict(trained)}), now.assign(**{PREDICTION: bundle.predict(now)})
