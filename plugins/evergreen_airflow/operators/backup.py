"""The weekly backup, and the drill that restores it into a folder that is removed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from evergreen_airflow.failures import fails_plainly
from evergreen_airflow.operators.maintenance import CleanUpOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class BackupOperator(CleanUpOperator):
    """Backs up the workspace and removes backups that are too old; skips where `settings.backup.weekly` is off."""

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:
        """Returns the backup's folder and digest, its bytes and which of them are new, and the older ones removed."""
        from evergreen.backup.make import make_backup
        from evergreen.backup.steps import Steps
        from evergreen.settings import load_settings

        settings = load_settings()
        if not settings.backup.weekly:
            raise AirflowSkipException("settings.backup.weekly is off: ./evergreen backup makes one by hand")
        if self.dry_run_asked:
            raise AirflowSkipException("a dry run makes no backup")
        made = make_backup(settings, Steps(self.log.info))
        return {
            "folder": str(made.folder),
            "digest": made.manifest.digest,
            "bytes": made.manifest.size,
            "new_bytes": made.copied_bytes,
            "removed": made.removed,
        }


class RestoreDrillOperator(CleanUpOperator):
    """Restores the newest backup into a temporary home, with every check of a real restore."""

    @fails_plainly
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Returns the steps with their seconds; skips where there is no backup and none is made every week."""
        from evergreen.backup.places import backups, backups_folder
        from evergreen.backup.restore import drill
        from evergreen.backup.steps import Steps
        from evergreen.settings import load_settings

        settings = load_settings()
        if self.dry_run_asked:
            raise AirflowSkipException("a dry run tries no restore")
        if not settings.backup.weekly and not backups(backups_folder(settings)):
            raise AirflowSkipException("there is no backup, and settings.backup.weekly is off: nothing to try")
        done = drill(settings, Steps(self.log.info))
        for step in done.steps.done:
            self.log.info("  %-18s %7.1f s  %s", step.step, step.seconds, step.detail)
        return done.steps.rows()
