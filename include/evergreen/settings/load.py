"""YAML of a profile, then the environment, then validation with errors that name file and line.

`EVERGREEN__A__B` overrides `a.b`; `EVERGREEN__A__B_FILE` names a file whose content does, as secrets are handed to
containers. What such a file holds is never shown.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from evergreen.errors import SettingsError
from evergreen.settings.tree import Settings

PROFILES = Path(__file__).parent
PREFIX = "EVERGREEN__"
FROM_FILE = "_FILE"

Override = tuple[str, str, bool]
"""Name without `_FILE`, value, and whether it is a secret from a file."""


def load_settings(profile: str | None = None) -> Settings:
    """The settings of a profile (default: `EVERGREEN_PROFILE`, else `local`), frozen.

    Raises:
        SettingsError: naming the setting, what was seen, what is allowed, and where it stands.
    """
    name = profile or os.environ.get("EVERGREEN_PROFILE", "local")
    return _load(name, _overrides(os.environ), os.environ.get("EVERGREEN_HOME"))


def _overrides(environment: Mapping[str, str]) -> tuple[Override, ...]:
    """What the environment overrides, files read.

    Raises:
        SettingsError: a file cannot be read, or a setting is given twice.
    """
    found: dict[str, Override] = {}
    for key, value in sorted(environment.items()):
        if not key.startswith(PREFIX):
            continue
        name = key.removesuffix(FROM_FILE)
        if name in found:
            raise SettingsError(f"environment variables {name} and {key} are both set, must be one of them")
        if key == name:
            found[name] = (name, value, False)
            continue
        try:
            found[name] = (name, Path(value).read_text().strip(), True)
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "no text"
            raise SettingsError(f"environment variable {key} names {value}, which cannot be read: {why}") from None
    return tuple(found.values())


@lru_cache(maxsize=8)
def _load(profile: str, overrides: tuple[Override, ...], home: str | None) -> Settings:
    file = PROFILES / f"{profile}.yaml"
    if not file.exists():
        known = ", ".join(sorted(path.stem for path in PROFILES.glob("*.yaml")))
        raise SettingsError(f"profile {profile!r} is unknown, must be one of: {known} (EVERGREEN_PROFILE)")
    text = file.read_text()
    tree: dict[str, Any] = yaml.safe_load(text) or {}
    for key, value, secret in overrides:
        # A secret is text as it stands: a password of digits is no number.
        _set(tree, key[len(PREFIX) :].lower().split("__"), value if secret else yaml.safe_load(value))
    tree["profile"] = profile
    if home:
        tree["home"] = home
    from_environment = {
        key[len(PREFIX) :].lower().replace("__", "."): key + (FROM_FILE if secret else "")
        for key, _, secret in overrides
    }
    _refuse_unknown(Settings, tree, (), file, text, from_environment)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(str(part) for part in first["loc"])
        seen = repr(first.get("input"))  # a whole section where keys do not fit together
        for value in (value for _, value, secret in overrides if secret and value):
            seen = seen.replace(value, "***")
        where = _where(path, file, text, from_environment)
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"settings.{'.'.join(path)} is {seen}: {message} ({where})") from None


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        child = tree.setdefault(part, {})
        if not isinstance(child, dict):
            child = tree[part] = {}
        tree = child
    tree[path[-1]] = value


def _refuse_unknown(
    model: type[BaseModel],
    tree: dict[str, Any],
    path: tuple[str, ...],
    file: Path,
    text: str,
    from_environment: dict[str, str],
) -> None:
    for key, value in tree.items():
        here = (*path, str(key))
        field = model.model_fields.get(str(key))
        if field is None:
            close = difflib.get_close_matches(str(key), model.model_fields, n=1, cutoff=0.0)
            hint = f"the nearest known one is settings.{'.'.join((*path, close[0]))}" if close else "it has no keys"
            raise SettingsError(
                f"settings.{'.'.join(here)} is not known; {hint} ({_where(here, file, text, from_environment)})"
            )
        inner = field.annotation
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, BaseModel):
            _refuse_unknown(inner, value, here, file, text, from_environment)


def _where(path: tuple[str, ...], file: Path, text: str, from_environment: dict[str, str]) -> str:
    for length in range(len(path), 0, -1):
        if variable := from_environment.get(".".join(path[:length])):
            return f"environment variable {variable}"
    line = _line_of(path, text)
    shown = f"include/evergreen/settings/{file.name}"
    return f"{shown}, line {line}" if line else f"default, not in {shown}"


def _line_of(path: tuple[str, ...], text: str) -> int | None:
    node = yaml.compose(text)
    line: int | None = None
    for part in path:
        if not isinstance(node, yaml.MappingNode):
            break
        found = next(((key, value) for key, value in node.value if key.value == part), None)
        if found is None:
            return line
        line, node = found[0].start_mark.line + 1, found[1]
    return line
