"""The evaluation as a page for people: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evergreen.evaluation.card import Card
from evergreen.evaluation.charts import (
    Axis,
    Frame,
    Line,
    calibration_chart,
    heat_map,
    line_chart,
    scatter_chart,
    whisker,
)
from evergreen.evaluation.metrics import METRICS
from evergreen.evaluation.recommendations import recommendations

TEMPLATE, CARD_TEMPLATE = "evaluation.html.j2", "card.html.j2"
CARDS = ("roc_auc", "average_precision", "ndcg_at_10", "ece", "campaign_profit")
RIVAL_METRICS = ("roc_auc", "average_precision", "log_loss", "ece", "ndcg_at_10", "recall_at_10", "campaign_profit")
SLICE_METRICS = ("roc_auc", "average_precision", "ece")
DIMENSIONS = {"country": "Country", "tenure": "Tenure", "price_band": "Price band", "product_age": "Product age"}
GLOBAL_FEATURES = 15
DRIFT_COLUMNS = 8
INTERACTIONS = 3
ADDITIVE = 0.005  # an interaction below it is rounding
SMALL = 200.0  # height of a small chart
Evaluation = Mapping[str, Any]
Figures = Mapping[str, float | None]


def write_html(
    evaluation: Evaluation,
    path: Path,
    *,
    title: str = "Model evaluation",
    facts: Mapping[str, str] | None = None,
    champion: Evaluation | None = None,
    gains: Mapping[str, Figures] | None = None,
    verdict: tuple[str, Sequence[str]] | None = None,
    gates: Sequence[Mapping[str, Any]] = (),
    drift: Mapping[str, Any] | None = None,
    explanations: Mapping[str, Any] | None = None,
    card: Card | None = None,
) -> Path:
    """Writes the page and returns its path. What is not given has no section.

    Args:
        evaluation: what `evaluate` gave for the challenger.
        path: the HTML file; folders are made.
        title: headline.
        facts: what the reader must know of the model, by name: version, day, holdout, digests.
        champion: what `evaluate` gave for the champion on the same holdout; none at a cold start.
        gains: `{metric: {value, low, high}}` of the challenger over the champion, positive is better (`Gain.as_dict`).
        verdict: promote, reject or inconclusive, and the reasons in words.
        gates: results as dicts: name, status, observed, limit, reason.
        drift: of `drift_verdict`.
        explanations: of `evergreen.evaluation.explanations.report.explain`.
        card: the model card.
    """
    return _render(
        TEMPLATE,
        path,
        title=title,
        facts=facts or {},
        evaluation=evaluation,
        metrics=METRICS,
        dimensions=DIMENSIONS,
        cards=CARDS,
        rival_metrics=RIVAL_METRICS,
        slice_metrics=SLICE_METRICS,
        champion=champion,
        comparison=_comparison(evaluation, champion, gains or {}),
        charts=_charts(evaluation, champion),
        slices=_slices(evaluation),
        verdict=verdict,
        gates=gates,
        drift=drift,
        drift_columns=DRIFT_COLUMNS,
        explanations=None if explanations is None else _explained(explanations),
        advice=recommendations(evaluation, gates, drift, explanations),
        card=card,
    )


def write_card(card: Card, path: Path) -> Path:
    """Writes the model card as a page of its own and returns its path."""
    return _render(CARD_TEMPLATE, path, card=card)


def figure(value: float | None, metric: str) -> str:
    """A metric's value as a reader wants it; a dash where it is not defined."""
    if value is None:
        return "-"
    if metric == "campaign_profit":
        return f"{value:,.0f}"
    return f"{value:.2f}" if metric == "average_precision_lift" else f"{value:.4f}"


def interval(figures: Figures, metric: str) -> str:
    """`low to high`; empty where not defined."""
    if figures["low"] is None or figures["high"] is None:
        return ""
    return f"{figure(figures['low'], metric)} to {figure(figures['high'], metric)}"


def seen(value: Any) -> str:
    """What a gate saw or allows, on a line: numbers rounded, intervals as such, nested figures by name."""
    if isinstance(value, Mapping):
        if set(value) == {"value", "low", "high"}:
            return f"{seen(value['value'])} [{seen(value['low'])}, {seen(value['high'])}]"
        return ", ".join(f"{str(name).replace('_', ' ')} {seen(one)}" for name, one in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(seen(one) for one in value)
    return "-" if value is None or value == "" else str(value)


def _render(template: str, path: Path, **values: Any) -> Path:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "count": lambda number: f"{number:,}", "interval": interval, "seen": seen}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.get_template(template).render(**values), encoding="utf-8")
    return path


