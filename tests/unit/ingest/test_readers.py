"""Files of every kind become the same text, and broken ones are refused by name."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import evergreen.ingest.readers as readers
from evergreen.errors import SourceError
from evergreen.ingest.lines import MALFORMED, ROW
from evergreen.ingest.readers import content_sha256, open_table
from tests.unit.ingest.conftest import HEADER, as_csv, days_of_lines, line


def read(path: Path) -> list[dict[str, Any]]:
    return pa.Table.from_batches(open_table(path).batches).to_pylist()


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.CSV"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "latin-1", "utf-16"])
def test_usual_encodings(write: Callable[..., Path], name: str, encoding: str) -> None:
    [row] = read(write(name, [line(Description="CAFÉ “À LA CARTE”" if encoding != "latin-1" else "CAFÉ")], encoding))
    assert row["Description"].startswith("CAFÉ")
    assert row["Invoice"] == "489435"


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters(write: Callable[..., Path], delimiter: str) -> None:
    [row] = read(write("a.csv", as_csv([line()]).replace(",", delimiter)))
    assert row["Country"] == "United Kingdom"


def test_quotes_and_line_breaks_inside_values_and_headers(write: Callable[..., Path]) -> None:
    [row] = read(write("a.csv", [line(Description='7" BOWL,\nRED') | {"a\nnote": "x"}]))
    assert row["Description"] == '7" BOWL,\nRED'
    assert row["a\nnote"] == "x"


@pytest.mark.parametrize("block_bytes", [64, 8 << 20])
def test_lines_with_too_many_or_few_fields_keep_their_place(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(readers, "BLOCK_BYTES", max(block_bytes, 200))
    good = as_csv(days_of_lines(1, 40)).splitlines()
    header, lines = good[0], good[1:]
    broken = {0: "only,two", 3: lines[3] + ",extra", 4: "x", 39: "the,end"}
    lines = [broken.get(index, text) for index, text in enumerate(lines)]
    rows = read(write("a.csv", "\n".join([header, "", *lines]) + "\n"))
    assert [row[ROW] for row in rows] == list(range(1, 41))
    assert {row[ROW] - 1: row[MALFORMED] for row in rows if row[MALFORMED] is not None} == broken
    assert [row["Invoice"] for row in rows if row[MALFORMED] is None] == [
        text.split(",")[0] for index, text in enumerate(lines) if index not in broken
    ]


def test_parquet_of_any_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "number": pa.array([13085.0, None, 6.95, float("nan")]),
            "when": pa.array([datetime(2011, 8, 31, 17, 5)] * 4, pa.timestamp("ns")),
            "zoned": pa.array([datetime(2011, 8, 31, 17, 5)] * 4, pa.timestamp("us", "Asia/Kolkata")),
            "day": pa.array([date(2011, 8, 31)] * 4),
            "word": pa.array(["a", "b", None, "a"]).dictionary_encode(),
            "none": pa.nulls(4),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    rows = read(tmp_path / "t.parquet")
    assert [row["number"] for row in rows] == ["13085", None, "6.95", None]
    assert rows[0]["when"] == rows[0]["zoned"] == "2011-08-31 17:05:00.000000"
    assert (rows[0]["day"], rows[1]["word"], rows[2]["word"], rows[0]["none"]) == ("2011-08-31", "b", None, None)
    assert [row[ROW] for row in rows] == [1, 2, 3, 4]


def workbook(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    book = openpyxl.Workbook(write_only=True)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_the_sheets_of_a_workbook_follow_each_other(tmp_path: Path) -> None:
    moment = datetime(2010, 12, 1, 8, 26)
    first = [489434, 85048, "BALL", 12, moment, 6.95, 13085, "United Kingdom"]
    second = ["C536379", "D", None, -1, moment, 27.5, None, "United Kingdom"]
    path = workbook(
        tmp_path / "online_retail_II.xlsx",
        {
            "Year 2009-2010": [list(HEADER), first],
            "Notes": [],
            "Year 2010-2011": [list(HEADER[::-1]), second[::-1], [None] * 8, first[::-1]],
        },
    )
    rows = read(path)
    assert [tuple(row[name] for name in HEADER) for row in rows] == [
        ("489434", "85048", "BALL", "12", "2010-12-01 08:26:00", "6.95", "13085", "United Kingdom"),
        ("C536379", "D", "", "-1", "2010-12-01 08:26:00", "27.5", "", "United Kingdom"),
        ("489434", "85048", "BALL", "12", "2010-12-01 08:26:00", "6.95", "13085", "United Kingdom"),
    ]
    assert [row[ROW] for row in rows] == [1, 2, 3]


def test_sheets_that_differ_are_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", {"One": [list(HEADER)], "Two": [["Name", "Street"]]})
    with pytest.raises(SourceError, match=r"sheet Two has columns Name, Street, sheet One has Invoice, StockCode"):
        open_table(path)
    with pytest.raises(SourceError, match="no sheet with a header"):
        open_table(workbook(tmp_path / "b.xlsx", {"One": []}))


def test_a_truncated_gzip_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    whole = write("a.csv.gz", days_of_lines(20, 100))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"cut\.csv\.gz is cut off: its gzip stream has no end"):
        read(cut)
    assert len(read(whole)) == 2000  # the control: whole it can be read


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", r"a\.csv is empty \(0 bytes\)"),
        ("a.csv.gz", gzip.compress(b""), r"a\.csv\.gz is empty"),
        ("a.csv.gz", b"Invoice,StockCode", r"a\.csv\.gz is no valid gzip file"),
        ("a.csv", bytes(range(256)), r"a\.csv is no text in a known encoding; expected UTF-8, UTF-16"),
        ("a.csv", b"Invoice,\x81\xff\n", "no text in a known encoding"),
        ("a.csv", "Invoice\n1\n".encode("utf-16-le"), "no text in a known encoding"),
        ("a.csv", b"\xff\xfea", "cannot be read"),
        ("a.csv", b"Invoice,invoice\n1,2\n", "columns Invoice, invoice stand twice"),
        ("a.csv", b"#row,Invoice\n1,2\n", "headers #row begin with #"),
        ("a.csv", b"\n", "no header"),
        ("a.parquet", b"PAR1 but not really", r"a\.parquet cannot be read"),
        ("a.xlsx", b"PK no workbook", r"a\.xlsx is no Excel workbook"),
        ("a.docx", b"words", r"a\.docx is of no known kind; expected one of: \.csv, \.csv\.gz"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_a_file_that_may_not_be_read_is_refused_by_name(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = write(name, b"Invoice\n1\n")

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(pq, "ParquetFile", refused)
    for reading in (open_table, content_sha256):
        with pytest.raises(SourceError, match=rf"{name} cannot be read \(.*Permission denied\)"):
            reading(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        open_table(tmp_path / "a.csv")


def test_nested_columns_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"lines": [[1, 2]]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="columns lines are nested"):
        open_table(tmp_path / "a.parquet")
