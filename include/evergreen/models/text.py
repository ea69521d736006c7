"""Texts as the ids of their parts: words and parts of words, hashed, so that a new word is not unknown.

Bojanowski, Grave, Joulin, Mikolov (2017), "Enriching Word Vectors with Subword Information", section 3.2.
"""

from __future__ import annotations

import re
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pandas as pd

BUCKETS = 4_096
"""Ids are from 0 to this, exclusive."""

TOKENS = 48
"""Ids of a text at most: its words first, then the parts of words from left to right."""

PART = 3  # letters of a part of a word, whose ends are marked

SCHEME = "crc32/words+3"
"""Names how a text becomes ids: a table of vectors is of no use to other ids."""


def token_ids(texts: Any) -> npt.NDArray[np.int32]:
    """Ids of the parts of texts, int32[rows, TOKENS], -1 behind the last. What is no text has none."""
    codes, distinct = pd.factorize(np.asarray(texts, dtype=object))  # products have many rows each
    table = np.full((len(distinct) + 1, TOKENS), -1, np.int32)
    for row, text in enumerate(distinct):
        ids = [crc32(part.encode()) % BUCKETS for part in parts_of(str(text))]
        table[row, : len(ids)] = ids
    return table[codes]  # -1 is the last row: no text


def parts_of(text: str) -> list[str]:
    """Words of a text, then each word's overlapping parts; both with marks at the ends of words.

    >>> parts_of("Tea set")
    ['<TEA>', '<SET>', '<TE', 'TEA', 'EA>', '<SE', 'SET', 'ET>']
    """
    words = [f"<{word}>" for word in re.findall("[A-Z0-9]+", text.upper())]
    parts = [word[at : at + PART] for word in words for at in range(len(word) - PART + 1)]
    return [*words, *parts][:TOKENS]
