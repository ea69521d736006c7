"""What was checked and what the columns hold, as one HTML file that needs nothing else.

Great Expectations' own Data Docs take their style and scripts from the network; this page is read without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen.quality.profile import QUANTILES

if TYPE_CHECKING:
    from evergreen.quality.runner import QualityReport

TEMPLATE = "quality.html.j2"


def quality_page(report: QualityReport, profiles: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of a report: what stops the run first, then what warns, then what holds, then each column's figures.

    Args:
        report: how the suite came out.
        profiles: by table, what `profile_table` gave.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["shown"] = shown
    passed = [result for result in report.results if result.success]
    return environment.get_template(TEMPLATE).render(
        suite=report.suite,
        verdict="failed" if report.failed else "warned" if report.warned else "passed",
        results=report.results,
        failed=report.failed,
        warned=report.warned,
        passed=passed,
        completeness=report.completeness,
        consistency=report.consistency,
        tables=profiles,
        quantiles=QUANTILES,
    )


def shown(value: Any) -> str:
    """A figure as people read it, empty where there is none."""
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
