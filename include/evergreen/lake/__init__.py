"""The lake: Delta tables that are staged, audited and published by one commit, and read at pinned versions."""

from evergreen.lake.publish import Published, publish
from evergreen.lake.releases import Release, latest_release, release
from evergreen.lake.staged_set import StagedSet, publish_set
from evergreen.lake.staging import Staged, begin, seal, stage_days
from evergreen.lake.table import DayFile, Lake, LakeTable

__all__ = [
    "DayFile",
    "Lake",
    "LakeTable",
    "Published",
    "Release",
    "Staged",
    "StagedSet",
    "begin",
    "latest_release",
    "publish",
    "publish_set",
    "release",
    "seal",
    "stage_days",
]
