"""What a network is built from, as a JSON document: which column goes to which encoder, and how wide everything is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from evergreen.features.registry import CATEGORICAL, SEQUENCES
from evergreen.models.candidate import Matrix
from evergreen.models.text import BUCKETS

FORMAT = "evergreen.network/1"


@dataclass(frozen=True)
class Category:
    """A column of codes from -1 (unknown) to `size - 2`."""

    column: int
    size: int


@dataclass(frozen=True)
class Steps:
    """Columns of a sequence: the same values of each step, newest first; a first value below 0 says that it is none."""

    name: str
    columns: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Layout:
    """The network's graph but for its weights."""

    names: tuple[str, ...]  # columns of the matrix, in order
    numbers: tuple[int, ...]
    categories: tuple[Category, ...]
    text: tuple[int, ...]  # columns of ids of the description's parts, -1 for none
    buckets: int  # ids are below it
    sequences: tuple[Steps, ...]
    embedding: int  # width of the vector of a category, of a part of a word, of a sequence
    width: int
    depth: int
    dropout: float
    text_width: int = 0  # of the vectors of a text encoder that was plugged in; 0: learnt here, as wide as the others

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        matrix: Matrix,
        *,
        embedding: int,
        width: int,
        depth: int,
        dropout: float,
        text_width: int = 0,
    ) -> Self:
        """The layout for preprocessed columns; sizes of categories are those of the codes in `matrix`."""
        categories = tuple(
            Category(column, int(matrix[:, column].max(initial=-1)) + 2)
            for column, name in enumerate(names)
            if name in CATEGORICAL
        )
        text = tuple(column for column, name in enumerate(names) if re.fullmatch(r"description \d+", name))
        place = {name: column for column, name in enumerate(names)}
        sequences = tuple(
            Steps(name, tuple(tuple(place[value] for value in step) for step in steps))
            for name, steps in SEQUENCES.items()
            if all(value in place for step in steps for value in step)
        )
        taken = {category.column for category in categories} | set(text)
        taken |= {column for sequence in sequences for step in sequence.columns for column in step}
        numbers = tuple(column for column in range(len(names)) if column not in taken)
        inputs = (tuple(names), numbers, categories, text, BUCKETS, sequences)
        return cls(*inputs, embedding, width, depth, dropout, text_width)

    def to_json(self) -> dict[str, Any]:
        """The layout as a JSON document. `text_width` stands there only where it is set: layouts of before had none."""
        fields = {name: value for name, value in asdict(self).items() if name != "text_width" or value}
        return {"format": FORMAT, **fields}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Reads what `to_json` gave.

        Raises:
            ValueError: the document is of another format.
        """
        given = dict(document)
        if given.pop("format", None) != FORMAT:
            raise ValueError(f"the network's format is {document.get('format')!r}, this code reads {FORMAT!r}")
        given["categories"] = tuple(Category(**entry) for entry in given["categories"])
        given["sequences"] = tuple(
            Steps(entry["name"], tuple(tuple(step) for step in entry["columns"])) for entry in given["sequences"]
        )
        for name in ("names", "numbers", "text"):
            given[name] = tuple(given[name])
        return cls(**given)


def check_columns(layout: Layout, matrix: np.ndarray[Any, Any]) -> None:
    """Raises ValueError where a matrix has another number of columns than the layout."""
    if matrix.ndim != 2 or matrix.shape[1] != len(layout.names):
        raise ValueError(f"the network reads {len(layout.names)} columns, the matrix has shape {matrix.shape}")
