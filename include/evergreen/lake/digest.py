"""Content digests of Arrow tables: equal rows give equal digests, in whatever order or file layout they are kept."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def digest_table(table: pa.Table, sort_by: tuple[str, ...] = ()) -> str:
    """SHA-256 of a table's content, as 64 hex digits.

    The encoding is our own, so that no library's upgrade changes it: the schema's names and types, the number of rows,
    then column by column the null mask, the lengths (strings and lists) and the little-endian values, nulls as zeros.

    Args:
        table: booleans, integers, floats, decimals, dates, timestamps, strings, binaries and lists of these.
        sort_by: columns that order the rows before they are hashed; all columns where they do not identify a row.

    Raises:
        TypeError: a column has a type without a canonical encoding.
    """
    if sort_by and table.num_rows > 1:
        table = table.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in sort_by]))
    hasher = hashlib.sha256()
    header = [[field.name, str(field.type)] for field in table.schema]
    hasher.update(json.dumps([header, table.num_rows]).encode())
    for column in table.columns:
        _hash_array(hasher, pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type))
    return hasher.hexdigest()


def digest_json(document: Any) -> str:
    """SHA-256 of a JSON document in canonical form: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        ValueError: the document holds NaN or infinity, which JSON does not know.
    """
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def canonical_json(document: Any) -> str:
    """The one text form of a JSON document that digests are made of."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _hash_array(hasher: hashlib._Hash, array: pa.Array) -> None:
    kind = array.type
    hasher.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_dictionary(kind):
        _hash_array(hasher, array.dictionary_decode())
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        hasher.update(_values(pc.list_value_length(array), np.int64))
        _hash_array(hasher, array.flatten())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        hasher.update(_values(pc.binary_length(array), np.int64))
        hasher.update(b"".join(value.encode() for value in array.drop_null().to_pylist()))
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        hasher.update(_values(pc.binary_length(array), np.int64))
        hasher.update(b"".join(array.drop_null().to_pylist()))
    elif pa.types.is_boolean(kind):
        hasher.update(_values(array, np.uint8))
    elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        hasher.update(_values(array.cast(pa.int64() if not pa.types.is_date32(kind) else pa.int32()), np.int64))
    elif pa.types.is_integer(kind):
        hasher.update(_values(array, np.int64 if not pa.types.is_uint64(kind) else np.uint64))
    elif pa.types.is_floating(kind):
        values = np.frombuffer(_values(array, np.float64), np.float64).copy()
        values[values == 0] = 0.0  # -0.0 equals 0.0
        values[np.isnan(values)] = np.nan  # one NaN
        hasher.update(values.tobytes())
    elif pa.types.is_decimal(kind):
        hasher.update("\n".join("" if value is None else str(value) for value in array.to_pylist()).encode())
    else:
        raise TypeError(f"a column of type {kind} has no canonical encoding")


def _values(array: pa.Array, dtype: type[np.generic]) -> bytes:
    filled = array.fill_null(False if pa.types.is_boolean(array.type) else 0) if array.null_count else array
    return np.ascontiguousarray(filled.to_numpy(zero_copy_only=False)).astype(dtype).tobytes()
