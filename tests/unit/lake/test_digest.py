"""Digests depend on content alone."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.lake.digest import canonical_json, digest_json, digest_table

SCHEMA = pa.schema(
    [
        ("key", pa.int64()),
        ("text", pa.string()),
        ("number", pa.float64()),
        ("flag", pa.bool_()),
        ("day", pa.date32()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("days", pa.list_(pa.int64())),
        ("bytes", pa.binary()),
    ]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | st.text(max_size=3),
            "number": st.none() | st.floats(allow_nan=True, width=32),
            "flag": st.none() | st.booleans(),
            "day": st.none() | st.dates(date(1990, 1, 1), date(2030, 1, 1)),
            "time": st.none() | st.integers(0, 10**15),
            "days": st.none() | st.lists(st.integers(-5, 5), max_size=3),
            "bytes": st.none() | st.binary(max_size=3),
        }
    ),
    max_size=8,
)


def table(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist([{"key": index, **row} for index, row in enumerate(rows)], schema=SCHEMA)


@given(ROWS, st.randoms(use_true_random=False))
def test_order_and_chunks_do_not_matter(rows, random):
    whole = table(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    cut = random.randint(0, len(rows))
    shuffled = whole.take(pa.array(order, pa.int64()))
    chunked = pa.concat_tables([shuffled.slice(0, cut), shuffled.slice(cut)])
    assert digest_table(chunked, ("key",)) == digest_table(whole, ("key",))


@given(ROWS.filter(bool), st.data())
def test_any_changed_value_changes_the_digest(rows, data):
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from(sorted(rows[0])))
    changed = [dict(entry) for entry in rows]
    changed[row][column] = {
        "text": "other text",
        "number": 12345.678,
        "flag": not rows[row]["flag"] if rows[row]["flag"] is not None else True,
        "day": date(2031, 1, 1),
        "time": 10**15 + 1,
        "days": [9, 9, 9, 9],
        "bytes": b"other",
    }[column]
    assert digest_table(table(changed)) != digest_table(table(rows))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(["ab", "c"], ["a", "bc"], id="borders-of-strings"),
        pytest.param([None, ""], ["", None], id="null-is-not-empty"),
        pytest.param([[1], [2, 3]], [[1, 2], [3]], id="borders-of-lists"),
        pytest.param([0, None], [None, 0], id="null-is-not-zero"),
    ],
)
def test_lookalikes_differ(one, other):
    assert digest_table(pa.table({"x": one})) != digest_table(pa.table({"x": other}))


def test_names_and_types_are_content():
    base = digest_table(pa.table({"x": pa.array([1], pa.int64())}))
    assert digest_table(pa.table({"y": pa.array([1], pa.int64())})) != base
    assert digest_table(pa.table({"x": pa.array([1], pa.int32())})) != base


def test_zero_has_one_sign_and_nan_one_form():
    odd_nan = np.frombuffer(np.uint64(0x7FF8000000000001).tobytes(), np.float64)
    one = pa.table({"x": pa.array(np.array([0.0, np.nan]))})
    other = pa.table({"x": pa.array(np.array([-0.0, odd_nan[0]]))})
    assert digest_table(one) == digest_table(other)


def test_a_slice_equals_its_copy():
    whole = pa.table({"x": ["a", None, "bc", "d"], "y": [[1], None, [2, 3], []]})
    assert digest_table(whole.slice(1, 2)) == digest_table(pa.table({"x": [None, "bc"], "y": [None, [2, 3]]}))


def test_a_type_without_encoding_is_refused():
    with pytest.raises(TypeError, match="no canonical encoding"):
        digest_table(pa.table({"x": pa.array([{"a": 1}])}))


def test_the_encoding_is_frozen():
    """Evidence from earlier releases names digests: a change of the encoding must be a decision."""
    rows = pa.table({"a": pa.array([1, 2], pa.int64()), "b": pa.array(["x", None])})
    assert digest_table(rows)[:16] == "a6521776aa730f04"


def test_json_is_canonical():
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'
    assert digest_json({"b": 1, "a": 2}) == digest_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_json({"a": float("nan")})
