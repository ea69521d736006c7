"""The sample: a generated retailer's purchase lines, with the dirt of real files, and each pair's true probability.

Written with the eight columns of UCI Online Retail II, so that the usual reader takes it. Equal settings give equal
lines, and more `extra_days` never change earlier ones. Memory does not grow with the number of lines.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from evergreen.errors import SourceError
from evergreen.ingest.retailer import ANONYMOUS_SHARE, Block, Floats, Ints, Retailer
from evergreen.ingest.words import COUNTRIES
from evergreen.lake.digest import digest_json
from evergreen.settings import Settings
from evergreen.settings.prediction import ACTIVE_DAYS
from evergreen.settings.sample import SampleSettings

VERSION = 1  # of the generator: raise it when the same settings give other lines
FILE = "sample.parquet"
FIRST_INVOICE = 489_434
FIRST_CUSTOMER = 12_346

SCHEMA = pa.schema(
    [
        ("Invoice", pa.string()),
        ("StockCode", pa.string()),
        ("Description", pa.string()),
        ("Quantity", pa.int64()),
        ("InvoiceDate", pa.string()),
        ("Price", pa.float64()),
        ("Customer ID", pa.int64()),
        ("Country", pa.string()),
    ]
)

# Streams of random numbers beyond the retailer's own, and codes of lines that are no products.
_LINES, _ANONYMOUS = range(100, 102)
_SPECIALS = (("POST", "POSTAGE"), ("M", "Manual"), ("BANK CHARGES", "Bank Charges"), ("B", "Adjust bad debt"))
_POST, _MANUAL, _CHARGES, _DEBT = (-1 - index for index in range(len(_SPECIALS)))
_ANONYMOUS_CUSTOMER = -1
_NO_TIME_EVERY, _DEBT_EVERY, _CHARGES_EVERY = 131, 97, 29  # days between lines of these kinds

_INVOICE = ("day", "minute", "customer", "basket", "cancelled")  # one invoice each
_MOVES = np.dtype(
    [
        ("day", np.int32),
        ("minute", np.int16),
        ("customer", np.int32),  # number, -1 for none
        ("basket", np.int32),  # tells apart invoices of nobody in one minute
        ("cancelled", np.bool_),
        ("product", np.int32),  # position in the catalogue, below 0 for specials
        ("quantity", np.int32),
        ("cents", np.int32),
        ("country", np.int16),
        ("described", np.bool_),
    ]
)


def generate(settings: SampleSettings, folder: Path) -> Path:
    """Writes `sample.parquet` with all days, `extra_days` included, into a folder; gives the file."""
    until = (settings.day - settings.first_day).days + 1 + settings.extra_days
    folder.mkdir(parents=True, exist_ok=True)
    _write(Retailer(settings), until, folder / FILE)
    return folder / FILE


def write_sample(settings: SampleSettings, file: Path) -> int:
    """Writes the days up to `settings.day` to one file (.parquet, .csv or .csv.gz); gives the number of lines.

    Raises:
        SourceError: the file's suffix is not known.
    """
    return _write(Retailer(settings), (settings.day - settings.first_day).days + 1, file)


def last_day(settings: SampleSettings) -> date:
    """The last day that `generate` writes."""
    return settings.day + timedelta(days=settings.extra_days)


def sample_file(settings: Settings) -> Path:
    """The sample of the settings under `home/sample`, generated on first use."""
    sample = settings.sample.model_dump(mode="json")
    folder = settings.home_path / "sample" / digest_json({"version": VERSION, "settings": sample})[:32]
    if not (folder / FILE).exists():
        generate(settings.sample, folder)
    return folder / FILE


def true_probabilities(settings: SampleSettings, as_of: date, horizon_days: int) -> pd.DataFrame:
    """The true probability of each pair to be bought again: no model can know better.

    Exact, given the retailer's hidden state at `as_of 00:00 UTC` (who is still a customer, whose taste is what) and its
    plans (prices, launches, opening days). Pairs: those bought within the 365 days before `as_of`.

    Returns:
        Columns `customer_id`, `product_id` (strings) and `probability` of at least one purchase in
        `[as_of, as_of + horizon_days)`.
    """
    retailer = Retailer(settings)
    day = (as_of - settings.first_day).days
    parts: list[pd.DataFrame] = []
    for index in range(retailer.blocks(day)):
        block = retailer.block(index)
        shopping = retailer.shop(block, day)
        recent = np.unique(shopping.pair[shopping.day >= day - ACTIVE_DAYS])
        chances = retailer.chances(block, shopping, day, horizon_days)
        customers = block.customers[block.owner[recent]] + FIRST_CUSTOMER
        parts.append(
            pd.DataFrame(
                {
                    "customer_id": customers.astype(str).astype(object),
                    "product_id": retailer.catalogue.codes[block.product[recent]],
                    "probability": chances[recent],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _write(retailer: Retailer, until: int, file: Path) -> int:
    """Writes the lines of the days before `until`, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{uuid4().hex}-{file.name}")
    rows = 0
    try:
        with _writer(unfinished) as write, tempfile.TemporaryDirectory(dir=file.parent, prefix=".sample-") as folder:
            months = _shop(retailer, until, Path(folder))
            invoices = FIRST_INVOICE
            for month in months:
                moves = np.concatenate([np.load(part) for part in sorted(Path(folder).glob(f"{month}-*.npy"))])
                moves = moves[np.lexsort([moves[key] for key in ("quantity", "product", *_INVOICE[::-1])])]
                new = _begins_invoice(moves)
                numbers = invoices + np.cumsum(new) - 1
                invoices += int(new.sum())
                table = _table(retailer, moves, numbers)
                write(table)
                rows += table.num_rows
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
    return rows


