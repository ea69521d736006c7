"""What `run` prints about evidence before an approval, and about the whole day at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from evergreen.cli.console import seconds
from evergreen.cli.follow import Stage
from evergreen.settings import Settings

if TYPE_CHECKING:
    from evergreen.platform.client import AirflowClient

SHOWN = ("roc_auc", "average_precision", "ndcg_at_10", "recall_at_10", "log_loss", "brier", "ece", "campaign_profit")
REPORTS = {
    "evaluation": "evaluation report",
    "drift": "drift report",
    "card": "model card",
    "explanations": "explanations",
}
STYLE = {"promote": "green", "passed": "green", "reject": "red", "failed": "red"}


@dataclass
class Outcome:
    """One walk through the loop."""

    day: date
    verdict: str  # promote, reject, inconclusive, unchanged; untrained where the day is older than the newest
    reasons: list[str]
    promoted: bool
    champion_version: str | None
    challenger_version: str | None
    evidence_digest: str | None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    reports: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, bool] = field(default_factory=dict)  # stage -> whether something new was published
    addresses: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The line that `run --json` prints."""
        return {
            "day": str(self.day),
            "verdict": self.verdict,
            "reasons": self.reasons,
            "promoted": self.promoted,
            "champion_version": self.champion_version,
            "challenger_version": self.challenger_version,
            "evidence_digest": self.evidence_digest,
            "metrics": dict(self.metrics),
            "stages": {name: round(value, 1) for name, value in self.stages.items()},
            "published": dict(self.published),
            "reports": dict(self.reports),
            "addresses": dict(self.addresses),
        }


def collect(
    settings: Settings, client: AirflowClient, day: date, stages: Mapping[str, Stage], timings: Mapping[str, float]
) -> Outcome:
    """Reads from the runs and from the ledger what the day brought."""
    from evergreen.platform.mlflow import LocalMlflow
    from evergreen.promotion import champion

    current = champion.current(settings)
    version = current.version if current else None
    addresses = {"Airflow": client.url, "MLflow": LocalMlflow(settings).url}
    published = {}
    for dag_id in ("ingest_transactions", "build_features"):
        result = (client.xcom(dag_id, stages[dag_id].run_id, "publish") if dag_id in stages else None) or {}
        published[dag_id] = not result.get("unchanged", True)
    stage = stages.get("promote_model")
    judged = client.xcom("promote_model", stage.run_id, "judge") if stage else None
    if stage is None or judged is None:
        reasons = ["nothing was trained: the day is not the newest one, or retraining is controlled"]
        return Outcome(
            day,
            "untrained",
            reasons,
            False,
            version,
            None,
            None,
            stages=timings,
            published=published,
            addresses=addresses,
        )
    return Outcome(
        day=day,
        verdict=judged["verdict"],
        reasons=list(judged["reasons"]),
        promoted=stage.task_state("promote") == "success",
        champion_version=version,
        challenger_version=judged["challenger_version"],
        evidence_digest=judged["evidence_digest"],
        metrics=judged["metrics"],
        stages=timings,
        reports=judged["reports"],
        published=published,
        addresses=addresses,
    )


def show_evidence(console: Console, settings: Settings, judged: Mapping[str, Any]) -> None:
    """The gates and figures that somebody is asked to approve."""
    from evergreen.promotion.evidence import load_evidence

    document = load_evidence(settings, judged["evidence_digest"]).document
    console.print()
    console.print(
        f"Evidence [bold]{judged['evidence_digest'][:12]}[/] for version {judged['challenger_version']} "
        f"({document['model']['candidate']}), data of {judged['day']}, against "
        + (f"champion version {judged['champion_version']}" if judged["champion_version"] else "no champion yet")
    )
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("gate", "result", "reason"):
        table.add_column(heading)
    for gate in document["gates"]:
        style = STYLE.get(gate["status"], "yellow")
        table.add_row(gate["name"], f"[{style}]{gate['status']}[/]", str(gate.get("reason", "")))
    console.print(table)
    console.print(metrics_table(judged["metrics"]))
    for name, path in judged["reports"].items():
        console.print(f"  {REPORTS.get(name, name)}: {path}", soft_wrap=True)


def metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> Table:
    """Figures on the holdout with their intervals."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("metric on the holdout")
    for heading in ("value", "95 % low", "high"):
        table.add_column(heading, justify="right")
    for name in SHOWN:
        if name in metrics:
            figures = (f"{metrics[name][key]:,.4f}" for key in ("value", "low", "high"))
            table.add_row(name, *figures)
    return table


def show(console: Console, outcome: Outcome) -> None:
    """The end of `run`."""
    console.print()
    style = STYLE.get(outcome.verdict, "yellow")
    console.print(f"[bold]verdict for {outcome.day}: [{style}]{outcome.verdict}[/][/]")
    for reason in outcome.reasons:
        console.print(f"  {reason}")
    if not any(outcome.published.values()):
        console.print("  nothing new was published: the lake has these purchases and features already")
    if outcome.promoted:
        console.print(f"  [green]version {outcome.champion_version} is the champion[/]")
    elif outcome.verdict == "promote":
        console.print(f"  not approved: the champion stays {outcome.champion_version or 'unset'}")
    elif outcome.champion_version:
        console.print(f"  champion: version {outcome.champion_version}")
    if outcome.metrics:
        console.print()
        console.print(metrics_table(outcome.metrics))
    console.print()
    console.print("stages: " + ", ".join(f"{name} {seconds(value)}" for name, value in outcome.stages.items()))
    for name, path in outcome.reports.items():
        console.print(f"{REPORTS.get(name, name)}: {path}", soft_wrap=True)
    for name, address in outcome.addresses.items():
        console.print(f"{name}: {address}")
