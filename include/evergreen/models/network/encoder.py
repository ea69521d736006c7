"""A text encoder that was trained before: a folder with a vector for each id of a description's parts.

`encoder.safetensors` holds the table, float32[BUCKETS, dimension]; `encoder.json` says how a text becomes ids, the
SHA-256 of the table, and where it comes from. The SHA-256 of that document names the encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evergreen.errors import TrainingError
from evergreen.files import file_sha256
from evergreen.lake.digest import digest_json
from evergreen.models.text import BUCKETS, SCHEME

FORMAT = "evergreen.text-encoder/1"
DOCUMENT, TABLE = "encoder.json", "encoder.safetensors"
TENSOR = "vectors"
FOLDER = "text_encoder"  # of a bundle, and beside a spec
LARGEST_DIMENSION = 1_024

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TextEncoder:
    """The vectors, float32[BUCKETS, dimension], and where they come from, a JSON document."""

    vectors: Vectors
    source: Mapping[str, Any]

    def write(self, folder: Path) -> str:
        """Writes the encoder's two files and gives its digest. The same encoder gives the same bytes."""
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        (folder / TABLE).write_bytes(save({TENSOR: np.ascontiguousarray(self.vectors, np.float32)}))
        document = {
            "format": FORMAT,
            "scheme": SCHEME,
            "buckets": BUCKETS,
            "dimension": self.vectors.shape[1],
            "table_sha256": file_sha256(folder / TABLE),
            "source": dict(self.source),
        }
        (folder / DOCUMENT).write_text(json.dumps(document, sort_keys=True, indent=1))
        return digest_json(document)

    @classmethod
    def read(cls, folder: Path, digest: str = "") -> Self:
        """An encoder, verified.

        Args:
            folder: where it lies.
            digest: which one it must be; empty for any.

        Raises:
            TrainingError: a file is missing or altered, texts become other ids here, or the table has another shape
                than is stated or holds what is no number.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        document = _verified(folder, digest)
        try:
            vectors = load_file(folder / TABLE)[TENSOR]
        except (SafetensorError, KeyError) as error:
            raise TrainingError(f"text encoder {folder}: {TABLE} has no tensor {TENSOR!r} ({error!r})") from None
        expected = (BUCKETS, document["dimension"])
        if vectors.dtype != np.float32 or vectors.shape != expected:
            raise TrainingError(
                f"text encoder {folder}: {TABLE} is {vectors.dtype}{list(vectors.shape)}, must be "
                f"float32{list(expected)}: the dimension that {DOCUMENT} states, a vector for each id"
            )
        if not np.isfinite(vectors).all():
            raise TrainingError(f"text encoder {folder}: {TABLE} holds values that are no finite numbers")
        return cls(vectors, document.get("source", {}))


def digest_of(folder: Path) -> str:
    """The encoder's digest, once both files are found whole.

    Raises:
        TrainingError: a file is missing or altered, or texts become other ids here.
    """
    return digest_json(_verified(folder, ""))


def _verified(folder: Path, digest: str) -> dict[str, Any]:
    try:
        document = dict(json.loads((folder / DOCUMENT).read_text()))
        stated, dimension = str(document["table_sha256"]), document["dimension"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"text encoder {folder} cannot be read, {DOCUMENT} with {TABLE} beside it is expected: {error!r}"
        ) from None
    seen = digest_json(document)
    if digest and seen != digest:
        raise TrainingError(f"text encoder {folder} has digest {seen[:12]}, expected {digest[:12]}: it was altered")
    for name, known in (("format", FORMAT), ("scheme", SCHEME), ("buckets", BUCKETS)):
        if document.get(name) != known:
            raise TrainingError(f"text encoder {folder}: its {name} is {document.get(name)!r}, must be {known!r}")
    if not isinstance(dimension, int) or not 1 <= dimension <= LARGEST_DIMENSION:
        raise TrainingError(f"text encoder {folder}: its dimension is {dimension!r}, must be 1 to {LARGEST_DIMENSION}")
    if not (folder / TABLE).is_file():
        raise TrainingError(f"text encoder {folder}: file {TABLE} is missing")
    if file_sha256(folder / TABLE) != stated:
        raise TrainingError(f"text encoder {folder}: file {TABLE} was altered, its SHA-256 is not that of {DOCUMENT}")
    return document
