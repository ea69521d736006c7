"""What a network is built from, as a JSON document: which column goes to which encoder, and how wide everything is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from evergreen.features.registry import CATEGORICAL
from evergreen.models.candidate import Matrix

FORMAT = "evergreen.network/1"


@dataclass(frozen=True)
class Category:
    """A column of codes from -1 (unknown) to `size - 2`."""

    column: int
    size: int


@dataclass(frozen=True)
class Layout:
    """The network's graph but for its weights."""

    names: tuple[str, ...]  # columns of the matrix, in order
    numbers: tuple[int, ...]
    categories: tuple[Category, ...]
    embedding: int  # width of a category's vector
    width: int
    depth: int
    dropout: float

    @classmethod
    def of(
        cls, names: Sequence[str], matrix: Matrix, *, embedding: int, width: int, depth: int, dropout: float
    ) -> Self:
        """The layout for preprocessed columns; sizes of categories are those of the codes in `matrix`."""
        categories = tuple(
            Category(column, int(matrix[:, column].max(initial=-1)) + 2)
            for column, name in enumerate(names)
            if name in CATEGORICAL
        )
        taken = {category.column for category in categories}
        numbers = tuple(column for column in range(len(names)) if column not in taken)
        return cls(tuple(names), numbers, categories, embedding, width, depth, dropout)

    def to_json(self) -> dict[str, Any]:
        """The layout as a JSON document."""
        return {"format": FORMAT, **asdict(self)}

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
        for name in ("names", "numbers"):
            given[name] = tuple(given[name])
        return cls(**given)


def check_columns(layout: Layout, matrix: np.ndarray[Any, Any]) -> None:
    """Raises ValueError where a matrix has another number of columns than the layout."""
    if matrix.ndim != 2 or matrix.shape[1] != len(layout.names):
        raise ValueError(f"the network reads {len(layout.names)} columns, the matrix has shape {matrix.shape}")
