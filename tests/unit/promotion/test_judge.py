"""From a registered challenger to a verdict, on a shop small enough to train in a second."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from evergreen.errors import BundleError, LedgerError, PromotionRefusedError, TrainingError
from evergreen.files import file_sha256
from evergreen.lake import Lake, begin, publish, release, seal, stage_days
from evergreen.lake.digest import digest_json
from evergreen.lake.staging import new_attempt
from evergreen.promotion import approvals, champion, deployment, judge
from evergreen.promotion.champion import Champion
from evergreen.promotion.evidence import load_evidence, save_evidence
from evergreen.promotion.judge import UNCHANGED, challenger_of, drift_of, judge_challenger
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.promotion.lineage import Origin, lineage, origin
from evergreen.promotion.registry_mirror import Mirror, attach_reports, detect_tampering, look, mirror_champion
from evergreen.promotion.rollback import rollback
from evergreen.promotion.subjects import holdout_frame, open_subject, score_champion, stored_training_set
from evergreen.quality.reports import REPORT, report_folder
from evergreen.settings import Settings
from evergreen.training.dataset import TrainingSet, build_training_set
from evergreen.training.register import register_challenger
from evergreen.training.spec import TrainSpec
from evergreen.training.trainer import train
from tests.shop import FIRST, Shop

DAY = FIRST + timedelta(days=179)
RUNS = {"transactions": "ingest 1", "features": "build 1", "training_set": "train 1"}
RELAXED = {
    "evaluation": {
        "resamples": 50,
        "floors": {
            "roc_auc": 0.6,
            "average_precision_lift": 1.2,
            "pairs": 100,
            "positives": 20,
            "customers": 20,
            "calibration_error_share": 2.0,
        },
        "slices": {"min_pairs": 100, "min_positives": 10, "min_customers": 10},
        "explanations": {"rows": 200, "background_rows": 30, "probe_rows": 2_000},
        "drift": {"report_rows": 100, "report_columns": 2, "prediction_psi_threshold": 1.0},
        # few and short trees over three columns: ties abound, and what was just bought is not due yet
        "behaviour": {"min_weekly_first": 0.01, "max_direction_loss": 1.0},
    },
    "promotion": {
        "calibration": {"max_ratio": 2.0, "max_ece_share": 2.0},
        "guardrails": {"average_precision": 0.005, "log_loss": 0.002, "ndcg_at_10": 0.05},
    },
    "training": {"min_history_days": 60, "steps": 3},
}


def relaxed(settings: Settings, **changes: Any) -> Settings:
    """Settings whose floors a shop of 600 customers can reach."""
    tree = settings.model_dump()
    for section, values in {**RELAXED, **changes}.items():
        tree[section] = _merged(tree[section], values)
    return Settings.model_validate(tree)


def _merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    nested = {key: _merged(tree[key], value) for key, value in changes.items() if isinstance(value, dict)}
    return {**tree, **changes, **nested}


def shopping(customers: int, days: int, seed: int = 11) -> pd.DataFrame:
    """Few things are bought again; who lives where tells more about it than how often they bought."""
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(customers):
        french = str(customer)[-1] in "0123"
        for product in rng.choice(25, 5, replace=False):
            at, gap = rng.integers(0, days), 35 if french else 300
            while at < days:
                rows.append((f"c{customer}", f"p{product}", FIRST + timedelta(days=int(at))))
                at += 1 + int(rng.exponential(gap))
    return pd.DataFrame(rows, columns=["customer_id", "product_id", "day"]).drop_duplicates()


def publish_with_run(lake: Lake, table: str, days: dict[date, pa.Table], run_id: str, inputs: dict[str, Any]) -> int:
    attempt = new_attempt()
    begin(lake, table, attempt)
    stage_days(lake, table, attempt, days.items())
    staged = seal(lake, table, attempt, start=min(days), end=max(days), transform="test/1", inputs=inputs)
    version = publish(lake, staged, run_id=run_id).version
    assert version is not None
    return version


def fill_lake(settings: Settings, purchases: pd.DataFrame) -> None:
    lake = Lake(settings.lake_path)
    every_day = [FIRST + timedelta(days=one) for one in range((DAY - FIRST).days + 1)]
    empty = lake.table("transactions").spec.file_schema.empty_table()
    transactions = publish_with_run(lake, "transactions", dict.fromkeys(every_day, empty), RUNS["transactions"], {})
    schema = lake.table("pair_features").spec.file_schema
    parts = {}
    for day, rows in purchases.groupby("day"):
        keys = {"customer_id": rows["customer_id"].tolist(), "product_id": rows["product_id"].tolist()}
        others = {name: pa.nulls(len(rows), schema.field(name).type) for name in schema.names if name not in keys}
        parts[day] = pa.table({**keys, **others}).select(schema.names).cast(schema)
    inputs = {"transactions": transactions}
    pairs = publish_with_run(lake, "pair_features", parts, RUNS["features"], inputs)
    release(lake, "transactions", day=DAY, digest="t", versions={"transactions": transactions}, inputs={})
    release(lake, "features", day=DAY, digest="f", versions={"pair_features": pairs}, inputs=inputs)


def write_report(settings: Settings, suite: str, *, success: bool = True) -> Path:
    folder = report_folder(settings, suite, RUNS[suite])
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "suite": suite,
        "success": success,
        "checks": 3,
        "failed": {} if success else {"t.rows": "t: rows is 0, allowed is at least 1"},
        "warned": {"t.share": "t: share is 0.3"},
        "completeness": 0.99,
        "consistency": 1.0,
    }
    (folder / REPORT).write_text(json.dumps(document))
    return folder


class ShopWithSlices(Shop):
    """The shop whose features also say what slices are made of."""

    def join(self, entities: pd.DataFrame) -> pd.DataFrame:
        frame = super().join(entities)
        number = frame["customer_id"].str[1:].astype(int)
        frame["customer_tenure_days"] = (number % 400).astype(np.float64)
        frame["price_tier"] = np.where(number % 2 == 0, "low", "high")
        frame["product_age_days"] = 200.0
        return frame


def train_and_register(settings: Settings, made: TrainingSet, drafts: Path, **params: Any) -> dict[str, Any]:
    entries = {
        "frequency": ("heuristic", {"feature": "pair_purchases"}),
        "popularity": ("heuristic", {"feature": "product_buyers_90d"}),
        "trees": ("xgboost", {"max_depth": 2, "min_child_weight": 1.0, "bags": 1, "negative_share": 0.5, **params}),
    }
    results = [
        train(
            TrainSpec(
                candidate=name,
                model=model,
                params=values,
                seed=1,
                training_set={"folder": made.folder, "digest": made.digest},
                model_name=settings.mlflow.model_name,
            ),
            drafts / name,
        )
        for name, (model, values) in entries.items()
    ]
    best_first = sorted(results, key=lambda one: one["candidate"] != "trees")
    for one in best_first[1:]:
        one["inner"] = {metric: value * 0.5 for metric, value in one["inner"].items()}  # the trees are registered
    return register_challenger(settings, DAY, best_first, made.summary(), run_id=RUNS["training_set"])


Trained = tuple[Path, dict[str, Any], dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A home with two registered challengers of one day, weak trees (version 1) and better ones (2); and the drift."""
    home = tmp_path_factory.mktemp("judged") / "home"
    settings = relaxed(Settings(home=home))
    purchases = shopping(600, 180)
    fill_lake(settings, purchases)
    made = build_training_set(
        settings, DAY, join=ShopWithSlices(settings, purchases, DAY).join, run_id=RUNS["training_set"]
    )
    for suite in RUNS:
        write_report(settings, suite)
    drafts = tmp_path_factory.mktemp("drafts")
    weak = train_and_register(settings, made, drafts, rounds=1)
    better = train_and_register(settings, made, drafts, rounds=5)
    return home, weak, better, drift_of(settings, better)


