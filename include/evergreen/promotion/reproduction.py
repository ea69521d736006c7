"""Makes a past version again from what it pins, and compares digests: data, training, artefact, figures.

Nothing that was kept is used as a shortcut: features are joined anew from the lake at the pinned table versions, and
the trainer runs. On a CPU every digest must be equal. Where a GPU or several processes trained, sums were taken in
another order than here: there the probabilities and figures are compared, within `TOLERANCE`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evergreen.errors import LakeError, ReproductionError
from evergreen.evaluation.metrics import measure
from evergreen.evaluation.scores import Scores
from evergreen.features.registry import AFFINITY
from evergreen.files import file_sha256
from evergreen.lake import Lake, Release
from evergreen.lake.digest import digest_json
from evergreen.models.bundle import Bundle, load_bundle
from evergreen.models.inputs import Join, feast_join
from evergreen.models.network.encoder import FOLDER
from evergreen.promotion.champion import bundle_folder
from evergreen.promotion.ledger import Ledger
from evergreen.promotion.recorded import Recorded, recall
from evergreen.settings import Settings
from evergreen.settings.evaluation import PolicySettings
from evergreen.training.chunks import Chunks
from evergreen.training.dataset import HOLDOUT, StoredColumns, TrainingSet, write_training_set
from evergreen.training.dates import TrainingDates
from evergreen.training.provenance import code_digest, lock_digest, revision, settings_digest
from evergreen.training.spec import TextEncoderRef, TrainingSetRef, TrainSpec
from evergreen.training.splits import Split

TOLERANCE = 0.005
"""Where a GPU or several processes trained: greatest mean difference of probabilities, and of a figure (relative)."""
CIRCUMSTANCES = {"code": "code_digest", "packages": "lock_digest", "settings": "settings_digest"}
"""What may explain a difference, and the registry's tag for it."""

SAME_FIGURE = 1e-9  # relative: another order of a sum, as another version of NumPy may take it

Train = Callable[[Mapping[str, Any], Path], Mapping[str, Any]]
"""Spec and folder of the bundle to what the trainer returned."""


class Outcome(StrEnum):
    """What a comparison found."""

    EQUAL = "equal"
    WITHIN_TOLERANCE = "within tolerance"
    DIFFERENT = "different"
    CHANGED = "changed since"  # a circumstance: it explains differences and is none by itself
    UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Comparison:
    """One line of the table. A line that is `DIFFERENT` makes the version not reproduced."""

    what: str
    recorded: str
    rebuilt: str
    outcome: Outcome
    detail: str = ""


@dataclass
class Reproduction:
    """What was compared, in the order in which it was made."""

    version: str
    comparisons: list[Comparison] = field(default_factory=list)
    revision: str = ""  # commit of then, empty where it is not known

    @property
    def reproduced(self) -> bool:
        """True where nothing differs that must not."""
        return not any(line.outcome is Outcome.DIFFERENT for line in self.comparisons)

    @property
    def bit_equal(self) -> bool:
        """True where the artefact is the same to the last bit."""
        return any(line.what == "bundle" and line.outcome is Outcome.EQUAL for line in self.comparisons)

    def raise_if_different(self) -> None:
        """Raises ReproductionError naming the first difference, and what changed since if anything did."""
        for line in self.comparisons:
            if line.outcome is Outcome.DIFFERENT:
                raise ReproductionError(f"version {self.version} is not reproduced: {_told(line)}{self._why()}")

    def _why(self) -> str:
        changed = [
            line.what for line in self.comparisons if line.outcome is Outcome.CHANGED and line.what in CIRCUMSTANCES
        ]
        if not changed:
            return ". Code, packages and settings are those of then: data or artefacts were altered"
        then = f"it was made from commit {self.revision}" if self.revision else "its commit is not known"
        return f". Changed since: {', '.join(changed)}; {then} (docs/how-to/reproduce-a-model.md)"


