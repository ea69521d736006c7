"""What a search found, as a JSON document, and which parameters a training takes from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from evergreen.errors import TrainingError
from evergreen.files import write_whole
from evergreen.models.candidate import candidate_class
from evergreen.models.params import Value, resolve
from evergreen.settings import Settings

FORMAT = "evergreen-search/1"


def search_folder(settings: Settings, model: str) -> Path:
    """Where a model's searches keep everything."""
    return settings.home_path / "searches" / model


def search_folders(settings: Settings) -> list[Path]:
    """Folders of all models that were searched."""
    return sorted(path for path in (settings.home_path / "searches").glob("*") if path.is_dir())


def outcome_files(folder: Path) -> list[Path]:
    """Documents of the searches in a model's folder."""
    return sorted((folder / "outcomes").glob("*.json"))


def keep_outcome(settings: Settings, document: Mapping[str, Any]) -> Path:
    """Writes the document of a search; going on with that search replaces it."""
    name = f"{document['day']}-{str(document['study']).rpartition('-')[2]}.json"
    file = search_folder(settings, str(document["model"])) / "outcomes" / name
    write_whole(file, json.dumps(dict(document), sort_keys=True, indent=1))
    return file


def newest_outcome(settings: Settings, model: str, day: date, *, but: str = "") -> dict[str, Any] | None:
    """The search that ended last among those on data up to `day` at most; None where there is none.

    A search on later data is passed over: it has seen labels that a training on `day` is judged by.

    Args:
        settings: home.
        model: name of the model.
        day: newest day of data of the training.
        but: name of a study that does not count.

    Raises:
        TrainingError: an outcome cannot be read.
    """
    found = [one for one in _outcomes(settings, model) if one["day"] <= str(day) and one["study"] != but]
    return max(found, key=lambda one: (one["day"], one["finished_at"]), default=None)


def params_of(settings: Settings, model: str, given: Mapping[str, Value], day: date) -> dict[str, Value]:
    """Parameters that a candidate is trained with: its own, else the best of the newest search that is good enough.

    Args:
        settings: `training.search.use_best` and `margin`.
        model: name of the model.
        given: parameters of the candidate's entry in the settings; where there is one, no search is asked.
        day: newest day of data of the training.
    """
    if given or not settings.training.search.use_best:
        return dict(given)
    found = newest_outcome(settings, model, day)
    return {} if found is None or why_not_used(settings, found) else dict(found["best"]["params"])


def why_not_used(settings: Settings, document: Mapping[str, Any]) -> str:
    """Why a training does not take the best of a search; empty where it does."""
    search, metric = settings.training.search, settings.training.primary_metric
    model, best = str(document["model"]), document["best"]
    if not search.use_best:
        return "settings.training.search.use_best is false"
    if document["metric"] != metric:
        return f"it judged by {document['metric']}, candidates are chosen by {metric.value}"
    if document["customers_share"] < search.customers_share:
        return (
            f"it read {document['customers_share']:.0%} of the customers, settings.training.search.customers_share "
            f"asks for {search.customers_share:.0%}: what is best for few rows need not be for many"
        )
    if not good_enough(document, search.margin):
        return f"it gains {document['gain']:.4f} on the defaults, at least {search.margin:g} is asked for"
    try:
        resolve(model, best["params"], candidate_class(model).ranges)
    except TrainingError as error:  # the model's ranges are others by now
        return str(error)
    return ""


def good_enough(document: Mapping[str, Any], margin: float) -> bool:
    """Does the best beat the model's defaults by the margin, on average over the folds?"""
    return document["best"]["number"] != document["default"]["number"] and float(document["gain"]) >= margin


def _outcomes(settings: Settings, model: str) -> Iterator[dict[str, Any]]:
    for file in outcome_files(search_folder(settings, model)):
        try:
            document = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise TrainingError(f"outcome {file} cannot be read, must be JSON: {error}; remove it") from None
        if document.get("format") == FORMAT:
            yield document