@pytest.fixture
def world(trained: Trained, settings: Settings) -> Settings:
    """A copy of that home for one test."""
    shutil.copytree(trained[0], settings.home_path, dirs_exist_ok=True)
    return relaxed(settings)


@pytest.fixture
def weak(trained: Trained) -> dict[str, Any]:
    return trained[1]


@pytest.fixture
def better(trained: Trained) -> dict[str, Any]:
    return trained[2]


@pytest.fixture
def drift(trained: Trained) -> dict[str, Any]:
    return trained[3]


def promote(settings: Settings, judged: Mapping[str, Any]) -> Champion:
    digest, generation = judged["evidence_digest"], judged["generation"]
    approvals.request(settings, digest)
    yes = approvals.decide(settings, digest, "approved", user="ada")
    return champion.promote(
        settings, digest, approval_id=yes.approval_id, expected_generation=generation, user="airflow"
    )


def install(settings: Settings, challenger: Mapping[str, Any], **changes: Any) -> Champion:
    """Makes a model the first champion without asking the gates."""
    model = {
        "name": settings.mlflow.model_name,
        "version": challenger["version"],
        "bundle_digest": challenger["bundle_digest"],
    }
    document = {
        "model": model,
        "data_day": challenger["data_day"],
        "champion": {"generation": 0},
        "verdict": "promote",
        **changes,
    }
    return promote(settings, {"evidence_digest": save_evidence(settings, document), "generation": 0})