def _charts(evaluation: Evaluation, champion: Evaluation | None) -> dict[str, Any]:
    lines = [("Challenger", "model", evaluation["curves"]["model"])]
    if champion is not None:
        lines.append(("Champion", "champion", champion["curves"]["model"]))
    rivals = [(name, curves) for name, curves in evaluation["curves"].items() if name != "model"]
    lines += [(name.capitalize(), f"rival-{number % 3}", curves) for number, (name, curves) in enumerate(rivals)]
    base_rate = evaluation["base_rate"]
    chance, flat = [(0.0, 0.0), (1.0, 1.0)], [(0.0, base_rate), (1.0, base_rate)]
    share = Axis("Share of pairs contacted")

    def chart(curve: str, x: Axis, y: Axis, *guides: Line) -> Markup:
        drawn = [Line(name, [p for p in c[curve] if p[1] >= y.ticks[0]], style) for name, style, c in lines]
        return _svg(line_chart(Frame(x, y), [*drawn, *guides]))

    def reach(curve: str, least: float, beyond: float = 0.0) -> float:
        found: list[float] = [point[1] for _, _, c in lines for point in c[curve] if point[0] > beyond]
        return max([least, *found])

    earned = [point[1] for point in evaluation["curves"]["model"]["profit"]]
    return {
        "legend": [(name, style) for name, style, _ in lines],
        "roc": chart("roc", Axis("False positive share"), Axis("Recall"), Line("chance", chance, "guide")),
        "precision_recall": chart(
            "precision_recall",
            Axis("Recall"),
            Axis("Precision", reach("precision_recall", max(base_rate, 0.01), 0.01)),
            Line("base rate", flat, "guide"),
        ),
        "calibration": _svg(calibration_chart(evaluation["calibration_curve"])),
        "gain": chart("gain", share, Axis("Share of purchases reached"), Line("at random", chance, "guide")),
        "lift": chart(
            "lift", share, Axis("Lift", reach("lift", 1.0)), Line("at random", [(0.0, 1.0), (1.0, 1.0)], "guide")
        ),
        "profit": chart(
            "profit",
            share,
            Axis("Profit per 1,000 customers", max([1.0, *earned]) * 1.05, -max([1.0, *earned])),
            Line("nothing", [(0.0, 0.0), (1.0, 0.0)], "guide"),
        ),
    }


def _comparison(
    evaluation: Evaluation, champion: Evaluation | None, gains: Mapping[str, Figures]
) -> list[dict[str, Any]]:
    """A row a metric: challenger, champion where there is one, gain and its bar on a scale centred at zero."""
    rows = []
    for name, metric in METRICS.items():
        gain = gains.get(name)
        reach = max((abs(value) for value in (gain or {}).values() if value is not None), default=0.0) * 1.1
        rows.append(
            {
                "metric": metric,
                "challenger": evaluation["metrics"][name],
                "champion": champion["metrics"][name] if champion is not None else None,
                "gain": gain,
                "bar": _svg(whisker(gain, -reach, reach, 0.0)) if gain else "",
                "verdict": _verdict(gain),
            }
        )
    return rows


def _verdict(gain: Figures | None) -> str:
    if gain is None or gain["low"] is None or gain["high"] is None:
        return ""
    return "better" if gain["low"] > 0 else "worse" if gain["high"] < 0 else "no clear difference"


def _slices(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The slice rows with bars on a scale common to all slices, the overall value as the guide."""
    rows: Sequence[Mapping[str, Any]] = evaluation["slices"]
    scales = {}
    for name in SLICE_METRICS:
        figures = [evaluation["metrics"][name], *(row["metrics"][name] for row in rows)]
        values = [value for one in figures for value in one.values() if value is not None]
        scales[name] = (min(values, default=0.0), max(values, default=1.0))
    return [
        dict(row)
        | {
            "first": number == 0 or row["dimension"] != rows[number - 1]["dimension"],
            "bars": {
                name: _svg(whisker(row["metrics"][name], *scales[name], evaluation["metrics"][name]["value"]))
                for name in SLICE_METRICS
            },
        }
        for number, row in enumerate(rows)
    ]


def _explained(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its charts: what a template draws."""
    ranked = document["global"]
    widest = max([one["share"] for one in ranked], default=0.0) or 1.0
    return {
        **document,
        "top": [dict(one) | {"width": 100 * one["share"] / widest} for one in ranked[:GLOBAL_FEATURES]],
        "rest": len(ranked) - GLOBAL_FEATURES,
        "dependence": [dict(one) | _dependence_charts(one) for one in document["dependence"]],
        "interactions": [
            {
                "title": f"{pair['features'][0]} (across) with {pair['features'][1]} (upwards)",
                "strength": pair["strength"],
                "chart": _svg(heat_map(pair["x"], pair["y"], pair["surface"], " and ".join(pair["features"]))),
            }
            for pair in document["interactions"][:INTERACTIONS]
            if pair["strength"] >= ADDITIVE and pair["surface"] and pair["surface"][0]
        ],
    }


def _dependence_charts(one: Mapping[str, Any]) -> dict[str, Any]:
    """Dots of contributions and curves of the probability for a number, bars of the probability for a category."""
    curve = one["partial_dependence"]
    if one["kind"] == "category":
        widest = max([value for _, value in curve], default=0.0) or 1.0
        return {"bars": [(name, value, 100 * value / widest) for name, value in curve]}
    x = _middle([dot[0] for dot in one["dots"]], "value")
    y = _middle([dot[1] for dot in one["dots"]], "adds to log-odds", share=0.0)
    mean = sum(value for _, value in curve) / max(len(curve), 1)
    shifted = [(point, value + mean) for point, value in one["ale"]]
    values = [value for _, value in [*curve, *shifted] if value > 0]
    inside = [[point for point in line if x.ticks[0] <= point[0] <= x.ticks[-1]] for line in (curve, shifted)]
    frame = Frame(x, Axis("probability", max([0.001, *values])), SMALL)
    lines = [Line("partial dependence", inside[0], "model"), Line("ALE", inside[1], "champion")]
    return {
        "scatter": _svg(scatter_chart(Frame(x, y, SMALL), one["dots"])),
        "curves": _svg(line_chart(frame, lines)),
        "bars": [],
    }


def _middle(values: Sequence[float], label: str, share: float = 0.02) -> Axis:
    """An axis over the values without that share of the highest and of the lowest: a long tail would hide the rest."""
    ordered = sorted(values) or [0.0, 1.0]
    low, high = ordered[int(len(ordered) * share)], ordered[-1 - int(len(ordered) * share)]
    return Axis(label, high if high > low else low + 1.0, low)


def _svg(text: str) -> Markup:
    """Marks a chart as HTML: `charts` escapes every text that it draws."""
    return Markup(text)
