"""What each candidate and each feature group adds on real holdouts, and what a refit after the verdict would add.

Beside it, on the sample: the regret of each candidate against the true probabilities. Every model is trained by the
trainer itself, in a process of its own. What is finished is kept: a bench that was ended goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evergreen.errors import TrainingError
from evergreen.evaluation.intervals import bootstrap, drawn, paired_gains, percentile_interval
from evergreen.evaluation.metrics import Panel
from evergreen.evaluation.scores import Scores
from evergreen.jobs.bench_models import Models, Trained, groups_of
from evergreen.jobs.bench_verdict import training_set_on
from evergreen.jobs.entry import run_job
from evergreen.models.params import Value
from evergreen.settings import Settings, load_settings
from evergreen.settings.evaluation import EvaluationSettings
from evergreen.training.dataset import HOLDOUT, StoredColumns, TrainingSet
from evergreen.training.provenance import code_digest
from evergreen.training.splits import Split

TOLD = ("roc_auc", "average_precision", "ndcg_at_10", "log_loss")

Figures = dict[str, dict[str, float | None]]


def compare(
    models: Models,
    training_set: TrainingSet,
    candidates: Sequence[str],
    main_candidate: str,
    reference: tuple[TrainingSet, Mapping[str, Value] | None] | None = None,
) -> dict[str, Any]:
    """Metrics and cost of each candidate, and its gain over the reference on the same pairs.

    Args:
        models: trains and scores.
        training_set: on which the candidates are trained; its holdout is scored.
        candidates: names.
        main_candidate: the reference, where no other is given.
        reference: another training set of the same holdout, on which the main candidate is trained as the reference,
            and its parameters (None: its own).

    Raises:
        TrainingError: a training failed.
        EvaluationError: the reference's holdout has other pairs.
    """
    settings = models.settings
    on, params = reference or (training_set, None)
    rival = models.train(models.spec(on, main_candidate, params))
    rival_scores = models.scores(rival, on)
    rows = []
    for name in candidates:
        trained = models.train(models.spec(training_set, name))
        scores = models.scores(trained, training_set)
        itself = trained.facts["bundle_digest"] == rival.facts["bundle_digest"]
        rows.append(
            {
                **_told(trained, scores, settings.evaluation),
                "selection": {
                    name: trained.facts["inner"][name] for name in ("roc_auc", "average_precision", "log_loss")
                },
                "gain": None if itself else gains(scores, rival_scores, settings.evaluation),
            }
        )
        print(f"{training_set.holdout} {name}: {json.dumps(rows[-1]['metrics'])}", file=sys.stderr, flush=True)
    metric, sign = settings.training.primary_metric.value, -1 if settings.training.primary_metric == "log_loss" else 1
    return {
        **_of_set(training_set),
        "reference": {**_of_set(on), **_told(rival, rival_scores, settings.evaluation)},
        "candidates": rows,
        "chosen": max(rows, key=lambda row: sign * row["selection"][metric])["candidate"],
    }


def feature_groups(models: Models, training_set: TrainingSet, candidate: str) -> dict[str, Any]:
    """What each group of features adds to all others (`last`), and what it reaches alone (`alone`).

    Both are told of the selection customers at the training dates, and of the holdout.
    """
    evaluation = models.settings.evaluation
    groups = groups_of(training_set)
    everything = models.train(models.spec(training_set, candidate))
    whole = {place: models.scores(everything, training_set, split) for place, split in PLACES.items()}
    rows = []
    for group, names in groups.items():
        row: dict[str, Any] = {"group": group, "features": len(names)}
        if others := [name for name in groups if name != group]:
            less = models.train(models.spec(models.narrowed(training_set, others), candidate))
            row["last"] = {
                place: gains(whole[place], models.scores(less, training_set, split), evaluation)
                for place, split in PLACES.items()
            }
            alone = models.train(models.spec(models.narrowed(training_set, [group]), candidate))
            row["alone"] = {
                place: intervals(models.scores(alone, training_set, split), evaluation)
                for place, split in PLACES.items()
            }
        rows.append(row)
        print(f"{training_set.holdout} {group}: {json.dumps(row)}", file=sys.stderr, flush=True)
    return {
        **_of_set(training_set),
        "candidate": candidate,
        "all": {place: intervals(scores, evaluation) for place, scores in whole.items()},
        "groups": rows,
    }


def refit(models: Models, earlier: TrainingSet, later: TrainingSet, candidate: str) -> dict[str, Any]:
    """What a model gains that is trained again with the labels by which the promoted one was judged.

    The promoted model is that of the earlier training set, judged on its holdout. The refitted one is that of the later
    set. Both score the later holdout, the first that neither has seen.

    Raises:
        TrainingError: the later holdout begins before the earlier one's labels are known.
    """
    horizon = int(earlier.manifest["content"]["horizon_days"])
    apart = (later.holdout - earlier.holdout).days
    if apart < horizon:
        raise TrainingError(
            f"the holdouts {earlier.holdout} and {later.holdout} are {apart} days apart, expected {horizon} or more: "
            "the promoted model's verdict must be known when its successor is judged"
        )
    evaluation = models.settings.evaluation
    promoted, refitted = (models.train(models.spec(one, candidate)) for one in (earlier, later))
    old, new = models.scores(promoted, later), models.scores(refitted, later)
    return {
        "candidate": candidate,
        "judged": str(later.holdout),
        "days_after_the_verdicts_holdout": apart,
        "promoted": {**_of_set(earlier), **_told(promoted, old, evaluation)},
        "refitted": {**_of_set(later), **_told(refitted, new, evaluation)},
        "gain": gains(new, old, evaluation),
    }


def sample_regret(models: Models, training_set: TrainingSet, candidates: Sequence[str]) -> dict[str, Any]:
    """What each candidate loses against the true probabilities of the sample's retailer.

    `regret` is the oracle's gain on the labels that came true. `expected_regret` is over all labels that could have:
    the mean Kullback-Leibler divergence of the candidate's probability from the true one, nats a pair.

    Raises:
        TrainingError: the training set is not of the sample that the settings describe.
    """
    evaluation = models.settings.evaluation
    truth = true_scores(training_set, models.settings)
    rows = []
    for name in candidates:
        trained = models.train(models.spec(training_set, name))
        scores = models.scores(trained, training_set)
        rows.append(
            {
                **_told(trained, scores, evaluation),
                "regret": gains(truth, scores, evaluation),
                "expected_regret": expected_regret(truth, scores, evaluation),
            }
        )
        print(f"sample {name}: {json.dumps(rows[-1])}", file=sys.stderr, flush=True)
    return {
        **_of_set(training_set),
        "sample": models.settings.sample.model_dump(mode="json"),
        "pairs": len(truth),
        "positives": int(truth.labels.sum()),
        "expected_positives": round(float(truth.probabilities.sum()), 1),
        "oracle": intervals(truth, evaluation),
        "candidates": rows,
    }


def true_scores(training_set: TrainingSet, settings: Settings) -> Scores:
    """The holdout's pairs with their true probabilities.

    Raises:
        TrainingError: a pair is unknown to the retailer of the settings.
    """
    import pandas as pd

    from evergreen.ingest.sample import true_probabilities
    from evergreen.jobs.bench_models import labelled

    horizon = int(training_set.manifest["content"]["horizon_days"])
    rows = StoredColumns(training_set.file(HOLDOUT))
    scores = labelled(rows, np.zeros(rows.rows))
    truth = true_probabilities(settings.sample, training_set.holdout, horizon)
    keys = pd.DataFrame({"customer_id": scores.customer_ids, "product_id": scores.product_ids})
    found = keys.merge(truth, how="left", on=["customer_id", "product_id"], validate="one_to_one")["probability"]
    if unknown := int(found.isna().sum()):
        raise TrainingError(
            f"{unknown:,} of {len(found):,} pairs of training set {training_set.digest[:12]} are unknown to the sample "
            "of settings.sample: give one that was made from it (./evergreen run without --source)"
        )
    return Scores(scores.customer_ids, scores.product_ids, scores.labels, found.to_numpy(np.float64))


def intervals(scores: Scores, settings: EvaluationSettings) -> Figures:
    """The told metrics with their intervals, customers resampled."""
    found = bootstrap(Panel(scores, settings), TOLD).intervals(settings.confidence)
    return {name: interval.as_dict() for name, interval in found.items()}


def gains(scores: Scores, rival: Scores, settings: EvaluationSettings) -> Figures:
    """Paired gains with their intervals; positive is better, log loss included.

    Raises:
        EvaluationError: the two did not score the same pairs in the same order.
    """
    return {name: gain.as_dict() for name, gain in paired_gains(scores, rival, settings, TOLD).items()}


def expected_regret(truth: Scores, scores: Scores, settings: EvaluationSettings) -> dict[str, float | None]:
    """Mean Kullback-Leibler divergence of probabilities from the true ones, nats a pair, with its interval.

    That is what the log loss is expected to exceed the oracle's by, the labels being drawn by the true probabilities.
    """
    import pandas as pd

    truth.check_same_pairs(scores)
    eps = np.finfo(np.float64).eps
    true, said = (np.clip(one.probabilities, eps, 1 - eps) for one in (truth, scores))
    divergence = true * np.log(true / said) + (1 - true) * np.log((1 - true) / (1 - said))
    codes, customers = pd.factorize(truth.customer_ids, sort=True)
    sums, pairs = np.bincount(codes, weights=divergence), np.bincount(codes)
    samples = [(sums @ weights) / (pairs @ weights) for weights in drawn(len(customers), settings)]
    return percentile_interval(float(divergence.mean()), np.concatenate(samples), settings.confidence).as_dict()


PLACES: dict[str, Split | None] = {"selection": Split.SELECTION, "holdout": None}
"""Where feature groups are judged: a split of the training dates, or the holdout."""


def _of_set(training_set: TrainingSet) -> dict[str, Any]:
    return {
        "training_set": training_set.digest,
        "holdout": str(training_set.holdout),
        "dates": len(training_set.as_ofs),
        "newest_date": str(training_set.as_ofs[-1]),
        "rows": training_set.rows,
        "features_listed": len(training_set.features),
    }


def _told(trained: Trained, scores: Scores, settings: EvaluationSettings) -> dict[str, Any]:
    facts = trained.facts
    return {
        "candidate": trained.spec.candidate,
        "model": trained.spec.model,
        "params": dict(trained.spec.params),
        "bundle": facts["bundle_digest"],
        "bundle_bytes": trained.bundle_bytes,
        **{name: facts[name] for name in ("features", "best_iteration", "cpu_seconds", "wall_seconds", "peak_mib")},
        "metrics": intervals(scores, settings),
    }


def measure(
    models: Models,
    sets: Iterable[TrainingSet],
    candidates: Sequence[str],
    main_candidate: str,
    *,
    references: Iterable[TrainingSet] = (),
    reference_params: Mapping[str, Value] | None = None,
    groups: bool = False,
    refits: Iterable[tuple[TrainingSet, TrainingSet]] = (),
    sample: TrainingSet | None = None,
) -> dict[str, Any]:
    """All tables that are asked for; with no candidates named, of all that a training set has the features for.

    Raises:
        TrainingError: a reference has the holdout of no training set, or a training failed.
    """
    sets, on = list(sets), {one.holdout: one for one in references}
    if lonely := sorted(set(on) - {one.holdout for one in sets}):
        raise TrainingError(f"a reference has holdout {lonely[0]}, which no training set of --on has")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "threads": models.threads,
        "code": code_digest(),
        "resamples": models.settings.evaluation.resamples,
        "confidence": models.settings.evaluation.confidence,
        "on": [
            compare(
                models,
                one,
                candidates or models.candidates(one),
                main_candidate,
                (on[one.holdout], reference_params) if one.holdout in on else None,
            )
            for one in sets
        ],
        "groups": [feature_groups(models, one, main_candidate) for one in sets] if groups else [],
        "refits": [refit(models, *pair, main_candidate) for pair in refits],
        "sample": sample_regret(models, sample, candidates or models.candidates(sample)) if sample else None,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evergreen.jobs.bench_candidates [--on FOLDER ...] [--groups] [--refit A B] [--sample FOLDER]`."""
    parser = argparse.ArgumentParser(prog="evergreen.jobs.bench_candidates", description=__doc__)
    add = parser.add_argument
    add("--on", type=Path, action="append", default=[], metavar="SET", help="training set's folder or home; repeatable")
    add("--candidates", default="", help="names, with commas between; default: all of the settings that can be trained")
    add("--main", default="xgboost", help="the candidate that others are compared with; of --groups and --refit too")
    add(
        "--reference", type=Path, action="append", default=[], metavar="SET",
        help="compare with --main trained on this set, of the same holdout as one of --on; repeatable",
    )  # fmt: skip
    add("--reference-params", type=json.loads, metavar="JSON", help="parameters of that model, instead of its own")
    add("--groups", action="store_true", help="also what each feature group adds to --main")
    add(
        "--refit", type=Path, nargs=2, action="append", default=[], metavar=("EARLIER", "LATER"),
        help="also what --main gains, trained on the later set instead of the earlier; repeatable",
    )  # fmt: skip
    add("--sample", type=Path, metavar="SET", help="also regret on this set (or home), made from the generated sample")
    add("--work", type=Path, help="folder of finished models and scores; default: bench_candidates of the home")
    add("--threads", type=int, help="threads of a training; default: those of the settings")
    add("--out", type=Path, help="also write the JSON line to this file")
    given = parser.parse_args(arguments)

    def job() -> dict[str, Any]:
        settings = load_settings()
        work = given.work or settings.home_path / "bench_candidates"
        models = Models(work, settings, given.threads or settings.training.trainer_threads)
        names = [name.strip() for name in given.candidates.split(",") if name.strip()]
        if not (given.on or given.refit or given.sample):
            given.on.append(settings.home_path)
        found = measure(
            models,
            map(training_set_on, given.on),
            names,
            given.main,
            references=map(training_set_on, given.reference),
            reference_params=given.reference_params,
            groups=given.groups,
            refits=[(training_set_on(earlier), training_set_on(later)) for earlier, later in given.refit],
            sample=training_set_on(given.sample) if given.sample else None,
        )
        return {"command": _command(given), **found}

    return run_job(job, given.out)


def _command(given: argparse.Namespace) -> str:
    """How to do it again; folders of this machine are not told."""
    parts = [
        "./evergreen bench candidates --",
        *["--on SET"] * len(given.on),
        *["--reference SET"] * len(given.reference),
    ]
    if given.reference_params is not None:
        parts.append(f"--reference-params '{json.dumps(given.reference_params)}'")
    if given.candidates:
        parts.append(f"--candidates {given.candidates}")
    parts += [f"--main {given.main}", *["--groups"] * given.groups, *["--refit EARLIER LATER"] * len(given.refit)]
    return " ".join([*parts, *["--sample SET"] * bool(given.sample)])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a training under way ends with the bench
    sys.exit(main())
