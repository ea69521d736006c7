"""The model card: what a model is, for whom, how well it does and where it does not, from the evidence alone.

Sections as in Mitchell et al. 2019, "Model cards for model reporting", figure 1. The card is made before the gates are
asked, since one of them asks for it: it tells what was found out, not what was decided. It holds no clock and no path,
so the same evidence gives the same card.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evergreen.evaluation.metrics import METRICS
from evergreen.evaluation.recommendations import recommendations

FEATURES = 10  # of the most important ones
NO_FIGURE = "not reported"


@dataclass(frozen=True)
class Table:
    """Head and rows of text."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A heading with sentences and, after them, a table or two."""

    title: str
    lines: tuple[str, ...]
    tables: tuple[Table, ...] = field(default=())


@dataclass(frozen=True)
class Card:
    """A model card."""

    title: str
    sections: tuple[Section, ...]

    def markdown(self) -> str:
        """The card as Markdown."""
        parts = [f"# {self.title}"]
        for section in self.sections:
            parts.append(f"## {section.title}")
            parts.append("\n".join(f"- {_line(line)}" for line in section.lines))
            parts += [_markdown_table(table) for table in section.tables]
        return "\n\n".join(part for part in parts if part) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the Markdown, 64 hex digits."""
        return hashlib.sha256(self.markdown().encode()).hexdigest()

    def write(self, path: Path) -> Path:
        """Writes the Markdown; folders are made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.markdown(), encoding="utf-8")
        return path


def model_card(document: Mapping[str, Any]) -> Card:
    """The card of an evidence document, or of what there is of one before its gates were asked.

    Args:
        document: `model`, `data_day`, `training_set`, `tables`, `code`, `lock`, `settings`, `evaluation`, `drift`,
            `quality`, and where there are any `explanations`, `fairness`, `champion`, as in
            `evergreen.promotion.evidence`. What is missing is said to be.
    """
    model = document["model"]
    return Card(
        f"Model card: {model['name']}, version {model['version']}",
        (
            _details(document),
            _intended_use(document),
            _factors(document),
            _metrics(document),
            _evaluation_data(document),
            _training_data(document),
            _analyses(document),
            _ethics(document),
            _caveats(document),
        ),
    )


def _details(document: Mapping[str, Any]) -> Section:
    model = document["model"]
    params = ", ".join(f"{name} {value}" for name, value in sorted(model["params"].items()))
    frameworks = ", ".join(f"{name} {version}" for name, version in sorted(model["frameworks"].items()))
    return Section(
        "Model details",
        (
            f"Version {model['version']} of {model['name']}: candidate {model['candidate']}, with beta calibration.",
            f"Parameters: {params or 'none'}.",
            f"Trained on data up to {document['data_day']}, with {frameworks}.",
            f"Bundle {model['bundle_digest']}.",
            f"Code {document['code']}, settings {document['settings']}, packages {document['lock']}.",
            "A bundle holds no code, and every file's SHA-256 stands in its manifest.",
        ),
    )


def _intended_use(document: Mapping[str, Any]) -> Section:
    policy = document["evaluation"]["policy"]
    contacts = (
        f"each customer's best {policy['top_k']} products" if policy["rule"] == "top_k" else "pairs above a threshold"
    )
    return Section(
        "Intended use",
        (
            "Ranks, for each customer, the products that they bought before by the probability that they buy them "
            "again within the label window; for reminders, reorder lists and campaigns.",
            f"The campaign that it is judged by contacts {contacts}, at {policy['cost_per_contact']:g} a contact and "
            f"{policy['margin_per_conversion']:g} of margin a purchase.",
            "For marketing and merchandising teams of the retailer whose data it learned from.",
            "Not for products that a customer never bought, nor for prices, credit or any decision about a person's "
            "rights; not for another retailer's customers.",
        ),
    )


def _factors(document: Mapping[str, Any]) -> Section:
    found: dict[str, list[str]] = {}
    for row in document["evaluation"]["slices"]:
        found.setdefault(row["dimension"].replace("_", " "), []).append(row["slice"])
    lines = [f"By {dimension}: {', '.join(names)}." for dimension, names in found.items()]
    return Section(
        "Factors",
        (
            *(lines or ["No slice of the holdout was large enough to be judged by itself."]),
            "Age, gender, income and the like are not known of customers, so nothing is said about them.",
        ),
    )


def _metrics(document: Mapping[str, Any]) -> Section:
    evaluation = document["evaluation"]
    return Section(
        "Metrics",
        (
            "Ranking: ROC AUC, average precision, NDCG@10, recall@10. Decisions: precision, recall, F1, profit.",
            "Probabilities: log loss, Brier score, calibration error.",
            f"Decisions are made at probability {evaluation['threshold']:g}.",
            f"Intervals are {evaluation['confidence']:.0%} intervals from {evaluation['resamples']} resamples of whole "
            "customers.",
        ),
    )


def _evaluation_data(document: Mapping[str, Any]) -> Section:
    evaluation, counts = document["evaluation"], document["evaluation"]["counts"]
    drift = document.get("drift", {}).get("own", {})
    lines = [
        f"All pairs as of {document['training_set']['holdout']}, which neither training, search, calibration nor the "
        "choice among candidates read.",
        f"{counts['pairs']:,} pairs of {counts['customers']:,} customers; {counts['positives']:,} "
        f"({evaluation['base_rate']:.2%}) were bought again.",
    ]
    if drift:
        lines.append(
            f"Against the training data it is {drift['verdict']}: {drift['share_drifted']:.0%} of columns moved."
        )
    return Section("Evaluation data", tuple(lines))