def failed(judged: Mapping[str, Any]) -> set[str]:
    return {name for name, status in judged["gates"].items() if status != "passed"}


def test_the_first_challenger_is_judged_by_itself(
    world: Settings, better: dict[str, Any], drift: dict[str, Any]
) -> None:
    judged = judge_challenger(world, better, drift=drift, run_id="promote 1")
    assert (judged["verdict"], failed(judged), judged["generation"]) == ("promote", set(), 0)
    assert (judged["challenger_version"], judged["champion_version"], judged["day"]) == ("2", None, str(DAY))
    assert "no_champion" in judged["gates"]
    assert set(judged["metrics"]["roc_auc"]) == {"value", "low", "high"}
    assert Path(judged["reports"]["evaluation"]).is_file()
    probes = json.loads((Path(judged["reports"]["evaluation"]).parent / judge.PROBES).read_text())
    assert set(probes) == {"behaviour", "robustness", "fairness", "poisoning", "infra"}
    assert probes["infra"]["load_seconds"] > 0
    json.dumps(judged)
    entry = Ledger(world).entries()[-1].entry
    assert (entry.operation, entry.outcome, entry.metrics["verdict"]) == ("judge", "success", "promote")
    assert f"evidence:{judged['evidence_digest']}" in entry.resources_affected


def test_the_evidence_names_all_that_the_verdict_came_from(
    world: Settings, better: dict[str, Any], drift: dict[str, Any]
) -> None:
    document = load_evidence(world, judge_challenger(world, better, drift=drift)["evidence_digest"]).document
    assert document["model"]["bundle_digest"] == better["bundle_digest"]
    assert document["training_set"]["digest"] == better["training_set_digest"]
    assert document["tables"] == {"pair_features": 1, "transactions": 1}
    assert document["champion"]["generation"] == 0
    assert document["image"] is None
    assert {len(document[name]) for name in ("code", "settings")} == {64}
    assert {gate["name"] for gate in document["gates"]} >= {"data_quality", "label_maturity", "drift", "no_champion"}
    assert document["quality"]["features"]["warned"] == ["t.share"]
    text = json.dumps(document)
    assert str(world.home_path) not in text
    assert "seconds" not in text


def test_card_and_explanations_are_kept_and_named_by_their_digests(
    world: Settings, better: dict[str, Any], drift: dict[str, Any]
) -> None:
    judged = judge_challenger(world, better, drift=drift)
    document = load_evidence(world, judged["evidence_digest"]).document
    folder = Path(judged["reports"]["evaluation"]).parent
    assert file_sha256(folder / "model_card.md") == document["card"]
    kept = json.loads((folder / "explanations.json").read_text())
    assert digest_json(kept) == document["explanations"]["digest"]
    assert document["explanations"]["global"] == kept["global"]
    assert document["explanations"]["additivity"]["max_error"] < 1e-6
    page = (folder / "evaluation.html").read_text()
    assert document["card"][:16] in page
    assert "Why it says so" in page

    attach_reports(world, judged)
    client = MlflowClient(world.mlflow_uri)
    version = client.get_model_version("buy-it-again", better["version"])
    assert version.tags["verdict"] == judged["verdict"]
    assert version.tags["evidence_digest"] == judged["evidence_digest"]
    assert {one.path for one in client.list_artifacts(version.run_id, "judgement")} == {
        "judgement/evaluation.html", "judgement/model_card.html", "judgement/explanations.json",
    }  # fmt: skip


