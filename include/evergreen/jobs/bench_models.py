"""Models that a bench trains and scores once: a killed one goes on with what is finished."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from evergreen.errors import TrainingError
from evergreen.evaluation.scores import Scores
from evergreen.features.registry import KNOWN
from evergreen.files import write_whole
from evergreen.jobs.bench_point_in_time_join import peak_mib
from evergreen.jobs.entry import run_job
from evergreen.lake.digest import digest_json
from evergreen.models.candidate import candidate_class, known_models
from evergreen.models.params import Value
from evergreen.settings import Settings
from evergreen.training.dataset import HOLDOUT, INNER, MANIFEST, StoredColumns, TrainingSet
from evergreen.training.provenance import code_digest
from evergreen.training.spec import TrainingSetRef, TrainSpec, make_specs, read_spec
from evergreen.training.splits import Split


@dataclass(frozen=True)
class Trained:
    """A finished training: its bundle, and what it cost.

    `facts` has `bundle_digest`, `inner` (metrics of the selection customers), `best_iteration`, `features`,
    `cpu_seconds`, `wall_seconds` and `peak_mib` of the trainer's process, its start and its imports included.
    """

    spec: TrainSpec
    bundle: Path
    facts: Mapping[str, Any]

    @property
    def bundle_bytes(self) -> int:
        """Size of all files of the bundle."""
        return sum(file.stat().st_size for file in self.bundle.rglob("*") if file.is_file())


class Models:
    """Trains and scores, keeping both in a folder under the digests of spec and code: nothing is done twice."""

    def __init__(self, folder: Path, settings: Settings, threads: int) -> None:
        """Takes where finished work is kept, the settings with the candidates, and the threads of a training."""
        self.folder, self.settings, self.threads = folder, settings, threads
        self._code = code_digest()

    def spec(self, training_set: TrainingSet, candidate: str, params: Mapping[str, Value] | None = None) -> TrainSpec:
        """What a candidate of the settings, or a model by its own name and defaults, is trained by.

        Args:
            training_set: on what.
            candidate: a name of `settings.training.candidates`, or of a model.
            params: instead of the candidate's own.

        Raises:
            TrainingError: there is no such candidate or model, or a parameter is unknown or out of range.
        """
        known = self.settings.training.candidates
        if candidate in known:
            spec = TrainSpec.model_validate(make_specs(self.settings, training_set.summary(), [candidate])[0])
        elif candidate in known_models():
            spec = TrainSpec(
                candidate=candidate,
                model=candidate,
                seed=self.settings.training.seed,
                training_set=TrainingSetRef(folder=training_set.folder, digest=training_set.digest),
                model_name=self.settings.mlflow.model_name,
            )
        else:
            names = ", ".join(sorted({*known, *known_models()}))
            raise TrainingError(f"candidate {candidate!r} is unknown, must be one of: {names}")
        spec = spec.model_copy(update={"threads": self.threads, **({} if params is None else {"params": dict(params)})})
        spec.resolved()
        return spec

    def candidates(self, training_set: TrainingSet) -> list[str]:
        """Candidates of the settings, enabled or not, whose features the training set has; the others are told."""
        names = [name for name, _ in training_set.features]
        able = []
        for name in self.settings.training.candidates:
            spec = self.spec(training_set, name)
            try:
                candidate_class(spec.model).features(spec.resolved(), names)
            except TrainingError as error:
                self._say(f"leaving out {name}: {error}")
            else:
                able.append(name)
        return able

    def train(self, spec: TrainSpec) -> Trained:
        """Trains in a process of its own, whose memory and seconds are its own; what is finished already is found.

        Raises:
            TrainingError: the trainer failed; tells its last line.
        """
        place = self._place(spec)
        bundle, facts = place / "bundle", place / "facts.json"
        if not facts.is_file():
            self._say(f"training {spec.candidate} on {spec.training_set.digest[:12]}")
            write_whole(place / "spec.json", spec.model_dump_json())
            command = [sys.executable, "-m", "evergreen.jobs.bench_models", "--spec", str(place / "spec.json")]
            command += ["--out", str(bundle), "--result", str(facts)]
            # Read by OpenMP and BLAS when they are loaded.
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(spec.threads))
            done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
                raise TrainingError(f"training {spec.candidate} ended with code {done.returncode}: {last}")
        return Trained(spec, bundle, json.loads(facts.read_text()))

    def scores(self, trained: Trained, on: TrainingSet, split: Split | None = None) -> Scores:
        """Calibrated scores of the holdout of a training set, or of the customers of one of its splits.

        Raises:
            BundleError: the bundle is damaged, or needs a feature that the training set lacks.
        """
        from evergreen.models.bundle import load_bundle

        name = f"{on.digest[:32]}-{split or 'holdout'}.parquet"
        file = self._place(trained.spec) / "scores" / name
        if not file.is_file():
            rows = StoredColumns(on.file(INNER if split else HOLDOUT), split)
            probabilities = load_bundle(trained.bundle, trained.facts["bundle_digest"]).predict(rows)
            made = labelled(rows, probabilities)
            draft = made.save(file.with_name(f".{os.getpid()}-{name}"))
            draft.rename(file)
        return Scores.load(file)

    def narrowed(self, training_set: TrainingSet, groups: Collection[str]) -> TrainingSet:
        """The same rows with the features of these groups alone: its manifest lists no others, its files are linked.

        Raises:
            TrainingError: the training set has no feature of these groups.
        """
        of_group = groups_of(training_set)
        kept = {name for group in groups for name in of_group.get(group, ())}
        if not kept:
            raise TrainingError(f"training set {training_set.digest[:12]} has no feature of {', '.join(groups)}")
        content = dict(training_set.manifest["content"])
        content["features"] = [entry for entry in content["features"] if entry["name"] in kept]
        digest = digest_json(content)
        folder = self.folder / "training_sets" / digest
        folder.mkdir(parents=True, exist_ok=True)
        for name in training_set.manifest["files"]:
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(training_set.file(name).resolve())
        write_whole(folder / MANIFEST, json.dumps({**training_set.manifest, "content": content, "digest": digest}))
        return TrainingSet.open(folder, digest)

    def _place(self, spec: TrainSpec) -> Path:
        return self.folder / "models" / digest_json([spec.digest, self._code])[:32]

    @staticmethod
    def _say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def groups_of(training_set: TrainingSet) -> dict[str, list[str]]:
    """Features of a training set by the group that the registry puts them in, both in the registry's order."""
    present = {name for name, _ in training_set.features}
    groups: dict[str, list[str]] = {}
    for feature in KNOWN:
        if feature.name in present:
            groups.setdefault(feature.group, []).append(feature.name)
    return groups


def labelled(rows: StoredColumns, probabilities: Any) -> Scores:
    """Probabilities beside the keys and labels of their rows; without slices, which no bench of models reads."""
    return Scores(
        np.asarray(rows["customer_id"], object),
        np.asarray(rows["product_id"], object),
        rows.labels(),
        np.asarray(probabilities, np.float64),
    )


def train_measured(spec_file: Path, out: Path) -> dict[str, Any]:
    """Trains by a spec, and tells the seconds and the greatest memory of this process beside the trainer's result."""
    from evergreen.training.trainer import train

    started = perf_counter()
    result = train(read_spec(spec_file), out, out.with_name("work"))
    return {
        **{name: value for name, value in result.items() if name not in ("folder", "seconds")},
        "cpu_seconds": round(sum(os.times()[:4]), 1),
        "wall_seconds": round(perf_counter() - started, 1),
        "peak_mib": round(peak_mib()),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.bench_models --spec FILE --out FOLDER [--result FILE]`: one measured training."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.bench_models", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="training spec, JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--result", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)
    return run_job(lambda: train_measured(given.spec, given.out), given.result)


if __name__ == "__main__":
    sys.exit(main())
