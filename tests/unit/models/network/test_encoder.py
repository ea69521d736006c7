from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("safetensors")

from evergreen.errors import TrainingError
from evergreen.models.network.encoder import DOCUMENT, TABLE, TextEncoder, digest_of
from evergreen.models.text import BUCKETS


@pytest.fixture
def encoder() -> TextEncoder:
    return TextEncoder(np.random.default_rng(1).normal(size=(BUCKETS, 6)).astype(np.float32), {"made_from": "a test"})


def test_what_is_written_is_read_under_one_digest(encoder, tmp_path):
    digest = encoder.write(tmp_path / "a")
    assert encoder.write(tmp_path / "b") == digest == digest_of(tmp_path / "a")
    found = TextEncoder.read(tmp_path / "a", digest)
    np.testing.assert_array_equal(found.vectors, encoder.vectors)
    assert found.source == {"made_from": "a test"}
    for name in (DOCUMENT, TABLE):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def edit(**changes):
    def alter(folder):
        document = json.loads((folder / DOCUMENT).read_text()) | changes
        (folder / DOCUMENT).write_text(json.dumps(document))

    return alter


def flip(name):
    def alter(folder):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(bytes(content))

    return alter


def retable(vectors):
    """Another table, whose digest the document knows: altered with care."""

    def alter(folder):
        made = TextEncoder(vectors, {})
        document = json.loads((folder / DOCUMENT).read_text())
        made.write(folder)
        again = json.loads((folder / DOCUMENT).read_text())
        (folder / DOCUMENT).write_text(json.dumps(document | {"table_sha256": again["table_sha256"]}))

    return alter


HOLES = np.full((BUCKETS, 6), np.nan, np.float32)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda folder: (folder / DOCUMENT).unlink(), r"cannot be read, encoder\.json with encoder\.safetensors"),
        (lambda folder: (folder / TABLE).unlink(), r"file encoder\.safetensors is missing"),
        (flip(TABLE), r"file encoder\.safetensors was altered"),
        (edit(format="evergreen.text-encoder/9"), r"its format is 'evergreen\.text-encoder/9', must be"),
        (edit(scheme="words"), r"its scheme is 'words', must be 'crc32/words\+3'"),
        (edit(buckets=64), r"its buckets is 64, must be 4096"),
        (edit(dimension=0), r"its dimension is 0, must be 1 to 1024"),
        (edit(dimension="6"), r"its dimension is '6'"),
        (edit(dimension=7), r"is float32\[4096, 6\], must be float32\[4096, 7\]"),
        (retable(np.zeros((64, 6), np.float32)), r"is float32\[64, 6\], must be float32\[4096, 6\]"),
        (retable(HOLES), r"holds values that are no finite numbers"),
    ],
)
def test_what_is_missing_altered_or_of_another_shape_is_refused_in_one_line(alter, message, encoder, tmp_path):
    encoder.write(tmp_path)
    TextEncoder.read(tmp_path)  # control
    alter(tmp_path)
    with pytest.raises(TrainingError, match=message) as raised:
        TextEncoder.read(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.fault
def test_another_encoder_than_the_spec_names_is_refused(encoder, tmp_path):
    encoder.write(tmp_path)
    with pytest.raises(TrainingError, match=r"has digest [0-9a-f]{12}, expected aaaaaaaaaaaa: it was altered"):
        TextEncoder.read(tmp_path, "a" * 64)