def test_the_same_inputs_give_the_same_evidence(world: Settings, better: dict[str, Any], drift: dict[str, Any]) -> None:
    first = judge_challenger(world, better, drift=drift, run_id="promote 1")
    again = judge_challenger(world, better, drift=drift_of(world, better), run_id="promote 2")
    assert again["evidence_digest"] == first["evidence_digest"]


def test_a_better_challenger_replaces_a_weak_champion_and_not_the_other_way_round(
    world: Settings, weak: dict[str, Any], better: dict[str, Any], drift: dict[str, Any]
) -> None:
    install(world, weak)
    judged = judge_challenger(world, better, drift=drift)
    assert (judged["verdict"], judged["generation"], judged["champion_version"]) == ("promote", 1, "1")
    document = load_evidence(world, judged["evidence_digest"]).document
    assert document["champion"]["bundle_digest"] == weak["bundle_digest"]
    gates = {gate["name"]: gate for gate in document["gates"]}
    assert gates["superiority"]["observed"]["low"] > 0
    assert promote(world, judged).generation == 2

    back = judge_challenger(world, weak, drift=drift)
    assert back["verdict"] == "reject"
    assert {"superiority", "non_inferiority", "heuristics"} <= failed(back)


def test_the_champion_as_challenger_is_unchanged(
    world: Settings, better: dict[str, Any], drift: dict[str, Any]
) -> None:
    judged = judge_challenger(world, better, drift=drift)
    made = promote(world, judged)
    entries = len(Ledger(world).entries())
    again = judge_challenger(world, better, drift=drift)
    assert again["verdict"] == UNCHANGED
    assert again["reason"] == "the challenger is the champion already (version 2, generation 1)"
    assert (again["evidence_digest"], again["metrics"]) == (made.evidence_digest, judged["metrics"])
    assert again["reports"] == judged["reports"]
    assert set(again) == set(judged)
    assert len(Ledger(world).entries()) == entries


@pytest.mark.parametrize("suite", sorted(RUNS))
@pytest.mark.parametrize("how", ["missing", "failed"])
def test_without_a_good_quality_report_nothing_is_promoted(
    world: Settings, better: dict[str, Any], drift: dict[str, Any], suite: str, how: str
) -> None:
    folder = write_report(world, suite, success=False)
    if how == "missing":
        shutil.rmtree(folder)
    judged = judge_challenger(world, better, drift=drift)
    assert (judged["verdict"], failed(judged)) == ("reject", {"data_quality"})


def test_a_barred_bundle_is_not_asked_for_again(
    world: Settings, weak: dict[str, Any], better: dict[str, Any], drift: dict[str, Any]
) -> None:
    install(world, weak)
    promote(world, judge_challenger(world, better, drift=drift))
    rollback(world, reason="complaints", user="ada")
    judged = judge_challenger(world, better, drift=drift)
    assert (judged["verdict"], failed(judged)) == ("reject", {"not_barred"})
    assert "complaints" in judged["reason"]


