"""The shape that feature tables, Feast views and models agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["int64", "float64", "string", "list<int64>"]


@dataclass(frozen=True)
class Column:
    """One stored column of a feature table."""

    name: str
    kind: Kind
    doc: str
    default: float | str | None = None  # how a missing entity reads


@dataclass(frozen=True)
class Feature:
    """One model feature, made by the time-relative module from stored columns and `as_of`."""

    name: str
    kind: Literal["float64", "int64", "string"]
    group: str  # pair, customer, product, interaction, calendar
    doc: str
