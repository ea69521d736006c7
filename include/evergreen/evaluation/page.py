"""The evaluation as a page for people: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evergreen.evaluation.charts import Axis, Frame, Line, calibration_chart, line_chart, whisker
from evergreen.evaluation.metrics import METRICS

TEMPLATE = "evaluation.html.j2"
CARDS = ("roc_auc", "average_precision", "ndcg_at_10", "ece", "campaign_profit")
RIVAL_METRICS = ("roc_auc", "average_precision", "log_loss", "ece", "ndcg_at_10", "recall_at_10", "campaign_profit")
SLICE_METRICS = ("roc_auc", "average_precision", "ece")
DIMENSIONS = {"country": "Country", "tenure": "Tenure", "price_band": "Price band", "product_age": "Product age"}
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
) -> Path:
    """Writes the page and returns its path.

    Args:
        evaluation: what `evaluate` gave for the challenger.
        path: the HTML file; folders are made.
        title: headline.
        facts: what the reader must know of the model, by name: version, day, holdout, digests.
        champion: what `evaluate` gave for the champion on the same holdout; none at a cold start.
        gains: `{metric: {value, low, high}}` of the challenger over the champion, positive is better (`Gain.as_dict`).
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"figure": figure, "count": lambda number: f"{number:,}", "interval": interval}
    text = environment.get_template(TEMPLATE).render(
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
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


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


def _charts(evaluation: Evaluation, champion: Evaluation | None) -> dict[str, Any]:
    lines = [("Challenger", "model", evaluation["curves"]["model"])]
    if champion is not None:
        lines.append(("Champion", "champion", champion["curves"]["model"]))
    rivals = [(name, curves) for name, curves in evaluation["curves"].items() if name != "model"]
    lines += [(name.capitalize(), f"rival-{number % 3}", curves) for number, (name, curves) in enumerate(rivals)]
    precisions = [point[1] for _, _, curves in lines for point in curves["precision_recall"] if point[0] > 0.01]
    roc = [Line(name, curves["roc"], style) for name, style, curves in lines]
    steps = [Line(name, curves["precision_recall"], style) for name, style, curves in lines]
    base_rate = evaluation["base_rate"]
    return {
        "legend": [(name, style) for name, style, _ in lines],
        "roc": _svg(
            line_chart(
                Frame(Axis("False positive share"), Axis("Recall")), [*roc, Line("chance", [(0, 0), (1, 1)], "guide")]
            )
        ),
        "precision_recall": _svg(
            line_chart(
                Frame(Axis("Recall"), Axis("Precision", max([*precisions, base_rate, 0.01]))),
                [*steps, Line("base rate", [(0, base_rate), (1, base_rate)], "guide")],
            )
        ),
        "calibration": _svg(calibration_chart(evaluation["calibration_curve"])),
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


def _svg(text: str) -> Markup:
    """Marks a chart as HTML: `charts` escapes every text that it draws."""
    return Markup(text)
