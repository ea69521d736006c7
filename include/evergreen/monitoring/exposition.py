"""Figures in Prometheus's text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Metric:
    """A name, what it means, and its values by labels."""

    name: str
    meaning: str
    samples: tuple[tuple[Mapping[str, str], float], ...]
    kind: Literal["gauge", "counter"] = "gauge"


def gauge(name: str, meaning: str, value: float) -> Metric:
    """A metric without labels."""
    return Metric(name, meaning, (({}, value),))


def by_label(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    """A metric with one label."""
    return Metric(name, meaning, tuple(({label: key}, value) for key, value in sorted(values.items())))


def exposition(metrics: Iterable[Metric]) -> str:
    """The page that Prometheus reads."""
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {_escape(metric.meaning)}", f"# TYPE {metric.name} {metric.kind}"]
        for labels, value in metric.samples:
            shown = ",".join(f'{key}="{_escape(text, quotes=True)}"' for key, text in sorted(labels.items()))
            lines.append(f"{metric.name}{{{shown}}} {value:.17g}" if shown else f"{metric.name} {value:.17g}")
    return "\n".join([*lines, ""])


def _escape(text: str, *, quotes: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quotes else escaped