def test_a_champion_that_needs_a_feature_that_is_gone_is_told(
    world: Settings,
    weak: dict[str, Any],
    better: dict[str, Any],
    drift: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(world, weak)
    monkeypatch.setattr(judge, "score_champion", lambda *_: score_champion(world, *_lacking(world, weak)))
    judged = judge_challenger(world, better, drift=drift)
    assert (judged["verdict"], failed(judged)) == ("reject", {"no_champion"})
    assert "needs feature 'pair_recency_days', which the input lacks" in judged["reason"]


def _lacking(world: Settings, challenger: dict[str, Any]) -> tuple[Champion, pd.DataFrame]:
    present = champion.current(world)
    assert present is not None
    frame = holdout_frame(stored_training_set(world, challenger["training_set_digest"]))
    return present, frame.drop(columns=["pair_recency_days"])


def test_what_does_not_belong_together_is_refused(
    world: Settings, better: dict[str, Any], drift: dict[str, Any]
) -> None:
    with pytest.raises(PromotionRefusedError, match=r"but its holdout as of .* is labelled up to"):
        judge_challenger(world, better | {"data_day": "2024-06-01"}, drift=drift)
    entry = Ledger(world).entries()[-1].entry
    assert (entry.operation, entry.outcome) == ("judge", "failure")
    other = stored_training_set(world, better["training_set_digest"])
    shutil.copytree(other.folder, other.folder.parent / ("d" * 64))
    with pytest.raises(TrainingError, match="expected dddddddddddd"):
        open_subject(world, better | {"training_set_digest": "d" * 64})


def test_an_altered_bundle_is_not_judged(world: Settings, better: dict[str, Any], drift: dict[str, Any]) -> None:
    file = next((world.home_path / "models" / better["bundle_digest"]).glob("*.ubj"))
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(BundleError, match="was altered"):
        judge_challenger(world, better, drift=drift)


def test_a_broken_ledger_judges_nothing(world: Settings, better: dict[str, Any], drift: dict[str, Any]) -> None:
    ledger = Ledger(world)
    ledger.append(Entry("train"))
    ledger.mirror.write_text(ledger.mirror.read_text().replace("train", "trail"))
    with pytest.raises(LedgerError, match="entry 1 differs"):
        judge_challenger(world, better, drift=drift)


def test_the_registry_tells_who_the_challenger_is(world: Settings, better: dict[str, Any]) -> None:
    found = challenger_of(world, DAY)
    assert found == {key: better[key] for key in found}
    with pytest.raises(
        PromotionRefusedError, match=f"version 2, was trained on data up to {DAY}, 2024-01-01 was asked"
    ):
        challenger_of(world, date(2024, 1, 1))


def test_without_a_challenger_there_is_nothing_to_judge(world: Settings) -> None:
    MlflowClient(world.mlflow_uri).delete_registered_model_alias("buy-it-again", "challenger")
    with pytest.raises(PromotionRefusedError, match="the registry has no challenger of buy-it-again"):
        challenger_of(world, DAY)


def test_drift_is_told_against_the_champions_data(
    world: Settings, weak: dict[str, Any], better: dict[str, Any], drift: dict[str, Any]
) -> None:
    assert drift["reference"] == "the challenger's training data (there is no champion to compare with)"
    assert Path(drift["report"]).name == "drift.html"
    assert drift["own"]["verdict"] == drift["verdict"]
    made = install(world, weak)
    assert drift_of(world, better)["reference"] == "the champion's training data"
    shutil.rmtree(champion.bundle_folder(world, made.bundle_digest))
    assert "the champion's cannot be read: bundle" in drift_of(world, better)["reference"]


def test_the_alias_mirrors_the_ledger_and_a_change_behind_it_is_an_alarm(
    world: Settings, weak: dict[str, Any], better: dict[str, Any], drift: dict[str, Any]
) -> None:
    assert look(world) == Mirror(None, None)
    mirror_champion(world, install(world, weak))
    assert not detect_tampering(world).tampered
    client = MlflowClient(world.mlflow_uri)
    assert client.get_model_version_by_alias("buy-it-again", "champion").version == int(weak["version"])
    client.set_registered_model_alias("buy-it-again", "champion", better["version"])
    assert detect_tampering(world) == Mirror("1", "2")
    entry = Ledger(world).entries()[-1].entry
    assert (entry.operation, entry.outcome) == ("alarm_registry_alias", "failure")
    assert "is version 2, the ledger's champion is 1" in entry.error_detail
    assert deployment.load_champion(world)[1].digest == weak["bundle_digest"], "serving follows the ledger"


def test_lineage_follows_commits(world: Settings, better: dict[str, Any]) -> None:
    found = lineage(world, stored_training_set(world, better["training_set_digest"]))
    assert found.newest_day == DAY
    assert set(found.quality) == set(RUNS)
    lake = Lake(world.lake_path)
    assert origin(lake, "pair_features", 1) == Origin(RUNS["features"], {"transactions": 1})
    with pytest.raises(PromotionRefusedError, match="does not tell who published its version 0"):
        origin(lake, "pair_features", 0)


def test_features_of_unknown_origin_are_refused(world: Settings, better: dict[str, Any], monkeypatch) -> None:
    monkeypatch.setattr("evergreen.promotion.lineage.origin", lambda *_: Origin("x", {}))
    with pytest.raises(PromotionRefusedError, match="from which transactions it was made"):
        lineage(world, stored_training_set(world, better["training_set_digest"]))
