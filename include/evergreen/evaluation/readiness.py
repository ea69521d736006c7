"""Is the model good enough to be considered at all? A table of floors, each with a word of advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from evergreen.evaluation.metrics import METRICS
from evergreen.settings.evaluation import FloorSettings

Figures = Mapping[str, float | None]  # value, low, high; null where not defined
COMPARED = ("roc_auc", "average_precision")


class Status(StrEnum):
    """Outcome of one row."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Row:
    """One floor: what was seen, what was asked for, and what to do about it."""

    name: str
    status: Status
    observed: str
    limit: str
    recommendation: str

    def as_dict(self) -> dict[str, str]:
        """JSON."""
        return {key: str(value) for key, value in asdict(self).items()}


def readiness(
    counts: Mapping[str, int],
    metrics: Mapping[str, Figures],
    heuristics: Mapping[str, Mapping[str, Figures]],
    floors: FloorSettings,
) -> list[Row]:
    """The table of floors. A figure that is missing fails; an interval that holds its floor is inconclusive.

    Args:
        counts: `pairs`, `positives`, `customers`.
        metrics: the model's metrics, `{name: {value, low, high}}`.
        heuristics: the same for each heuristic on the same pairs.
        floors: from the settings.
    """
    base_rate = counts["positives"] / counts["pairs"]
    return [
        *(_enough(name, counts[name], getattr(floors, name)) for name in ("pairs", "positives", "customers")),
        _at_least(
            "roc_auc", metrics, floors.roc_auc, "add features that tell the pairs apart, or look for broken ones"
        ),
        _at_least(
            "average_precision_lift",
            metrics,
            floors.average_precision_lift,
            "the top of the ranking is hardly better than chance: look at recency and rhythm features first",
        ),
        _calibrated(metrics, base_rate, floors),
        *(_beats_heuristics(name, metrics, heuristics) for name in COMPARED),
    ]


def overall(rows: list[Row]) -> Status:
    """Failed if any row failed, else inconclusive if any is, else passed."""
    statuses = {row.status for row in rows}
    return next((one for one in (Status.FAILED, Status.INCONCLUSIVE) if one in statuses), Status.PASSED)


def _enough(name: str, seen: int, least: int) -> Row:
    status = Status.PASSED if seen >= least else Status.FAILED
    advice = (
        "" if seen >= least else f"wait for {least - seen:,} more, or widen the holdout: intervals would say nothing"
    )
    return Row(f"Labelled {name}", status, f"{seen:,}", f"at least {least:,}", advice)


def _at_least(name: str, metrics: Mapping[str, Figures], floor: float, advice: str) -> Row:
    figures = metrics.get(name, {})
    low, high = figures.get("low"), figures.get("high")
    if low is None or high is None:
        status = Status.FAILED
    else:
        status = Status.PASSED if low >= floor else Status.FAILED if high < floor else Status.INCONCLUSIVE
    return Row(METRICS[name].title, status, _shown(figures), f"at least {floor:g}", _advice(status, figures, advice))


def _calibrated(metrics: Mapping[str, Figures], base_rate: float, floors: FloorSettings) -> Row:
    limit = floors.calibration_error_share * base_rate
    figures = metrics.get("ece", {})
    low, high = figures.get("low"), figures.get("high")
    if low is None or high is None:
        status = Status.FAILED
    else:
        status = Status.PASSED if high <= limit else Status.FAILED if low > limit else Status.INCONCLUSIVE
    shown = f"at most {limit:.4f} ({floors.calibration_error_share:g} x base rate)"
    advice = "calibrate again on newer customers: probabilities miss the share bought by too much to price a contact"
    return Row("Calibration error (ECE)", status, _shown(figures), shown, _advice(status, figures, advice))


def _beats_heuristics(
    name: str, metrics: Mapping[str, Figures], heuristics: Mapping[str, Mapping[str, Figures]]
) -> Row:
    title = f"{METRICS[name].title} above the best heuristic"
    figures = metrics.get(name, {})
    rivals = {rival: table[name] for rival, table in heuristics.items() if _whole(table.get(name))}
    if not rivals or not _whole(figures):
        return Row(
            title, Status.FAILED, _shown(figures), "no figures", "score the heuristics on the same holdout pairs"
        )
    best = max(rivals, key=lambda rival: rivals[rival]["value"] or 0.0)
    limit = f"interval above {best} {_shown(rivals[best])}"
    ours, theirs = {key: value or 0.0 for key, value in figures.items()}, rivals[best]
    if ours["low"] > (theirs["high"] or 0.0):
        return Row(title, Status.PASSED, _shown(figures), limit, "")
    if ours["value"] <= (theirs["value"] or 0.0):
        advice = f"ship {best} instead: it is no worse and has nothing to go wrong"
        return Row(title, Status.FAILED, _shown(figures), limit, advice)
    advice = "the intervals overlap: add training weeks or features, or wait for a larger holdout"
    return Row(title, Status.INCONCLUSIVE, _shown(figures), limit, advice)


def _whole(figures: Figures | None) -> bool:
    return figures is not None and all(figures.get(key) is not None for key in ("value", "low", "high"))


def _advice(status: Status, figures: Figures, advice: str) -> str:
    if status is Status.PASSED:
        return ""
    if not _whole(figures):
        return "not defined on these pairs: a class is missing or too rare"
    return (
        advice
        if status is Status.FAILED
        else f"the interval holds the limit, more pairs would tell; if it persists, {advice}"
    )


def _shown(figures: Figures) -> str:
    if not _whole(figures):
        return "not defined"
    value, low, high = (figures[key] or 0.0 for key in ("value", "low", "high"))
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def as_json(rows: list[Row]) -> dict[str, Any]:
    """`status` of the whole table and its `rows`."""
    return {"status": str(overall(rows)), "rows": [row.as_dict() for row in rows]}
