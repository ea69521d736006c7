"""The page of settings: every key of the tree with its type, default, environment variable and description."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from evergreen.cli.reference.markdown import block, code, page, table
from evergreen.settings.load import PREFIX, PROFILES
from evergreen.settings.tree import Settings

INTRODUCTION = """\
One tree, from one YAML file a profile (`include/evergreen/settings/<profile>.yaml`), overridden by the environment. A
file holds only what differs from the defaults below. `EVERGREEN_PROFILE` chooses the profile (`local` unless it is
set), `EVERGREEN_HOME` the place of everything that is not code.

The value of a variable is read as YAML: `EVERGREEN__TRAINING__STEPS=4`,
`EVERGREEN__PROMOTION__APPROVERS='[ann, ben]'`. A mapping or list that is given replaces the default whole. Unknown
keys are errors that name the nearest known one."""

OWN_VARIABLES = {"profile": "EVERGREEN_PROFILE", "home": "EVERGREEN_HOME"}
LONGEST_DEFAULT = 60
WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", date: "day", Path: "path"}
BOUNDS = (("ge", "from {}"), ("gt", "above {}"), ("le", "to {}"), ("lt", "below {}"))


def settings_page(profiles: Path = PROFILES) -> str:
    """The page, with the content of each profile's file."""
    defaults = Settings().model_dump(mode="json")
    files = [
        part
        for file in sorted(profiles.glob("*.yaml"))
        for part in (f"### {file.stem}", block(file.read_text(), "yaml"))
    ]
    return page("Settings", INTRODUCTION, *_section(Settings, defaults, ()), "## Profiles", *files)


def type_in_words(annotation: Any) -> str:
    """What a value may be: `whole number`, `` `human` or `policy` ``, `list of text`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in WORDS:
        return WORDS[annotation]
    if origin is Literal:
        return " or ".join(code(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join("empty" if kind is type(None) else type_in_words(kind) for kind in arguments)
    if origin is tuple:
        return f"list of {type_in_words(arguments[0])}"
    if origin is dict:
        return f"mapping of {type_in_words(arguments[0])} to {type_in_words(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(code(member.value) for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return " and ".join(code(name) for name in annotation.model_fields)
    return str(annotation)


def _section(model: type[BaseModel], defaults: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    if path:
        yield f"{'#' * min(len(path) + 1, 4)} {'.'.join(path)}"
        yield " ".join((model.__doc__ or "").split())
    plain = {name: field for name, field in model.model_fields.items() if not _is_section(field)}
    rows = [_row(name, field, defaults[name], path) for name, field in plain.items()]
    yield table(("key", "type", "default", "variable", "meaning"), rows)
    for name in plain:
        if len(json.dumps(defaults[name])) > LONGEST_DEFAULT:
            yield f"Default of `{'.'.join((*path, name))}`:"
            yield block(_yaml(defaults[name]), "yaml")
    for name, field in model.model_fields.items():
        if _is_section(field) and isinstance(field.annotation, type):
            yield from _section(field.annotation, defaults[name], (*path, name))


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _row(name: str, field: FieldInfo, default: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    text = json.dumps(default, ensure_ascii=False)
    shown = "empty" if default is None else code(text) if len(text) <= LONGEST_DEFAULT else "below"
    variable = OWN_VARIABLES.get(name, "") if not path else ""
    variable = variable or PREFIX + "__".join((*path, name)).upper()
    kind = ", ".join(filter(None, [type_in_words(field.annotation), _bounds(field)]))
    return code(name), kind, shown, code(variable), field.description or ""


def _bounds(field: FieldInfo) -> str:
    found = [
        words.format(f"{value:,}" if isinstance(value, int) else value)
        for bound, words in BOUNDS
        for limit in field.metadata
        if (value := getattr(limit, bound, None)) is not None
    ]
    return " ".join(found)


def _yaml(value: Any) -> str:
    """Lists of plain values on one line, mappings on several."""
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
