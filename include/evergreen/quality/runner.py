"""Runs a suite on staged rows: figures, expectations, the set run against the set declared, Data Docs, a profile."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evergreen.errors import DataQualityError
from evergreen.files import write_whole
from evergreen.lake import Lake
from evergreen.quality import expectations, given, profile
from evergreen.quality.checks import Check, Scope, Severity, Suite
from evergreen.quality.expectations import Batch, Outcome
from evergreen.quality.page import quality_page
from evergreen.quality.reports import REPORT, report_folder
from evergreen.quality.rows import Rows, Source, contents
from evergreen.quality.suites import suite as declared
from evergreen.settings import Settings

logger = logging.getLogger(__name__)

MOST_SHOWN = 20
"""Messages in a log or a summary: a missing table would fail a hundred checks."""


@dataclass(frozen=True)
class CheckResult:
    """One check and how it came out."""

    check: Check
    success: bool
    ran: bool
    observed: Any
    message: str  # one line: what was observed and what is allowed; empty where it holds

    @property
    def outcome(self) -> str:
        """`passed`, `warned` or `failed`."""
        return "passed" if self.success else "failed" if self.stops else "warned"

    @property
    def stops(self) -> bool:
        """Does it stop the run? An expectation that did not run stops it whatever its severity."""
        return not self.success and (self.check.severity is Severity.FAIL or not self.ran)


@dataclass(frozen=True)
class QualityReport:
    """How a suite came out on one set of rows."""

    suite: str
    results: tuple[CheckResult, ...]
    rows: Mapping[str, int]
    completeness: float
    consistency: float
    folder: Path
    seconds: float

    @property
    def docs_path(self) -> Path:
        """First page of the Data Docs."""
        return self.folder / "index.html"

    @property
    def page_path(self) -> Path:
        """The checks and the data profile on one page that needs no network."""
        return self.folder / "quality.html"

    @property
    def failed(self) -> list[CheckResult]:
        """What stops the run."""
        return [result for result in self.results if result.stops]

    @property
    def warned(self) -> list[CheckResult]:
        """What is reported and lets the run go on."""
        return [result for result in self.results if not result.success and not result.stops]

    @property
    def success(self) -> bool:
        """True where nothing stops the run."""
        return not self.failed

    def summary(self) -> dict[str, Any]:
        """A small JSON document: what a task hands on and what evidence keeps. All results are in `report.json`."""
        return {
            "suite": self.suite,
            "success": self.success,
            "checks": len(self.results),
            "failed": {result.check.key: result.message for result in self.failed[:MOST_SHOWN]},
            "warned": {result.check.key: result.message for result in self.warned[:MOST_SHOWN]},
            "rows": dict(self.rows),
            "completeness": round(self.completeness, 6),
            "consistency": round(self.consistency, 6),
            "docs": str(self.docs_path),
            "page": str(self.page_path),
            "seconds": round(self.seconds, 2),
        }

    def raise_if_failed(self) -> None:
        """Stops the run where an expectation marked `fail` does not hold.

        Raises:
            DataQualityError: names the first such expectation, the observed value and the limit, and counts the others.
        """
        if not self.failed:
            return
        first, others = self.failed[0], len(self.failed) - 1
        more = f"; {others} more of {len(self.results)} expectations failed" if others else ""
        raise DataQualityError(f"{first.message}{more}. Nothing was published. All checks: {self.page_path}")


def validate(
    suite: str, source: Source, settings: Settings, *, run_id: str = "", accept_volume: bool = False
) -> QualityReport:
    """Checks what a task staged, before it is published.

    Counts, keys and figures are exact over all rows of the days that change; expectations on values read at most
    `settings.quality.sample_rows` rows of a table. Data Docs, `report.json` and the profile are kept in
    `home/reports/quality/<suite>/<run>`.

    Args:
        suite: `transactions`, `features` or `training_set`.
        source: a staged set or staged table, the dict that its task returned, its manifest, or Parquet files.
        settings: severities, floors and limits.
        run_id: names the report's folder; the digest of what is checked where it is empty.
        accept_volume: a person says that the days' numbers of lines are right.

    Raises:
        DataQualityError: the suite is unknown, or nothing of it is in the source. Expectations that do not hold raise
            in `QualityReport.raise_if_failed`.
    """
    began = time.monotonic()
    wanted = declared(suite, settings)
    lake, quality = Lake(settings.lake_path), settings.quality
    found = contents(wanted, source, lake)
    name = run_id or found.digest[:16]
    folder = report_folder(settings, suite, name)
    rows = Rows(found)
    try:
        made = given.work_out(suite, rows, found, lake, settings, accept_volume=accept_volume)
        figures = {
            table: {**rows.figures(table, _of(wanted, table)), **made.figures.get(table, {})} for table in wanted.tables
        }
        samples = {
            table: rows.sample(table, by=wanted.keys[table], limit=quality.sample_rows, seed=quality.seed)
            for table in wanted.tables
            if rows.has(table)
        }
        outcomes = expectations.run(_batches(wanted, rows, figures, samples), folder, run_name=folder.name)
        profiles = {table: profile.profile_table(rows, table, read) for table, read in samples.items()}
    finally:
        rows.close()
    results = tuple(_result(check, outcomes.get(check.key), figures, made.words) for check in wanted.checks)
    counts = {table: found_profile["rows"] for table, found_profile in profiles.items()}
    report = QualityReport(
        suite,
        results,
        counts,
        profile.completeness(profiles),
        profile.consistency(_broken(wanted, figures, counts)),
        folder,
        time.monotonic() - began,
    )
    _write(report, profiles)
    for result in (*report.failed[:MOST_SHOWN], *report.warned[:MOST_SHOWN]):
        logger.log(logging.ERROR if result.stops else logging.WARNING, "%s", result.message)
    logger.info("suite %s: %d expectations, %d failed", suite, len(results), len(report.failed))
    return report


def _of(suite: Suite, table: str, scope: Scope = Scope.FIGURES) -> tuple[Check, ...]:
    return tuple(check for check in suite.checks if check.table == table and check.scope is scope)


def _batches(
    suite: Suite, rows: Rows, figures: Mapping[str, Mapping[str, Any]], samples: Mapping[str, str]
) -> list[Batch]:
    made = []
    for table in suite.tables:
        row = {name: [value] for name, value in figures[table].items()}
        made.append(Batch(f"{table}.figures", pd.DataFrame(row or {"none": [0]}), _of(suite, table)))
        columns = pd.DataFrame(columns=list(rows.columns(table)) if rows.has(table) else [])
        made.append(Batch(f"{table}.columns", columns, _of(suite, table, Scope.COLUMNS)))
        if on_values := _of(suite, table, Scope.VALUES):
            read = [str(check.arguments["column"]) for check in on_values]
            frame = rows.frame(samples[table], read) if table in samples else pd.DataFrame()
            made.append(Batch(f"{table}.values", frame, on_values))
    return made


def _result(
    check: Check, outcome: Outcome | None, figures: Mapping[str, Mapping[str, Any]], words: Mapping[str, str]
) -> CheckResult:
    """A check against its outcome; one that was declared and did not run, or raised, has failed."""
    what = f"{check.table}: {check.name} ({check.why})"
    if outcome is None or not outcome.ran:
        why = " ".join((outcome.detail if outcome else "it is not among the results").split())[:200]
        message = f"{what} could not be checked, allowed is {check.limit}: {why}"
        return CheckResult(check, False, False, None, message)
    observed = figures[check.table].get(check.name) if check.scope is Scope.FIGURES else outcome.observed
    if outcome.success:
        return CheckResult(check, True, True, observed, "")
    message = words.get(check.key) or f"{what} is {_shown(observed)}, allowed is {check.limit}"
    return CheckResult(check, False, True, observed, message)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _broken(
    suite: Suite, figures: Mapping[str, Mapping[str, Any]], rows: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    return {
        check.key: (int(figures[check.table][check.name]), rows[check.table])
        for check in suite.checks
        if check.rule and check.name in figures[check.table] and check.table in rows
    }


def _write(report: QualityReport, profiles: Mapping[str, Mapping[str, Any]]) -> None:
    document = {
        "suite": report.suite,
        "completeness": report.completeness,
        "consistency": report.consistency,
        "tables": profiles,
    }
    report.folder.mkdir(parents=True, exist_ok=True)
    write_whole(report.folder / "profile.json", json.dumps(document, indent=1, default=str, allow_nan=False))
    write_whole(report.page_path, quality_page(report, profiles))
    results = [
        {
            "check": result.check.key,
            "expectation": result.check.expectation,
            "severity": result.check.severity,
            "success": result.success,
            "observed": result.observed,
            "limit": result.check.limit,
            "message": result.message,
        }
        for result in report.results
    ]
    text = json.dumps({**report.summary(), "results": results}, indent=1, default=str)
    write_whole(report.folder / REPORT, text)
