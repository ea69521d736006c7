from __future__ import annotations

import doctest
from zlib import crc32

import numpy as np

from evergreen.models import text
from evergreen.models.text import BUCKETS, TOKENS, parts_of, token_ids


def test_the_example_holds():
    assert doctest.testmod(text).failed == 0


def test_ids_are_hashes_of_parts():
    ids = token_ids(np.array(["tea"], object))
    assert ids[0, :4].tolist() == [crc32(part) % BUCKETS for part in (b"<TEA>", b"<TE", b"TEA", b"EA>")]
    assert (ids[0, 4:] == -1).all()


def test_rows_do_not_see_each_other():
    texts = np.array(["RED MUG", None, "BLUE MUG", "RED MUG"], object)
    together = token_ids(texts)
    for row in range(4):
        np.testing.assert_array_equal(together[row : row + 1], token_ids(texts[row : row + 1]))


def test_a_long_text_is_cut_after_its_words():
    parts = parts_of(" ".join(f"WORD{n}" for n in range(30)))
    assert len(parts) == TOKENS
    assert parts[29] == "<WORD29>"
    assert token_ids(["x" * 1_000]).shape == (1, TOKENS)


def test_no_rows_give_no_ids():
    assert token_ids(np.empty(0, object)).shape == (0, TOKENS)
