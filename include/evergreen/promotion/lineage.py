"""From a training set back to the runs that published its data, and to the quality reports of those runs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from deltalake import DeltaTable

from evergreen.errors import PromotionRefusedError
from evergreen.lake import Lake
from evergreen.quality.reports import read_report
from evergreen.settings import Settings
from evergreen.training.dataset import TrainingSet


@dataclass(frozen=True)
class Origin:
    """The commit that gave a table's version its rows."""

    run_id: str
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Lineage:
    """What a training set was made from."""

    versions: Mapping[str, int]  # of every table, transactions included
    newest_day: date  # newest ingested day in that version of the transactions
    quality: Mapping[str, Mapping[str, Any]]  # suite -> what its reports say; suites without a report are left out


def origin(lake: Lake, table: str, version: int) -> Origin:
    """The newest commit up to a version that published rows (maintenance commits are passed over).

    Raises:
        PromotionRefusedError: the log does not reach back to it.
    """
    return origins(lake, table, [version])[version]


def origins(lake: Lake, table: str, versions: Collection[int]) -> dict[int, Origin]:
    """`origin` of several versions, for one look at the log.

    Raises:
        PromotionRefusedError: the log does not reach back to one of them.
    """
    published = [commit for commit in DeltaTable(lake.table(table).root).history() if "attempt" in commit]
    found = {}
    for version in versions:
        before = [commit for commit in published if commit["version"] <= version]
        if not before:
            raise PromotionRefusedError(f"the log of table {table} does not tell who published its version {version}")
        newest = max(before, key=lambda commit: commit["version"])
        found[version] = Origin(newest.get("run_id", ""), json.loads(newest.get("inputs", "{}")))
    return found


def lineage(settings: Settings, training_set: TrainingSet) -> Lineage:
    """Follows a training set's table versions to the transactions, and all of them to their quality reports.

    Raises:
        PromotionRefusedError: a table's log does not tell what its version was made from.
    """
    lake = Lake(settings.lake_path)
    features = {name: origin(lake, name, version) for name, version in sorted(training_set.versions.items())}
    made_from = {int(found.inputs["transactions"]) for found in features.values() if "transactions" in found.inputs}
    if not made_from:
        raise PromotionRefusedError(
            f"no feature table of training set {training_set.digest[:12]} tells from which transactions it was made"
        )
    transactions = max(made_from)
    runs = {
        "transactions": {origin(lake, "transactions", transactions).run_id},
        "features": {found.run_id for found in features.values()},
        "training_set": {str(training_set.manifest.get("run_id", ""))},
    }
    reports = {
        suite: [read_report(settings, suite, run_id) for run_id in sorted(run_ids)] for suite, run_ids in runs.items()
    }
    return Lineage(
        {**training_set.versions, "transactions": transactions},
        lake.table("transactions", transactions).days()[-1],
        {
            suite: _summary([report for report in found if report is not None])
            for suite, found in reports.items()
            if found and all(report is not None for report in found)
        },
    )


def _summary(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """What evidence keeps of the reports of one suite: no clock, no path, no run."""
    return {
        "success": all(report["success"] is True for report in reports),
        "checks": sum(report["checks"] for report in reports),
        "failed": sorted({key for report in reports for key in report["failed"]}),
        "warned": sorted({key for report in reports for key in report["warned"]}),
        "completeness": min(report["completeness"] for report in reports),
        "consistency": min(report["consistency"] for report in reports),
    }
