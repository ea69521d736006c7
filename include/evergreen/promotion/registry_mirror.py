"""MLflow's alias `champion` mirrors the ledger. No alias can be protected: a change behind it is looked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen.promotion.champion import Champion, current
from evergreen.promotion.ledger import FAILURE, Entry, Ledger
from evergreen.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS = "champion"
ARTIFACTS = "judgement"  # folder of a run's artifacts
ATTACHED = ("evaluation", "card", "explanations")  # of a judgement's reports


@dataclass(frozen=True)
class Mirror:
    """What the ledger and the registry say about the champion's version; None: no champion."""

    expected: str | None
    seen: str | None

    @property
    def tampered(self) -> bool:
        """True where they differ."""
        return self.expected != self.seen


def mirror_champion(settings: Settings, champion: Champion) -> None:
    """Points the registry's alias at the champion's version.

    Raises:
        mlflow.exceptions.MlflowException: the registry does not know the version or does not answer.
    """
    registry_client(settings).set_registered_model_alias(settings.mlflow.model_name, ALIAS, champion.version)


def attach_reports(settings: Settings, judged: Mapping[str, Any]) -> None:
    """Copies a judgement's report and model card to the challenger's MLflow run, and tags its version with the verdict.

    The pages under `home/reports` and the digests in the evidence stay the truth: what stands in MLflow may be edited.

    Args:
        settings: home, MLflow.
        judged: what `judge_challenger` returned.

    Raises:
        mlflow.exceptions.MlflowException: the registry does not know the version or does not answer.
    """
    client = registry_client(settings)
    name, version = settings.mlflow.model_name, str(judged["challenger_version"])
    run = client.get_model_version(name, version).run_id
    for kind in ATTACHED:
        file = Path(judged["reports"].get(kind, ""))
        if run and file.is_file():
            client.log_artifact(run, str(file), ARTIFACTS)
    client.set_model_version_tag(name, version, "verdict", str(judged["verdict"]))
    client.set_model_version_tag(name, version, "evidence_digest", str(judged["evidence_digest"]))


def look(settings: Settings) -> Mirror:
    """Reads both sides."""
    champion = current(settings)
    return Mirror(champion.version if champion else None, _aliased(settings))


def detect_tampering(settings: Settings, *, user: str = "") -> Mirror:
    """Compares the alias with the ledger; a difference is an alarm in the ledger and stays one until it is mirrored."""
    seen = look(settings)
    if seen.tampered:
        Ledger(settings).append(
            Entry(
                "alarm_registry_alias",
                seen.expected or "",
                FAILURE,
                (f"alias:{ALIAS}",),
                error_detail=f"alias {ALIAS!r} of {settings.mlflow.model_name} is version {seen.seen}, the ledger's "
                f"champion is {seen.expected}: it was changed behind the ledger's back",
                user=user,
            )
        )
    return seen


def _aliased(settings: Settings) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(registry_client(settings).get_model_version_by_alias(settings.mlflow.model_name, ALIAS).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model, or no such alias
            return None
        raise


def registry_client(settings: Settings) -> MlflowClient:
    """A client of the model registry; a dead server is an error within seconds, not minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.mlflow_uri, registry_uri=settings.mlflow_uri)