def reproduce(
    settings: Settings,
    version: str,
    work: Path,
    *,
    train: Train,
    join: Join | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Reproduction:
    """Makes a version again in a folder and compares it with what was recorded. It stops where the data differ.

    Args:
        settings: home, lake, registry.
        version: number in the model registry.
        work: an empty folder: training set and bundle are written there.
        train: runs the trainer.
        join: gives features for entities; default: Feast's point-in-time join at the pinned versions.
        say: gets a line of progress.

    Raises:
        ReproductionError: the registry does not know the version, or what it needs is gone.
        LedgerError: the ledger was changed behind its back.
        BundleError: the kept bundle is missing or altered.
        PromotionRefusedError: the evidence is missing or altered.
    """
    Ledger(settings).verify().raise_if_broken()
    recorded = recall(settings, version)
    made = Reproduction(version, revision=recorded.revision)
    add = made.comparisons.extend
    add(_circumstances(settings, recorded))
    add(_kept_files(settings, recorded))
    say("training set from the lake")
    training_set = rebuild_training_set(settings, recorded, work / "training_set", join)
    add(_data(recorded, training_set))
    if not made.reproduced:
        return made  # another set gives another model: training would take minutes to say nothing new
    spec = make_spec(settings, recorded, training_set)
    add([_compare("training spec", recorded.bundle.manifest["spec_digest"], spec.digest)])
    say(f"training of {spec.candidate} on {training_set.rows[Split.TRAIN]:,} rows")
    result = train(spec.model_dump(mode="json"), work / "bundle")
    rebuilt = load_bundle(work / "bundle")
    say("scores of the holdout")
    add(_artefact(settings, recorded, rebuilt, training_set, result))
    return made


def rebuild_training_set(settings: Settings, recorded: Recorded, folder: Path, join: Join | None = None) -> TrainingSet:
    """The version's training set, joined anew from the lake at the pinned table versions.

    Raises:
        LakeError: a pinned version cannot be read any more; names the table.
    """
    lake, versions = Lake(settings.lake_path), recorded.versions
    content = recorded.manifest["content"] if recorded.manifest else {}
    about = recorded.training_set
    _check_files(lake, versions)
    then = _settings_of_then(settings, recorded, content)
    release = Release("features", date.fromisoformat(about["day"]), 0, "", versions, {})
    wanted = [feature["name"] for kind in ("features", "raw") for feature in content.get(kind, [])]
    chunks = Chunks(lake, release, then.training, _only(wanted, join or feast_join(then, release, recorded.service)))
    as_ofs = tuple(date.fromisoformat(text) for text in about["as_ofs"])
    dates = TrainingDates(date.fromisoformat(about["holdout"]), as_ofs, len(as_ofs))
    folder.mkdir(parents=True)
    return write_training_set(folder, release, dates, then, chunks, day=release.day)


def make_spec(settings: Settings, recorded: Recorded, training_set: TrainingSet) -> TrainSpec:
    """The version's training spec: all of its parameters as they were resolved then, on this training set."""
    manifest = recorded.bundle.manifest
    return TrainSpec(
        candidate=manifest["candidate"],
        model=manifest["model"],
        params=manifest["params"],
        seed=manifest["seed"],
        training_set=TrainingSetRef(folder=training_set.folder, digest=training_set.digest),
        model_name=manifest["model_name"],
        threads=settings.training.trainer_threads,
        text_encoder=_text_encoder(settings, recorded.bundle),
    )


def _text_encoder(settings: Settings, bundle: Bundle) -> TextEncoderRef | None:
    """The text encoder that the version began with: its bundle has a copy."""
    if not (digest := bundle.manifest.get("text_encoder", "")):
        return None
    return TextEncoderRef(folder=bundle_folder(settings, bundle.digest) / FOLDER, digest=digest)


def _settings_of_then(settings: Settings, recorded: Recorded, content: Mapping[str, Any]) -> Settings:
    about, shares = recorded.training_set, content.get("shares", {})
    training = settings.training
    then = {
        "horizon_days": about["horizon_days"],
        "active_days": about["active_days"],
        "service": recorded.service,
        "salt": content.get("salt", training.salt),
        "inner_steps": about.get("inner_steps", len(about["as_ofs"])),
        "early_stopping_share": shares.get(Split.EARLY_STOPPING, training.early_stopping_share),
        "selection_share": shares.get(Split.SELECTION, training.selection_share),
    }
    made = {feature["name"] for feature in content.get("features", [])}
    enabled = AFFINITY in made if made else "customer_factors" in recorded.versions
    factors = settings.features.factors.model_copy(update={"enabled": enabled})
    features = settings.features.model_copy(update={"factors": factors})
    return settings.model_copy(update={"training": training.model_copy(update=then), "features": features})


def _only(names: list[str], join: Join) -> Join:
    """The join without features that were added to the service since; no names: all of them."""

    def narrow(entities: pd.DataFrame) -> pd.DataFrame:
        frame = join(entities)
        return frame[[name for name in frame if name in {*entities, *names}]]

    return narrow if names else join


def _check_files(lake: Lake, versions: Mapping[str, int]) -> None:
    for name, version in sorted(versions.items()):
        table = lake.table(name, version)
        gone = [path for path in table.paths() if not Path(path).exists()]
        if gone:
            raise LakeError(
                f"table {name}: {len(gone)} of {len(table.paths())} files of its version {version} are gone, such as "
                f"{gone[0]}: they were removed although the version is pinned. Restore them from a backup"
            )


def _circumstances(settings: Settings, recorded: Recorded) -> Iterator[Comparison]:
    now = {"code": code_digest(), "packages": lock_digest(), "settings": settings_digest(settings)}
    for what, tag in CIRCUMSTANCES.items():
        digest = now[what]
        then = recorded.tags.get(tag, "")
        outcome = Outcome.EQUAL if then == digest else Outcome.CHANGED if then else Outcome.UNKNOWN
        yield Comparison(what, then, digest, outcome)
    then, present = recorded.revision, revision()
    outcome = Outcome.EQUAL if then == present else Outcome.UNKNOWN
    yield Comparison("commit", then, present, outcome if not then or then == present else Outcome.CHANGED)


def _kept_files(settings: Settings, recorded: Recorded) -> Iterator[Comparison]:
    digest = recorded.tags["training_set_digest"]
    if recorded.manifest is None:
        yield Comparison("kept training set", digest, "", Outcome.UNKNOWN, "it was removed; the lake alone is used")
        return
    folder = settings.home_path / "training_sets" / digest
    for name, sha256 in sorted(recorded.manifest["files"].items()):
        seen = file_sha256(folder / name) if (folder / name).is_file() else "missing"
        yield _compare(f"kept {name}", sha256, seen, "the file that was kept is not the one that was trained on")


def _data(recorded: Recorded, training_set: TrainingSet) -> Iterator[Comparison]:
    versions = [f"{name} {version}" for name, version in sorted(recorded.versions.items())]
    yield Comparison("tables", f"{len(versions)} pinned", "read as pinned", Outcome.EQUAL, ", ".join(versions))
    if recorded.manifest:
        then, now = recorded.manifest["content"], training_set.manifest["content"]
        for name in sorted({*then["digests"], *now["digests"]}):
            old, new = then["digests"].get(name, {}), now["digests"].get(name, {})
            first = next((as_of for as_of in sorted({*old, *new}) if old.get(as_of) != new.get(as_of)), "")
            differ = f"the first other rows are those as of {first}" if first else f"rows of {len(new)} dates"
            yield _compare(f"rows of {name}", digest_json(old), digest_json(new), differ)
        others = [key for key in sorted({*then, *now} - {"digests"}) if then.get(key) != now.get(key)]
        if others:
            yield Comparison("training set's content", "", "", Outcome.DIFFERENT, f"other {', '.join(others)}")
        for name, sha256 in sorted(recorded.manifest["files"].items()):
            if then["digests"].get(name) != now["digests"].get(name):
                continue
            seen = training_set.manifest["files"].get(name, "")
            outcome = Outcome.EQUAL if sha256 == seen else Outcome.CHANGED
            yield Comparison(
                f"bytes of {name}", sha256, seen, outcome, "" if sha256 == seen else "another Parquet writer"
            )
    yield _compare("training set", recorded.tags["training_set_digest"], training_set.digest)


def _artefact(
    settings: Settings, recorded: Recorded, rebuilt: Bundle, training_set: TrainingSet, result: Mapping[str, Any]
) -> Iterator[Comparison]:
    old, new = recorded.bundle.manifest, rebuilt.manifest
    loosely = any(_sums_in_any_order(manifest["report"]) for manifest in (old, new))
    differs = Outcome.CHANGED if loosely else Outcome.DIFFERENT
    for name in sorted({*old["files"], *new["files"]}):
        then, now = old["files"].get(name, ""), new["files"].get(name, "")
        yield Comparison(name, then, now, Outcome.EQUAL if then == now else differs)
    keys = [key for key in sorted({*old, *new} - {"files"}) if old.get(key) != new.get(key)]
    detail = f"its manifest has other {', '.join(keys)}" if keys else ""
    same = rebuilt.digest == recorded.bundle.digest
    yield Comparison("bundle", recorded.bundle.digest, rebuilt.digest, Outcome.EQUAL if same else differs, detail)
    for name, value in result["inner"].items():
        if name in recorded.inner:
            yield _figure(f"inner {name}", recorded.inner[name], value, loosely)
    yield from _on_holdout(settings, recorded, rebuilt, training_set, loosely)


def _on_holdout(
    settings: Settings, recorded: Recorded, rebuilt: Bundle, training_set: TrainingSet, loosely: bool
) -> Iterator[Comparison]:
    holdout = StoredColumns(training_set.file(HOLDOUT))
    probabilities = rebuilt.predict(holdout)
    gap = np.abs(probabilities - recorded.bundle.predict(holdout))
    outcome = Outcome.EQUAL if not gap.any() else Outcome.WITHIN_TOLERANCE
    if gap.mean() > (TOLERANCE if loosely else 0):
        outcome = Outcome.DIFFERENT
    told = f"mean difference {gap.mean():.2g}, greatest {gap.max():.2g}"
    yield Comparison("probabilities of the holdout", f"{len(gap):,} pairs", f"{len(gap):,} pairs", outcome, told)
    if recorded.evidence is None:
        yield Comparison("holdout figures", "", "", Outcome.UNKNOWN, "the version was never judged")
        return
    evaluation = recorded.evidence["evaluation"]
    policy = PolicySettings.model_validate(evaluation["policy"])
    scores = Scores(holdout["customer_id"], holdout["product_id"], holdout.labels(), probabilities, {})
    figures = measure(scores, settings.evaluation.model_copy(update={"policy": policy}))
    for name, value in figures.items():
        then = evaluation["metrics"].get(name, {}).get("value")
        if then is not None:
            yield _figure(f"holdout {name}", then, value, loosely)


def _sums_in_any_order(report: Mapping[str, Any]) -> bool:
    """Whether a GPU or several processes trained: a process on a CPU, as here, adds up in another order."""
    return str(report.get("device", "cpu")).startswith("cuda") or int(report.get("processes", 1)) > 1


def _figure(what: str, then: float, now: float, loosely: bool) -> Comparison:
    if math.isclose(then, now, rel_tol=SAME_FIGURE, abs_tol=SAME_FIGURE):
        outcome = Outcome.EQUAL
    else:
        near = loosely and math.isclose(then, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        outcome = Outcome.WITHIN_TOLERANCE if near else Outcome.DIFFERENT
    return Comparison(what, f"{then:.6g}", f"{now:.6g}", outcome)


def _compare(what: str, then: str, now: str, detail: str = "") -> Comparison:
    return Comparison(what, then, now, Outcome.EQUAL if then == now else Outcome.DIFFERENT, detail)


def _told(line: Comparison) -> str:
    seen = f"{line.what} is {line.rebuilt[:12] or 'nothing'}, recorded is {line.recorded[:12] or 'nothing'}"
    return f"{seen} ({line.detail})" if line.detail else seen
