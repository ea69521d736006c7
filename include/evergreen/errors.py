"""Errors that a person can act on: what was seen, what was expected, what to do."""

from __future__ import annotations


class EvergreenError(Exception):
    """Base of all errors that Evergreen raises on purpose.

    The message is one line: what was seen, what was expected, what to do next. The command line prints it behind
    `evergreen: ` and exits with 1; Airflow shows it as the task's failure.
    """


class SettingsError(EvergreenError):
    """A setting is unknown, has the wrong type or lies outside its limits."""


class SourceError(EvergreenError):
    """A source cannot be read, or its columns do not meet the contract."""


class SourceNotReadyError(SourceError):
    """The source has nothing for the day yet (later than its last day, or its drop has not landed)."""


class DataQualityError(EvergreenError):
    """An expectation marked `fail` does not hold on staged data: nothing was published."""


class PublishRefusedError(EvergreenError):
    """Another writer published the same day first: nothing of this attempt was committed."""


class LakeError(EvergreenError):
    """A table, version or day that was asked for is not in the lake."""


class FeatureStoreError(EvergreenError):
    """Online and offline features disagree, or a join lost or added rows."""


class TrainingError(EvergreenError):
    """A training spec or a training set cannot be used."""


class BundleError(EvergreenError):
    """A model bundle is incomplete, altered, or asks for a model that this code does not know."""


class PromotionRefusedError(EvergreenError):
    """Evidence, approval or champion state does not allow this promotion: the champion is unchanged."""


class ReproductionError(EvergreenError):
    """A past version cannot be made again, or what was made is not what was recorded; names the first difference."""


class LedgerError(EvergreenError):
    """The ledger's hash chain does not hold, or an entry cannot be written."""


class PlatformError(EvergreenError):
    """A part of the platform (Airflow, Java, a port, the disk) is missing, taken or does not answer."""


class DeployError(PlatformError):
    """A deployment cannot start, did not become healthy, or cannot go back."""


class BackupError(PlatformError):
    """A backup cannot be made, is not whole, or cannot be restored where it should be: nothing was changed."""


class DiskFullError(PlatformError):
    """A file could not be written for lack of space: what was there before stays, what was begun does not count."""


class EvaluationError(EvergreenError):
    """Scores cannot be judged: empty, not finite, or not of the same pairs as those they are compared with."""