def _training_data(document: Mapping[str, Any]) -> Section:
    training, quality = document["training_set"], document.get("quality", {})
    as_ofs = [str(as_of) for as_of in training["as_ofs"]]
    rows = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in training["rows"].items())
    checked = ", ".join(
        f"{suite} {'passed' if summary.get('success') else 'FAILED'}" for suite, summary in sorted(quality.items())
    )
    tables = ", ".join(f"{name} at version {version}" for name, version in sorted(document["tables"].items()))
    return Section(
        "Training data",
        (
            f"Dates {as_ofs[0]} to {as_ofs[-1]} ({len(as_ofs)}); the last label window ends before the holdout begins.",
            f"Rows: {rows}.",
            f"Training set {training['digest']}, from {tables}.",
            f"Checks of the data: {checked or NO_FIGURE}.",
        ),
    )


def _analyses(document: Mapping[str, Any]) -> Section:
    evaluation = document["evaluation"]
    metrics = Table(
        ("Metric", "Value", "Interval"),
        tuple(
            (METRICS[name].title, _figure(figures["value"]), _interval(figures))
            for name, figures in evaluation["metrics"].items()
        ),
    )
    heuristics = Table(
        ("Heuristic", "ROC AUC", "Average precision", "NDCG@10"),
        tuple(
            (name, *(_figure(figures[metric]["value"]) for metric in ("roc_auc", "average_precision", "ndcg_at_10")))
            for name, figures in evaluation["heuristics"].items()
        ),
    )
    slices = Table(
        ("Slice", "Pairs", "Bought again", "ROC AUC", "Interval", "Average precision"),
        tuple(
            (
                f"{row['dimension'].replace('_', ' ')}: {row['slice']}",
                f"{row['pairs']:,}",
                f"{row['base_rate']:.2%}",
                _figure(row["metrics"]["roc_auc"]["value"]),
                _interval(row["metrics"]["roc_auc"]),
                _figure(row["metrics"]["average_precision"]["value"]),
            )
            for row in evaluation["slices"]
        ),
    )
    tables = [metrics, heuristics, slices]
    lines = ["Each factor by itself; crossed factors (intersectional results) are not computed."]
    explanations = document.get("explanations")
    if explanations:
        lines.append(_explained(explanations))
        tables.append(
            Table(
                ("Feature", "Share of what is explained"),
                tuple((one["feature"], f"{one['share']:.1%}") for one in explanations["global"][:FEATURES]),
            )
        )
    return Section("Quantitative analyses", tuple(lines), tuple(table for table in tables if table.rows))


def _explained(explanations: Mapping[str, Any]) -> str:
    probe = explanations["random_probe"]
    return (
        f"Explained by {explanations['method']} over {explanations['rows']:,} pairs, in {explanations['space']}; a "
        f"column of random numbers ranks {probe['rank']} of {probe['of']}."
    )


def _ethics(document: Mapping[str, Any]) -> Section:
    lines = [
        "Inputs are purchases under pseudonymous customer numbers and the country; no free text of customers and no "
        "contact data are read.",
        "What is recommended is seen and bought more often, and learned from again; products beyond a customer's "
        "habits are never proposed.",
        "Keep a share of the customers without recommendations, to know what they would buy anyway.",
        "Purchases can tell of health or family. Reasons that are shown to customers should be read with that in mind.",
    ]
    gaps = [row for row in document.get("fairness", {}).get("rows", []) if _is_number(row["gap"])]
    if gaps:
        widest = max(gaps, key=lambda row: abs(row["gap"]))
        lines.append(
            f"Widest gap of a slice to all others, of {len(gaps)} that a gate tests: {widest['metric']} of "
            f"{widest['dimension'].replace('_', ' ')} {widest['slice']}, {widest['gap']:+.3f} (standard error "
            f"{_figure(widest['standard_error'])})."
        )
    else:
        lines.append("Gaps between slices stand in the tables above; a test of them was not part of this evidence.")
    return Section("Ethical considerations", tuple(lines))


def _caveats(document: Mapping[str, Any]) -> Section:
    advice = recommendations(
        document["evaluation"], drift=document.get("drift", {}).get("own"), explanations=document.get("explanations")
    )
    return Section(
        "Caveats and recommendations",
        (
            "The holdout is one date: its intervals tell how far other customers would move the figures, not how far "
            "another season would.",
            "Profit counts every purchase of a contacted pair as earned; how much of it the contact caused, only an "
            "experiment can tell.",
            "Explanations say what the model goes by, not what makes customers buy.",
            *advice,
        ),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _figure(value: Any) -> str:
    if not _is_number(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4f}"


def _interval(figures: Mapping[str, float | None]) -> str:
    if figures["low"] is None or figures["high"] is None:
        return "-"
    return f"{_figure(figures['low'])} to {_figure(figures['high'])}"


def _markdown_table(table: Table) -> str:
    lines: list[Sequence[str]] = [table.head, ["---"] * len(table.head), *table.rows]
    return "\n".join(f"| {' | '.join(_line(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _line(text: str) -> str:
    """One line that brings no HTML along."""
    return " ".join(text.split()).replace("<", "&lt;")
