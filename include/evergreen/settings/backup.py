"""Settings of backups."""

from __future__ import annotations

from pydantic import Field

from evergreen.settings.base import Section


class BackupSettings(Section):
    """Where backups lie, how many are kept, and whether one is made every week."""

    folder: str = Field(
        "",
        description="Folder of all backups, absolute or relative to the folder that `home` lies in; each workspace has "
        "one of its own in it. Best on another disk. Empty: beside `home`, with `-backups` after its name.",
    )
    keep: int = Field(
        2, ge=1, description="Backups of a workspace that are kept; older ones are removed after a new one."
    )
    weekly: bool = Field(True, description="`maintain_platform` makes a backup every week, and tries a restore of it.")
