"""The only module that knows Great Expectations: runs checks on frames and writes Data Docs."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evergreen.quality.checks import Check, Severity

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

KEY = "check"
SITE = "evergreen"
NOT_NEEDED = ("static/fonts", "static/images/glossary_scroller.gif", "static/images/iterative-dev-loop.png")


@dataclass(frozen=True)
class Batch:
    """A frame and the checks that are run on it."""

    name: str  # as Data Docs call it
    frame: pd.DataFrame
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Outcome:
    """What Great Expectations says of one check."""

    success: bool
    ran: bool  # False where the expectation raised, e.g. for want of its column
    observed: Any
    detail: str = ""  # of what kept it from running


def run(batches: Sequence[Batch], docs: Path, *, run_name: str) -> dict[str, Outcome]:
    """Runs all batches and writes their Data Docs as a static site.

    Args:
        batches: what to run.
        docs: folder of the site; what was there is replaced.
        run_name: shown in the site.

    Returns:
        The outcome of every expectation that Great Expectations reports on, by the check's key. Which of the declared
        ones are among them is for the caller to assert: it leaves some out when they fail to run.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = _context(docs)
        results = [result for batch in batches for result in _run_batch(context, batch, run_name)]
        context.build_data_docs(site_names=[SITE])
    for name in NOT_NEEDED:  # 3 MB of decoration a run
        path = docs / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return dict(results)


def _context(docs: Path) -> EphemeralDataContext:
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    logging.getLogger("great_expectations").setLevel(logging.ERROR)  # hundreds of lines at import otherwise
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    # Its default would leave a temporary Data Docs site behind, one a run.
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    shutil.rmtree(docs, ignore_errors=True)
    context.add_data_docs_site(
        site_name=SITE,
        site_config={
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)},
        },
    )
    return context


def _run_batch(context: EphemeralDataContext, batch: Batch, run_name: str) -> list[tuple[str, Outcome]]:
    import great_expectations as gx
    from great_expectations.core.run_identifier import RunIdentifier

    suite = gx.ExpectationSuite(name=batch.name)
    for check in batch.checks:
        kind = getattr(gx.expectations, check.expectation)
        severity = "critical" if check.severity is Severity.FAIL else "warning"
        suite.add_expectation(
            kind(**check.arguments, severity=severity, notes=check.why, meta={KEY: check.key, "why": check.why})
        )
    asset = context.data_sources.add_pandas(batch.name).add_dataframe_asset("rows")
    definition = gx.ValidationDefinition(
        name=batch.name,
        data=asset.add_batch_definition_whole_dataframe("all"),
        suite=context.suites.add(suite),
    )
    result = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": batch.frame},
        result_format="SUMMARY",
        run_id=RunIdentifier(run_name=run_name),
    )
    configured = [(entry, entry.expectation_config) for entry in result.results]
    return [(config.meta[KEY], _outcome(entry)) for entry, config in configured if config is not None and config.meta]


def _outcome(entry: ExpectationValidationResult) -> Outcome:
    result: Mapping[str, Any] = entry.result or {}
    detail = _exception(entry.exception_info or {})
    observed = result.get("observed_value")
    if mismatched := (result.get("details") or {}).get("mismatched"):
        observed = "; ".join(f"{kind} {', '.join(map(str, names))}" for kind, names in mismatched.items())
    if observed is None and "unexpected_percent" in result:
        examples = ", ".join(str(value) for value in list(dict.fromkeys(result["partial_unexpected_list"]))[:3])
        share = f"{result['unexpected_percent'] or 0:.3g} % outside"
        observed = f"{share} (such as {examples})" if examples else share
    return Outcome(bool(entry.success), not detail, observed, detail)


def _exception(info: Mapping[str, Any]) -> str:
    """Message of what an expectation raised; either one exception's own record or one a metric."""
    records = [info] if "raised_exception" in info else [value for value in info.values() if isinstance(value, Mapping)]
    messages = [str(record.get("exception_message")) for record in records if record.get("raised_exception")]
    return messages[0] if messages else ""
