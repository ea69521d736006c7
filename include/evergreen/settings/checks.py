"""Settings of what a candidate is put through before it is judged: changed inputs, its data, its artefact."""

from __future__ import annotations

from pydantic import Field

from evergreen.settings.base import Section


class BehaviourSettings(Section):
    """Behaviour tests on rows of the holdout whose features are edited."""

    rows: int = Field(3000, ge=100, description="Rows of the holdout that are edited, at most.")
    customers: int = Field(300, ge=10, description="Customers who are given a weekly purchase, at most.")
    seed: int = Field(17, ge=0, description="Seed of the choice of rows.")
    max_change: float = Field(
        1e-6, ge=0, description="Greatest change of a probability by other identifiers or another order of the rows."
    )
    max_rename_change: float = Field(
        0.25,
        ge=0,
        description="Greatest mean change of a probability when a product gets another name, as a share of the mean "
        "probability. Models may read words, but not live by them.",
    )
    max_direction_loss: float = Field(
        0.05,
        ge=0,
        description="By how much a more recent purchase, or one more, may lower the mean probability, as a share of "
        "it. Not 0: in a shop whose customers buy in a rhythm, what was bought yesterday is not due yet.",
    )
    min_weekly_first: float = Field(
        0.7, gt=0, le=1, description="Share of customers for whom a product bought every week must come first."
    )


class RobustnessSettings(Section):
    """What broken features may cost. Each limit names `missing`, `noisy` and `nudged` features."""

    rows: int = Field(20_000, ge=500, description="Rows of the holdout with missing and with noisy features, at most.")
    nudged_rows: int = Field(4_000, ge=200, description="Rows of the holdout that are nudged, at most.")
    seed: int = Field(19, ge=0, description="Seed of the choice of rows, cells and noise.")
    missing_share: float = Field(0.1, gt=0, lt=1, description="Share of all values that go missing.")
    noise: float = Field(
        0.1, gt=0, description="Standard deviation of the noise on each number, in its own standard deviations."
    )
    nudge: float = Field(
        0.1, gt=0, description="How far each number is nudged, in its own standard deviations, the worse way."
    )
    nudged_features: int = Field(5, ge=1, description="Numbers that are nudged: those that move the scores most.")
    max_roc_auc_loss: dict[str, float] = Field(
        {"missing": 0.04, "noisy": 0.03, "nudged": 0.2}, description="Greatest loss of ROC AUC."
    )
    max_average_precision_loss_share: dict[str, float] = Field(
        {"missing": 0.25, "noisy": 0.2, "nudged": 0.75},
        description="Greatest loss of average precision, as a share of it.",
    )


class FairnessSettings(Section):
    """How far a slice may lie from all other pairs of its dimension."""

    dimensions: tuple[str, ...] = Field(
        ("country", "tenure"), description="Dimensions whose slices must be treated alike."
    )
    max_gap: dict[str, float] = Field(
        {"recall": 0.5, "calibration": 0.7},
        description="Greatest gap of `recall` (at the policy's threshold: equal opportunity) and of `calibration` "
        "(logarithm of mean probability over share bought).",
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="Chance of failing a fair candidate, over all slices (Holm).")


class PoisoningSettings(Section):
    """When a training set counts as tampered with."""

    max_contradicted_share: float = Field(
        0.00002,
        ge=0,
        lt=1,
        description="Share of checked labels that may contradict later features of the pair. Sound sets have none.",
    )
    min_checked_share: float = Field(
        0.2, ge=0, le=1, description="Share of labels that must be checkable against later features."
    )
    twin_similarity: float = Field(
        0.4, gt=0, le=1, description="Two customers whose pairs overlap by this share (Jaccard) are twins."
    )
    twin_min_pairs: int = Field(
        4, ge=2, description="Fewest pairs of a customer: with fewer, strangers look alike by chance."
    )
    max_twin_share: float = Field(0.005, ge=0, lt=1, description="Share of customers who may have a twin.")


class InfraSettings(Section):
    """What the bundle may need in the real scoring code, in a process of its own."""

    golden_rows: int = Field(1000, ge=10, description="Rows of the holdout that are scored there and here.")
    max_difference: float = Field(
        1e-6, ge=0, description="Greatest difference of a probability between there and here."
    )
    max_size_mb: float = Field(500.0, gt=0, description="Greatest size of the bundle on disk, MB.")
    max_memory_mb: float = Field(
        3072.0, gt=0, description="Memory of the process, MB: it can have no more, and its peak must stay below."
    )
    max_load_seconds: float = Field(20.0, gt=0, description="Longest CPU time to import, verify, load and answer once.")
    max_row_ms: float = Field(50.0, gt=0, description="Longest CPU time for a row that comes alone, ms.")
    max_batch_ms: float = Field(2000.0, gt=0, description="Longest CPU time for a thousand rows, ms.")
    timeout_seconds: float = Field(120.0, gt=0, description="The process is ended after so long, whatever it does.")


class ExplanationLimitSettings(Section):
    """When explanations are not sane."""

    min_random_place: float = Field(
        0.1, ge=0, le=1, description="A column of random numbers may not rank in this first share of the features."
    )
    max_random_share: float = Field(
        0.02, ge=0, le=1, description="Greatest share of the importance that a column of random numbers may have."
    )
    max_additivity_error: float = Field(
        1e-3, ge=0, description="Greatest difference between the sum of a row's contributions and its score."
    )
