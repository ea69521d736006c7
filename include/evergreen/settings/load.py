"""YAML of a profile, then the environment, then validation with errors that name file and line.

`EVERGREEN__A__B` overrides `a.b`; `EVERGREEN__A__B_FILE` names a file whose content does, as secrets are handed to
containers. What such a file holds is never shown.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from evergreen.errors import SettingsError
from evergreen.settings.prediction import ACTIVE_DAYS, HORIZON_DAYS
from evergreen.settings.training import TrainingSettings
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
    _refuse_misspelled()
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
    tree = _read(text, f"include/evergreen/settings/{file.name}") or {}
    if not isinstance(tree, dict):
        raise SettingsError(f"include/evergreen/settings/{file.name} holds {tree!r}, must hold sections with keys")
    for key, value, secret in overrides:
        # A secret is text as it stands: a password of digits is no number.
        read = value if secret else _read(value, f"environment variable {key}")
        _set(tree, key[len(PREFIX) :].lower().split("__"), read)
    tree["profile"] = profile
    if home:
        tree["home"] = home
    from_environment = {
        key[len(PREFIX) :].lower().replace("__", "."): key + (FROM_FILE if secret else "")
        for key, _, secret in overrides
    }
    _refuse_unknown(Settings, tree, (), file, text, from_environment)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(str(part) for part in first["loc"])
        seen = repr(first.get("input"))  # a whole section where keys do not fit together
        for value in (value for _, value, secret in overrides if secret and value):
            seen = seen.replace(value, "***")
        where = _where(path, file, text, from_environment)
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"settings.{'.'.join(path)} is {seen}: {message} ({where})") from None
    _refuse_other_days(settings.training, lambda key: _where(("training", key), file, text, from_environment))
    return settings


def _read(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SettingsError(f"{where}{line} is no YAML: {problem}; quote texts with signs in them") from None


def _refuse_misspelled() -> None:
    """A variable with one underscore for two would be passed over in silence."""
    for section, field in Settings.model_fields.items():
        inner = field.annotation
        keys = inner.model_fields if isinstance(inner, type) and issubclass(inner, BaseModel) else {}
        for key in keys:
            meant = f"{PREFIX}{section}__{key}".upper()
            if (name := meant.replace("__", "_")) in os.environ:
                raise SettingsError(f"environment variable {name} is not read, must be spelt {meant}: rename it")


def _refuse_other_days(training: TrainingSettings, where: Callable[[str], str]) -> None:
    for name, made in (("horizon_days", HORIZON_DAYS), ("active_days", ACTIVE_DAYS)):
        if (seen := getattr(training, name)) != made:
            raise SettingsError(
                f"settings.training.{name} is {seen}, must be {made}: features and Feast's views are made for it; "
                f"another one is a change of include/evergreen/settings/prediction.py ({where(name)})"
            )


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
    inside = f"{'.'.join(path)}."
    if variable := next((from_environment[key] for key in from_environment if key.startswith(inside)), None):
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