@contextmanager
def _writer(file: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Something that appends tables to a file of the kind that its suffix names."""
    if file.name.endswith(".parquet"):
        with pq.ParquetWriter(file, SCHEMA, compression="zstd") as parquet:
            yield parquet.write_table
    elif file.name.endswith((".csv", ".csv.gz")):
        with pa.output_stream(str(file)) as stream, pacsv.CSVWriter(stream, SCHEMA) as text:
            yield text.write_table
    else:
        raise SourceError(f"{file.name.split('-', 1)[-1]} is of no known kind; expected .parquet, .csv or .csv.gz")


def _shop(retailer: Retailer, until: int, folder: Path) -> list[str]:
    """Writes what happens on the days before `until` to one file a month and block; gives the months in order."""
    edges = _month_edges(retailer, until)
    for index in range(retailer.blocks(until)):
        moves = _block_moves(retailer, retailer.block(index), until)
        for month, first, end in edges:
            part = moves[(moves["day"] >= first) & (moves["day"] < end)]
            if len(part):
                np.save(folder / f"{month}-{index:06d}.npy", part)
    scale = retailer.settings.lines * ANONYMOUS_SHARE / retailer.calendar(np.arange(retailer.days)).sum()
    for month, first, end in edges:
        days = [_anonymous_moves(retailer, day, scale) for day in range(first, end)]
        np.save(folder / f"{month}-anonymous.npy", np.concatenate(days))
    return [month for month, _, _ in edges]


def _month_edges(retailer: Retailer, until: int) -> list[tuple[str, int, int]]:
    months: dict[str, tuple[int, int]] = {}
    for day in range(until):
        month = f"{retailer.date_of(day):%Y-%m}"
        first, _ = months.get(month, (day, day))
        months[month] = (first, day + 1)
    return [(month, first, end) for month, (first, end) in months.items()]


def _block_moves(retailer: Retailer, block: Block, until: int) -> Any:
    """All lines of a block's customers: purchases, doubled lines, postage, cancellations."""
    shopping = retailer.shop(block, until)
    catalogue = retailer.catalogue

    def uniforms(what: int, number: int) -> Floats:
        return retailer.stream(_LINES, block.index, what).random(number)

    owner = block.owner[shopping.pair]
    visit_key = shopping.day * len(block.customers) + owner
    _, visit_first, visit = np.unique(visit_key, return_index=True, return_inverse=True)
    lines = np.zeros(len(owner), _MOVES)
    lines["day"] = shopping.day
    lines["minute"] = (8 * 60 + uniforms(0, len(visit_first)) * 9 * 60).astype(np.int16)[visit]
    lines["customer"] = block.customers[owner]
    lines["product"] = block.product[shopping.pair]
    packs = 1 + np.floor(-np.log1p(-uniforms(1, len(owner))) * 0.7 * block.size[owner])
    lines["quantity"] = np.minimum(catalogue.pack[lines["product"]] * packs, 5000)
    lines["cents"] = _cents(retailer, shopping.day, block.product[shopping.pair])
    lines["country"] = block.country[owner]
    lines["described"] = True

    doubled = lines[uniforms(2, len(lines)) < 0.006]
    cancelled = _cancellations(retailer, lines, uniforms(3, len(lines)), until)
    extra = uniforms(4, len(visit_first))
    posted = lines[visit_first[(lines["country"][visit_first] > 0) & (extra < 0.5)]]
    posted["product"], posted["quantity"], posted["cents"] = _POST, 1, 1800
    manual = lines[visit_first[extra > 0.995]]
    manual["product"], manual["quantity"], manual["cents"] = _MANUAL, 1, 1250
    return np.concatenate([lines, doubled, cancelled, posted, manual])


def _cancellations(retailer: Retailer, lines: Any, chance: Floats, until: int) -> Any:
    """Some purchases go back on an open day within three weeks, at the price that was paid."""
    share = 0.018
    back = lines[chance < share]
    busy = retailer.calendar(np.arange(until + 60)) > 0
    following = np.minimum.accumulate(np.where(busy, np.arange(len(busy)), len(busy))[::-1])[::-1]
    wanted = back["day"] + 1 + (chance[chance < share] / share * 20).astype(np.int32)
    back["day"] = following[wanted]
    back["quantity"] = -np.maximum(1, back["quantity"] // 2)
    back["cancelled"] = True
    return back[back["day"] < until]


def _cents(retailer: Retailer, days: Ints, products: Ints) -> Ints:
    cents = np.zeros(len(days), np.int64)
    for day in np.unique(days):
        here = days == day
        cents[here] = np.rint(retailer.prices(int(day))[products[here]] * 100)
    return cents


def _anonymous_moves(retailer: Retailer, day: int, scale: float) -> Any:
    """A day's lines without a customer: tills, samples, losses; and the lines that no contract takes."""
    random = retailer.stream(_ANONYMOUS, day)
    busy = float(retailer.calendar(np.array([day]))[0])
    number = int(random.poisson(scale * busy)) if busy else 0
    catalogue = retailer.catalogue
    moves = np.zeros(number, _MOVES)
    moves["customer"] = _ANONYMOUS_CUSTOMER
    moves["basket"] = random.integers(0, number // 15 + 1, number)
    moves["minute"] = (8 * 60 + random.random(number // 15 + 1) * 9 * 60).astype(np.int16)[moves["basket"]]
    wanted = np.cumsum(catalogue.demand * retailer.appeal(day))
    moves["product"] = np.searchsorted(wanted, random.random(number) * wanted[-1], side="right")
    moves["quantity"] = 1 + random.geometric(0.4, number)
    moves["cents"] = np.rint(retailer.prices(day)[moves["product"]] * 100 * 1.7)
    moves["described"] = True
    lost = random.random(number) < 0.012  # written off: nobody paid, nobody described it
    moves["quantity"][lost] *= -3
    moves["cents"][lost] = 0
    moves["described"][lost] = False
    moves["day"] = day
    rare = [
        (product, quantity, cents)
        for every, product, quantity, cents in (
            (_CHARGES_EVERY, _CHARGES, -1, 1500),
            (_DEBT_EVERY, _DEBT, 1, -1_106_206),
        )
        if busy and day % every == every - 1
    ]
    special = np.zeros(len(rare), _MOVES)
    for row, (product, quantity, cents) in zip(special, rare, strict=True):
        row["day"], row["minute"], row["customer"], row["described"] = day, 17 * 60 + 30, _ANONYMOUS_CUSTOMER, True
        row["basket"], row["product"], row["quantity"], row["cents"] = 1_000_000, product, quantity, cents
    return np.concatenate([moves, special])


def _begins_invoice(moves: Any) -> Any:
    new = np.ones(len(moves), bool)
    new[1:] = np.any([moves[key][1:] != moves[key][:-1] for key in _INVOICE], axis=0)
    return new


def _table(retailer: Retailer, moves: Any, numbers: Ints) -> pa.Table:
    """Lines in the columns of UCI Online Retail II."""
    catalogue = retailer.catalogue
    codes = pa.array([*catalogue.codes, *(code for code, _ in reversed(_SPECIALS))])
    words = pa.array([*catalogue.descriptions, *(text for _, text in reversed(_SPECIALS))])
    product = pa.array(moves["product"].astype(np.int64) % len(codes))  # specials lie at the end
    times = np.datetime64(retailer.settings.first_day, "s") + (
        moves["day"].astype("timedelta64[D]") + moves["minute"].astype("timedelta64[m]")
    ).astype("timedelta64[s]")
    text = pc.cast(pa.array(times), pa.string())
    invoice = pc.binary_join_element_wise(
        pa.array(np.where(moves["cancelled"], "C", "")), pc.cast(pa.array(numbers), pa.string()), ""
    )
    debt = pa.array(moves["product"] == _DEBT)
    described = pc.if_else(pa.array(moves["described"]), words.take(product), pa.scalar(None, pa.string()))
    lines = pa.table(
        {
            "Invoice": pc.if_else(debt, pc.binary_join_element_wise(pa.scalar("A"), invoice, ""), invoice),
            "StockCode": codes.take(product),
            "Description": described,
            "Quantity": pa.array(moves["quantity"].astype(np.int64)),
            "InvoiceDate": text,
            "Price": pa.array(moves["cents"] / 100),
            "Customer ID": pa.array(
                moves["customer"].astype(np.int64) + FIRST_CUSTOMER, mask=moves["customer"] == _ANONYMOUS_CUSTOMER
            ),
            "Country": pa.array([name for name, _ in COUNTRIES]).take(pa.array(moves["country"])),
        },
        schema=SCHEMA,
    )
    return _with_broken_times(lines, moves["day"])


def _with_broken_times(lines: pa.Table, days: Ints) -> pa.Table:
    """Once in a while the last line of a day stands there again, under a time that is none."""
    parts: list[pa.Table] = []
    begin = 0
    for end in (np.flatnonzero(np.diff(days, append=-1)) + 1).tolist():
        parts.append(lines.slice(begin, end - begin))
        if days[end - 1] % _NO_TIME_EVERY == _NO_TIME_EVERY - 1:
            broken = lines.slice(end - 1, 1)
            parts.append(
                broken.set_column(4, "InvoiceDate", pa.array([broken["InvoiceDate"][0].as_py()[:5] + "13-45"]))
            )
        begin = end
    return pa.concat_tables([lines.slice(0, 0), *parts])
