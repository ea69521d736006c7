"""Evidence, approvals and champions in a temporary home."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evergreen.promotion import approvals, champion
from evergreen.promotion.champion import Champion, bundle_folder
from evergreen.promotion.evidence import save_evidence
from evergreen.settings import Settings


def digest_of(version: str) -> str:
    """A bundle digest for a version."""
    return (version.encode().hex() * 64)[:64]


@pytest.fixture
def make_evidence(settings: Settings) -> Callable[..., str]:
    """Saves a document for a version and creates its bundle's folder: `make_evidence("2", generation=1)`."""

    def make(
        version: str, *, generation: int = 0, day: str = "2011-08-31", verdict: str = "promote", bundle: str = ""
    ) -> str:
        bundle_digest = bundle or digest_of(version)
        bundle_folder(settings, bundle_digest).mkdir(parents=True, exist_ok=True)
        document: dict[str, Any] = {
            "model": {"name": settings.mlflow.model_name, "version": version, "bundle_digest": bundle_digest},
            "data_day": day,
            "champion": {"generation": generation},
            "verdict": verdict,
        }
        return save_evidence(settings, document)

    return make


@pytest.fixture
def approve(settings: Settings) -> Callable[[str], str]:
    """Asks for an approval of a document, says yes, and gives the approval's id."""

    def yes(evidence_digest: str) -> str:
        approvals.request(settings, evidence_digest, user="airflow")
        return approvals.decide(settings, evidence_digest, "approved", user="ada").approval_id

    return yes


@pytest.fixture
def promote_version(
    settings: Settings, make_evidence: Callable[..., str], approve: Callable[[str], str]
) -> Callable[..., Champion]:
    """Takes a version all the way: `promote_version("1")`, `promote_version("2", generation=1)`."""

    def promote(version: str, *, generation: int = 0, **details: str) -> Champion:
        digest = make_evidence(version, generation=generation, **details)
        return champion.promote(
            settings, digest, approval_id=approve(digest), expected_generation=generation, user="airflow"
        )

    return promote
