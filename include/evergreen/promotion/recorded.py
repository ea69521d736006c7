"""What is known of a version from the day on which it was made: registry, ledger, bundle, training set, evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evergreen.errors import ReproductionError
from evergreen.lake.digest import digest_json
from evergreen.models.bundle import Bundle
from evergreen.promotion.evidence import load_evidence
from evergreen.promotion.ledger import Ledger
from evergreen.promotion.registry_mirror import registry_client
from evergreen.promotion.subjects import stored_bundle
from evergreen.settings import Settings
from evergreen.training.dataset import MANIFEST
from evergreen.training.register import BUNDLE_TAG


@dataclass(frozen=True)
class Recorded:
    """What is known of a version from the day on which it was made."""

    version: str
    tags: Mapping[str, str]
    inner: Mapping[str, float]  # figures on the selection customers, as MLflow has them
    bundle: Bundle
    manifest: Mapping[str, Any] | None  # of the training set, where it was kept
    evidence: Mapping[str, Any] | None  # of the last judgement, where there was one

    @property
    def versions(self) -> dict[str, int]:
        """Versions of the lake's tables that its features were read at."""
        return {table: int(version) for table, version in json.loads(self.tags["versions"]).items()}

    @property
    def service(self) -> str:
        """The feature service that it reads."""
        return str(self.bundle.manifest["service"])

    @property
    def revision(self) -> str:
        """The commit that it was made from, empty where that is not known."""
        known = self.tags.get("revision", "")
        return "" if known == "unknown" else known

    @property
    def training_set(self) -> Mapping[str, Any]:
        """Digest, day and dates of its training set, as the bundle says."""
        return dict(self.bundle.manifest["training_set"])


def recall(settings: Settings, version: str) -> Recorded:
    """What registry, ledger, bundle, training set and evidence say of a version.

    Raises:
        ReproductionError: the registry does not know the version, or it and the ledger name different bundles.
        BundleError: the kept bundle is missing or altered.
    """
    from mlflow.exceptions import MlflowException

    client, name = registry_client(settings), settings.mlflow.model_name
    try:
        found = client.get_model_version(name, version)
    except MlflowException:
        known = sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))
        listed = ", ".join(map(str, known)) or "none: train one first"
        raise ReproductionError(
            f"the registry has no version {version!r} of {name}, expected one of: {listed}"
        ) from None
    tags = dict(found.tags)
    if missing := [tag for tag in (BUNDLE_TAG, "training_set_digest", "versions") if tag not in tags]:
        raise ReproductionError(
            f"version {version} has no tag {missing[0]} in the registry: it was not registered by evergreen"
        )
    judged = _from_ledger(settings, version, tags[BUNDLE_TAG])
    bundle = stored_bundle(settings, tags[BUNDLE_TAG])
    return Recorded(
        version,
        tags,
        client.get_run(str(found.run_id)).data.metrics if found.run_id else {},
        bundle,
        _kept_manifest(settings, tags["training_set_digest"]),
        load_evidence(settings, judged).document if judged else None,
    )


def _from_ledger(settings: Settings, version: str, bundle: str) -> str:
    """Digest of the evidence of the last judgement, empty where there was none; the ledger must name this bundle."""
    evidence = ""
    for sealed in Ledger(settings).entries():
        entry = sealed.entry
        if entry.model_version != version or entry.model_name != settings.mlflow.model_name:
            continue
        named = dict(resource.split(":", 1) for resource in entry.resources_affected if ":" in resource)
        if entry.operation in ("train", "judge", "promote") and named.get("bundle", bundle) != bundle:
            raise ReproductionError(
                f"version {version} is bundle {bundle[:12]} in the registry and {named['bundle'][:12]} in the ledger "
                f"(entry {sealed.sequence}): the registry was changed behind the ledger's back"
            )
        if entry.operation == "judge":
            evidence = named.get("evidence", evidence)
    return evidence


def _kept_manifest(settings: Settings, digest: str) -> Mapping[str, Any] | None:
    file = settings.home_path / "training_sets" / digest / MANIFEST
    if not file.exists():
        return None
    manifest: dict[str, Any] = json.loads(file.read_text())
    if digest_json(manifest["content"]) != digest:
        raise ReproductionError(f"{file} was altered: its content has another digest than {digest[:12]}")
    return manifest
