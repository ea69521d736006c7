"""Typed settings: one frozen tree from one YAML file a profile, overridden by `EVERGREEN__SECTION__KEY`."""

from evergreen.settings.load import load_settings
from evergreen.settings.tree import Settings

__all__ = ["Settings", "load_settings"]
