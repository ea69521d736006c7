"""Files as text: CSV (plain or gzipped, any usual encoding), Parquet and Excel, in bounded memory."""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from evergreen.errors import SourceError
from evergreen.ingest.lines import BATCH_ROWS, MALFORMED, RawTable, raw_schema

BLOCK_BYTES = 8 << 20
_DELIMITERS = ",;\t|"
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r\f\x1a")


def open_table(path: Path) -> RawTable:
    """Opens a file by its suffix: .csv, .csv.gz, .parquet, .xlsx.

    Raises:
        SourceError: it does not exist, is empty, cut off, of an unknown kind or encoding, or has no usable header.
            Errors deep in the file are raised while its batches are read.
    """
    if not path.is_file():
        raise SourceError(f"source {path} does not exist; give a file, a landing folder or a database URL")
    if path.stat().st_size == 0:
        raise SourceError(f"source {path} is empty (0 bytes); expected a header and lines. Get the file again")
    for suffix, read in _READERS.items():
        if path.name.lower().endswith(suffix):
            return read(path)
    raise SourceError(f"source {path.name} is of no known kind; expected one of: {', '.join(_READERS)}")


def content_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        SourceError: it cannot be read.
    """
    with _named_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open_csv(path: Path) -> RawTable:
    encoding = _encoding(path)
    marked = "utf-8-sig" if encoding == "utf-8" else encoding
    with _named_errors(path), _bytes_of(path) as stream, io.TextIOWrapper(stream, marked, newline="") as lines:
        first = lines.readline()
        delimiter = max(_DELIMITERS, key=first.count)
        columns = _checked(
            path.name, next(csv.reader([first, *_rest_of_quoted(first, lines)], delimiter=delimiter), [])
        )
    return RawTable(path.name, columns, _csv_batches(path, encoding, delimiter, columns))


def _rest_of_quoted(first: str, lines: IO[str]) -> Iterator[str]:
    if first.count('"') % 2:  # a header name with a line break
        yield from lines


def _csv_batches(path: Path, encoding: str, delimiter: str, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    numbering = _Numbering()
    with _named_errors(path), _bytes_of(path) as stream:
        reader = pacsv.open_csv(
            stream,
            read_options=pacsv.ReadOptions(
                use_threads=False,  # else malformed lines come without their number
                block_size=BLOCK_BYTES,
                column_names=list(columns),
                skip_rows_after_names=1,
                encoding=encoding,
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=numbering.note
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.string() for name in columns}, strings_can_be_null=False, null_values=[]
            ),
        )
        for batch in reader:
            yield from numbering.number(batch, columns)
        yield from numbering.number(pa.RecordBatch.from_pylist([], reader.schema), columns)


@dataclass
class _Numbering:
    """Puts malformed lines back among the well-formed ones, each at its position in the file."""

    seen: int = 0
    malformed: list[tuple[int, str]] = field(default_factory=list)

    def note(self, row: Any) -> str:
        """Arrow calls this for a line with too many or too few fields. The header is row 1."""
        self.malformed.append((row.number - 1, row.text))
        return "skip"

    def number(self, batch: pa.RecordBatch, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The batch with its row numbers, and the malformed lines that stand between or right after its lines."""
        ours = 0
        while ours < len(self.malformed) and self.malformed[ours][0] <= self.seen + batch.num_rows + ours + 1:
            ours += 1
        bad, self.malformed = self.malformed[:ours], self.malformed[ours:]
        total = batch.num_rows + len(bad)
        if not total:
            return
        positions = np.arange(self.seen + 1, self.seen + total + 1)
        bad_positions = np.array([position for position, _ in bad], np.int64)
        good = np.setdiff1d(positions, bad_positions, assume_unique=True)
        schema = raw_schema(tuple(columns))
        arrays = [pa.array(good), pa.nulls(len(good), pa.string()), *batch.columns]
        table = pa.table(arrays, schema=schema)
        if bad:
            lost = {name: pa.nulls(len(bad), kind) for name, kind in zip(schema.names, schema.types, strict=True)}
            lost |= {schema.names[0]: pa.array(bad_positions), MALFORMED: pa.array([text for _, text in bad])}
            table = pa.concat_tables([table, pa.table(lost, schema=schema)]).sort_by(schema.names[0])
        self.seen += total
        yield from table.combine_chunks().to_batches()


def _open_parquet(path: Path) -> RawTable:
    with _named_errors(path):
        file = pq.ParquetFile(path)
    nested = [field.name for field in file.schema_arrow if pa.types.is_nested(field.type)]
    if nested:
        raise SourceError(f"{path.name}: columns {', '.join(nested)} are nested; expected plain values. Flatten them")
    columns = _checked(path.name, file.schema_arrow.names)
    return RawTable(path.name, columns, _parquet_batches(path, file, columns))


