"""A whole small home: a shop's lake, a training set, a champion with its bundle, evidence and ledger, MLflow's runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import numpy as np

from evergreen.lake import Lake
from evergreen.models import bundle
from evergreen.models.bundle import Bundle
from evergreen.models.calibration import BetaCalibration
from evergreen.models.candidate import Sample, candidate_class
from evergreen.models.preprocessing import Preprocessor
from evergreen.promotion import approvals, champion
from evergreen.promotion.champion import Champion, bundle_folder
from evergreen.promotion.deployment import load_champion
from evergreen.promotion.evidence import save_evidence
from evergreen.promotion.ledger import Ledger
from evergreen.settings import Settings
from evergreen.training.dataset import build_training_set
from tests.shop import Shop

PAIRS = {"pair_purchases": np.arange(40, dtype=np.float64) % 13}


def fill_home(shop: Shop) -> Champion:
    """Makes a training set of a shop, a champion that was made from it, and what MLflow would note."""
    settings = shop.settings
    made = build_training_set(settings, shop.day, join=shop.join)
    note_run(settings)
    (settings.home_path / "loaded.json").write_text('{"start": "2024-01-01"}')
    (settings.home_path / "workspace.owner").write_text("sample")
    (settings.home_path / "feast").mkdir()
    (settings.home_path / "feast" / "registry.db").write_bytes(b"registry")
    (settings.home_path / "feast" / "online.db").write_bytes(b"online")
    return promote(settings, "1", training_set=made.digest)


def promote(settings: Settings, version: str, *, generation: int = 0, training_set: str = "1" * 64) -> Champion:
    """Makes a bundle and takes it all the way to champion."""
    stored = make_bundle(settings, version, training_set)
    document: dict[str, Any] = {
        "model": {"name": settings.mlflow.model_name, "version": version, "bundle_digest": stored.digest},
        "data_day": "2024-06-17",
        "champion": {"generation": generation},
        "tables": {"pair_features": Lake(settings.lake_path).versions().get("pair_features", 0)},
        "verdict": "promote",
    }
    evidence = save_evidence(settings, document)
    approvals.request(settings, evidence)
    answer = approvals.decide(settings, evidence, "approved", user="ada").approval_id
    return champion.promote(settings, evidence, approval_id=answer, expected_generation=generation, user="airflow")


def make_bundle(settings: Settings, version: str, training_set: str) -> Bundle:
    """A bundle of a heuristic model, stored under its digest."""
    kind = candidate_class("heuristic")
    params = {"feature": "pair_purchases"}
    preprocessor = Preprocessor.fit(kind.plan, [("pair_purchases", "number")], PAIRS)
    labels = (PAIRS["pair_purchases"] > 6).astype("int8")
    sample = Sample(preprocessor.transform(PAIRS, len(labels)), labels, preprocessor.names)
    candidate = kind()
    report = {**candidate.fit(sample, sample, params, seed=1, threads=1), "version": version}
    calibration = BetaCalibration.fit(candidate.predict(sample.matrix), labels)
    manifest = bundle.make_manifest(
        model_name="buy-it-again", candidate="frequency", model="heuristic", params=params, seed=1,
        features=[("pair_purchases", "number")], service="buy_again", spec_digest="0" * 64,
        training_set={"digest": training_set}, report=report,
    )  # fmt: skip
    draft = settings.home_path / "models" / ".made"
    made = bundle.save_bundle(draft, manifest, preprocessor, candidate, calibration)
    draft.rename(bundle_folder(settings, made.digest))
    return made


def note_run(settings: Settings) -> None:
    """MLflow's database with one run, and the run's file."""
    folder = settings.home_path / "mlflow"
    artifacts = folder / "artifacts" / "run" / "artifacts"
    artifacts.mkdir(parents=True)
    (artifacts / "MLmodel").write_text("flavors: {}")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT)")
        connection.execute("INSERT INTO runs VALUES ('run', ?)", (artifacts.as_uri(),))


def artifact_uris(settings: Settings) -> list[str]:
    """Where MLflow's database says that runs keep their files."""
    with closing(sqlite3.connect(settings.home_path / "mlflow" / "mlflow.db")) as connection:
        return [str(row[0]) for row in connection.execute("SELECT artifact_uri FROM runs")]


def seen(settings: Settings) -> dict[str, Any]:
    """What a home is to those who use it: rows, ledger, champion, scores."""
    lake, ledger = Lake(settings.lake_path), Ledger(settings)
    assert ledger.verify().intact
    champion_now, model = load_champion(settings)
    return {
        "tables": {name: {day: digest for day, digest in lake.table(name).digests.items()} for name in lake.versions()},
        "rows": {name: lake.table(name).read().num_rows for name in lake.versions()},
        "champion": (champion_now.version, champion_now.generation, champion_now.bundle_digest),
        "scores": model.predict(PAIRS).tobytes(),
        "entries": [sealed.hash for sealed in ledger.entries() if sealed.entry.operation in ("promote", "rollback")],
    }
