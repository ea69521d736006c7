"""Who is judged: the challenger of the registry, its holdout, and the scores of everybody on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from evergreen.errors import BundleError, PromotionRefusedError
from evergreen.evaluation.report import model_scores
from evergreen.evaluation.scores import Scores
from evergreen.models.bundle import Bundle, load_bundle
from evergreen.promotion.champion import Champion, bundle_folder
from evergreen.promotion.registry_mirror import registry_client
from evergreen.settings import Settings
from evergreen.training.dataset import HOLDOUT, TRAIN, StoredColumns, TrainingSet
from evergreen.training.register import BUNDLE_TAG, CHALLENGER

if TYPE_CHECKING:
    import pandas as pd

SAMPLED_ROWS = 200_000  # of the training data, for drift: shares of bins are exact to a thousandth


@dataclass(frozen=True)
class Subject:
    """A challenger as its task described it, with the training set and the bundle that this names."""

    version: str
    data_day: date
    training_set: TrainingSet
    bundle: Bundle
    heuristics: Mapping[str, str]  # name -> bundle digest

    @property
    def digest(self) -> str:
        """Digest of its bundle."""
        return self.bundle.digest


def challenger_of(settings: Settings, day: date) -> dict[str, Any]:
    """The registry's present challenger, as `register_challenger` described it.

    Raises:
        PromotionRefusedError: there is none, or it was trained on another day's data.
    """
    from mlflow.exceptions import MlflowException

    name = settings.mlflow.model_name
    try:
        found = registry_client(settings).get_model_version_by_alias(name, CHALLENGER)
    except MlflowException as error:
        raise PromotionRefusedError(f"the registry has no challenger of {name}: train one first ({error})") from None
    if found.tags.get("data_day") != str(day):
        raise PromotionRefusedError(
            f"the challenger, version {found.version}, was trained on data up to {found.tags.get('data_day')}, "
            f"{day} was asked for: train on that day first"
        )
    return {
        "version": str(found.version),
        "bundle_digest": found.tags[BUNDLE_TAG],
        "training_set_digest": found.tags["training_set_digest"],
        "data_day": found.tags["data_day"],
        "candidate": found.tags.get("candidate", ""),
        "heuristics": json.loads(found.tags.get("heuristics", "{}")),
    }


def open_subject(settings: Settings, challenger: Mapping[str, Any]) -> Subject:
    """Loads and verifies what a challenger names.

    Raises:
        BundleError: the bundle is incomplete or altered.
        TrainingError: the training set is incomplete or altered.
        PromotionRefusedError: bundle, training set and day do not belong together.
    """
    digest = str(challenger["training_set_digest"])
    bundle = stored_bundle(settings, str(challenger["bundle_digest"]))
    training_set = stored_training_set(settings, digest)
    trained_on = bundle.manifest["training_set"]["digest"]
    if trained_on != digest:
        raise PromotionRefusedError(
            f"bundle {bundle.digest[:12]} was trained on set {trained_on[:12]}, the challenger names {digest[:12]}"
        )
    day = date.fromisoformat(str(challenger["data_day"]))
    last = training_set.holdout + timedelta(days=settings.training.horizon_days - 1)
    if day != last:
        raise PromotionRefusedError(
            f"the challenger's data end on {day}, but its holdout as of {training_set.holdout} is labelled up to {last}"
        )
    return Subject(str(challenger["version"]), day, training_set, bundle, dict(challenger.get("heuristics", {})))


def stored_bundle(settings: Settings, digest: str) -> Bundle:
    """A bundle by its digest, verified.

    Raises:
        BundleError: it is missing, incomplete or altered.
    """
    return load_bundle(bundle_folder(settings, digest), digest)


def stored_training_set(settings: Settings, digest: str) -> TrainingSet:
    """A training set by its digest, verified.

    Raises:
        TrainingError: it is missing, incomplete or altered.
    """
    return TrainingSet.open(settings.home_path / "training_sets" / digest, digest)


def holdout_frame(training_set: TrainingSet) -> pd.DataFrame:
    """All pairs of the holdout: keys, label and features."""
    import pandas as pd

    return pd.read_parquet(training_set.file(HOLDOUT))


def training_frame(training_set: TrainingSet, names: tuple[str, ...]) -> pd.DataFrame:
    """At most `SAMPLED_ROWS` training rows, evenly spaced over the training `as_of`s: the same ones every time."""
    import pandas as pd

    stored = StoredColumns(training_set.file(TRAIN))
    rows = np.unique(np.linspace(0, stored.rows - 1, min(stored.rows, SAMPLED_ROWS)).round().astype(np.intp))
    return pd.DataFrame({name: stored[name][rows] for name in names})


def score_holdout(bundle: Bundle, frame: pd.DataFrame) -> Scores:
    """A bundle's probabilities for the holdout's pairs."""
    return model_scores(bundle.predict, frame)


def score_champion(settings: Settings, champion: Champion, frame: pd.DataFrame) -> tuple[Scores | None, str]:
    """The champion's scores on the challenger's holdout, or why there are none: a feature that it needs is gone."""
    try:
        return score_holdout(stored_bundle(settings, champion.bundle_digest), frame), ""
    except BundleError as error:
        return None, str(error)