def _parquet_batches(path: Path, file: pq.ParquetFile, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    with _named_errors(path):
        yield from as_text(file.iter_batches(BATCH_ROWS), columns)


def as_text(batches: Iterator[pa.RecordBatch], columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Batches of any plain types as batches of text, numbered from 1."""
    seen = 0
    for batch in batches:
        if not batch.num_rows:
            continue
        rows = pa.array(np.arange(seen + 1, seen + batch.num_rows + 1))
        arrays = [rows, pa.nulls(batch.num_rows, pa.string()), *(_text_of(column) for column in batch.columns)]
        seen += batch.num_rows
        yield pa.RecordBatch.from_arrays(arrays, schema=raw_schema(columns))


def _text_of(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _text_of(column.dictionary_decode())
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string())
    if pa.types.is_timestamp(kind):
        utc = pa.timestamp("us", kind.tz and "UTC")
        return pc.cast(pc.cast(pc.cast(column, utc, safe=False), pa.timestamp("us")), pa.string())
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2**53))
        # 13085.0 is a customer's number that a missing value elsewhere turned into a float
        as_integers = pc.cast(pc.if_else(whole, column, pa.scalar(None, kind)), pa.int64())
        return pc.coalesce(pc.cast(as_integers, pa.string()), pc.cast(column, pa.string()))
    return pc.cast(column, pa.string())


def _open_excel(path: Path) -> RawTable:
    from evergreen.ingest.excel import open_workbook

    with _named_errors(path):
        return open_workbook(path, _checked)


def _checked(name: str, headers: Sequence[str]) -> tuple[str, ...]:
    """Headers that can be told apart: blank ones are numbered, doubled and reserved ones refused."""
    columns = tuple(header.strip() or f"column_{index}" for index, header in enumerate(headers, 1))
    folded = [column.casefold() for column in columns]
    doubled = sorted({column for column in columns if folded.count(column.casefold()) > 1})
    if doubled:
        raise SourceError(f"{name}: columns {', '.join(doubled)} stand twice; expected each header once")
    if reserved := [column for column in columns if column.startswith("#")]:
        raise SourceError(f"{name}: headers {', '.join(reserved)} begin with #; expected names such as Invoice, Price")
    if not columns:
        raise SourceError(
            f"{name}: no header; expected one such as Invoice,StockCode,Description,Quantity,... "
            "in its first line. Get the file again"
        )
    return columns


@contextmanager
def _bytes_of(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as plain:
        yield cast(IO[bytes], gzip.GzipFile(fileobj=plain)) if path.name.lower().endswith(".gz") else plain


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turns what libraries raise on broken files into an error that says which file and what to do."""
    try:
        yield
    except EOFError:
        raise SourceError(
            f"{path.name} is cut off: its gzip stream has no end; expected a whole file. Get it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{path.name} is no valid gzip file ({error}); expected .csv.gz. Get it again") from None
    except (pa.ArrowException, UnicodeError, OSError, csv.Error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(
            f"{path.name} cannot be read ({reason}); expected a whole, valid file. Get it again"
        ) from None


def _encoding(path: Path) -> str:
    """Encoding of a CSV file, found by reading all of it: UTF-8, UTF-16 with its mark, else Windows-1252."""
    possible = {name: codecs.getincrementaldecoder(name)() for name in ("utf-8", "cp1252")}
    with _named_errors(path), _bytes_of(path) as stream:
        chunk = stream.read(1 << 20)
        if not chunk:
            raise SourceError(f"source {path} is empty; expected a header and lines. Get the file again")
        if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        while True:
            binary = any(code in chunk for code in _CONTROLS)
            possible = {} if binary else {name: each for name, each in possible.items() if _decodes(each, chunk)}
            if not possible:
                raise SourceError(
                    f"{path.name} is no text in a known encoding; expected UTF-8, UTF-16 with a byte order mark, or "
                    "Windows-1252. Save it as UTF-8"
                )
            if not chunk:  # the decoders have seen the end: no character is cut off
                return next(iter(possible))
            chunk = stream.read(1 << 20)


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes) -> bool:
    try:
        decoder.decode(chunk, final=not chunk)
    except UnicodeDecodeError:
        return False
    return True


_READERS: dict[str, Callable[[Path], RawTable]] = {
    ".csv": _open_csv,
    ".csv.gz": _open_csv,
    ".parquet": _open_parquet,
    ".xlsx": _open_excel,
}
