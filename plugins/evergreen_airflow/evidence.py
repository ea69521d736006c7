"""Evidence as an approver reads it: what it is about, and the gates as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evergreen_airflow.links import report_url

if TYPE_CHECKING:
    from evergreen.promotion.evidence import Evidence
    from evergreen.settings import Settings

MARKS = {"passed": "✓ passed", "failed": "✗ failed", "inconclusive": "? inconclusive"}
SHOWN = ("roc_auc", "average_precision", "log_loss", "brier", "ece", "ndcg_at_10", "recall_at_10")


def subject(evidence: Evidence) -> str:
    """One line: which version, of which data, by which evidence."""
    return f"Promote version {evidence.version} (data of {evidence.data_day})? Evidence {evidence.digest[:12]}"


def body(evidence: Evidence, settings: Settings) -> str:
    """Markdown: the digest in full, the metrics with their intervals, every gate, and where the reports are."""
    document = evidence.document
    champion = document["champion"]
    against = (
        f"version {champion['version']}, generation {champion['generation']}" if champion["generation"] else "none"
    )
    lines = [
        f"**Evidence** `{evidence.digest}`",
        "",
        f"**Bundle** `{evidence.bundle_digest}`",
        "",
        f"**Champion now**: {against}",
        "",
        *_metrics(document.get("evaluation", {}).get("metrics", {})),
        *_gates(document.get("gates", [])),
    ]
    links = [
        f"[{name.replace('_', ' ')}]({address})"
        for name, file in document.get("reports", {}).items()
        if (address := report_url(settings, settings.home_path / "reports" / str(file)))
    ]
    return "\n".join([*lines, *([f"Reports: {', '.join(links)}"] if links else [])])


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for name in SHOWN:
        if name in metrics:
            value, low, high = (_number(metrics[name][key]) for key in ("value", "low", "high"))
            rows.append(f"| {name} | {value} | {low} to {high} |")
    return ["| metric on the holdout | value | 95 % interval |", "|---|---|---|", *rows, ""] if rows else []


def _gates(gates: list[Mapping[str, Any]]) -> list[str]:
    rows = [
        f"| {gate['name']} | {MARKS.get(gate['status'], gate['status'])} | {_cell(gate.get('reason', ''))} |"
        for gate in gates
    ]
    return ["| gate | result | reason |", "|---|---|---|", *rows, ""] if rows else []


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, (int, float)) else str(value)


def _cell(text: Any) -> str:
    """Text that cannot end its cell, nor bring HTML into the page of the person who approves."""
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
