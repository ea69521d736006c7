"""Training sets: point-in-time features and mature labels, canonically sorted, named by their content's digest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evergreen.errors import TrainingError
from evergreen.features.registry import RAW
from evergreen.features.store import definitions_digest
from evergreen.files import file_sha256
from evergreen.lake import Lake, Release
from evergreen.lake.digest import digest_json, digest_table
from evergreen.models.inputs import Join, feast_join, pinned, pinned_features
from evergreen.models.preprocessing import FeatureKind
from evergreen.settings import Settings
from evergreen.training.chunks import FOLDER, Chunks, dtype
from evergreen.training.dates import TrainingDates, training_dates
from evergreen.training.provenance import code_digest
from evergreen.training.splits import Split, split_customers

TRANSFORM = "training_set/1"
MANIFEST = "manifest.json"
TRAIN, INNER, HOLDOUT = "train.parquet", "inner.parquet", "holdout.parquet"
KEYS = ("as_of", "customer_id", "product_id", "label")


@dataclass(frozen=True)
class TrainingSet:
    """A training set on disk.

    `train.parquet` holds the training customers, `inner.parquet` the customers held out for early stopping and
    selection (column `split`) as of the newest dates, `holdout.parquet` all pairs as of the holdout: the gate alone
    reads that one.
    """

    digest: str
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def day(self) -> date:
        """Newest day of data that it was made from."""
        return date.fromisoformat(self.manifest["day"])

    @property
    def as_ofs(self) -> tuple[date, ...]:
        """Training `as_of`s, ascending."""
        return tuple(date.fromisoformat(text) for text in self.manifest["content"]["as_ofs"])

    @property
    def inner_as_ofs(self) -> tuple[date, ...]:
        """Those `as_of`s of which `inner.parquet` holds rows, ascending."""
        return self.as_ofs[-self.manifest["content"].get("inner_steps", len(self.as_ofs)) :]

    @property
    def holdout(self) -> date:
        """The `as_of` of the holdout."""
        return date.fromisoformat(self.manifest["content"]["holdout"])

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each split and of the holdout."""
        return dict(self.manifest["rows"])

    @property
    def versions(self) -> dict[str, int]:
        """Table versions that the features were read at."""
        return dict(self.manifest["versions"])

    @property
    def features(self) -> list[tuple[str, FeatureKind]]:
        """(name, kind) of the features in order."""
        return [(entry["name"], _kind(entry["dtype"])) for entry in self.manifest["content"]["features"]]

    @property
    def raw(self) -> list[tuple[str, FeatureKind]]:
        """(name, kind) of the texts and the steps of sequences, which only a model with encoders for them reads."""
        return [(entry["name"], entry["kind"]) for entry in self.manifest["content"].get("raw", [])]

    def file(self, name: str) -> Path:
        """Path of one of the Parquet files."""
        return self.folder / name

    def summary(self) -> dict[str, Any]:
        """A small JSON document: what a task hands on."""
        keys = ("day", "versions", "rows", "positives", "steps")
        content = self.manifest["content"]
        return {
            "digest": self.digest,
            "folder": str(self.folder),
            "as_ofs": content["as_ofs"],
            "holdout": content["holdout"],
            "features": len(content["features"]),
            **{key: self.manifest[key] for key in keys},
        }

    @staticmethod
    def open(folder: Path | str, digest: str = "", *, files: Collection[str] = ()) -> TrainingSet:
        """A training set whose files are verified against its manifest.

        Args:
            folder: where it lies.
            digest: which one it must be; empty for any.
            files: verify these alone, and open no other; empty for all.

        Raises:
            TrainingError: there is none, its digest is another one, or a file is missing or altered.
        """
        folder = Path(folder)
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            stated, content = manifest["digest"], manifest["content"]
            wanted = {name: sha256 for name, sha256 in manifest["files"].items() if not files or name in files}
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"training set {folder} cannot be read: {error!r}") from None
        if digest_json(content) != stated:
            raise TrainingError(f"training set {folder}: {MANIFEST} was altered, its content has another digest")
        if digest and digest != stated:
            raise TrainingError(f"training set {folder} has digest {stated[:12]}, expected {digest[:12]}")
        for name, sha256 in wanted.items():
            if not (folder / name).is_file():
                raise TrainingError(f"training set {folder}: file {name} is missing")
            if file_sha256(folder / name) != sha256:
                raise TrainingError(f"training set {folder}: file {name} was altered, its SHA-256 is another one")
        return TrainingSet(stated, folder, manifest)


class StoredColumns(Mapping[str, npt.NDArray[Any]]):
    """Columns of a Parquet file, read one at a time: a wide table never stands in memory twice.

    Strings come as objects (None where null), everything else as NumPy numbers (NaN where null).
    """

    def __init__(self, file: Path, split: Split | None = None) -> None:
        self._file = pq.ParquetFile(file, memory_map=True)
        self._mask: pa.Array | None = None
        self._chosen: npt.NDArray[np.int64] | None = None
        self.rows = int(self._file.metadata.num_rows)
        if split is not None:
            self._mask = pc.equal(self._file.read(columns=["split"])["split"].combine_chunks(), split.value)
            self.rows = int(pc.sum(self._mask).as_py() or 0)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name not in self._file.schema_arrow.names:
            raise KeyError(name)
        column = self._file.read(columns=[name], use_threads=True)[name]
        if self._mask is not None:
            column = column.filter(self._mask)
        values = cast("npt.NDArray[Any]", column.to_numpy(zero_copy_only=False))
        return values if self._chosen is None else values[self._chosen]

    def take(self, rows: npt.NDArray[np.int64]) -> StoredColumns:
        """The same columns, of these rows alone."""
        taken = copy(self)
        taken._chosen = rows if self._chosen is None else self._chosen[rows]
        taken.rows = len(rows)
        return taken

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.schema_arrow.names)

    def __len__(self) -> int:
        return len(self._file.schema_arrow.names)

    def labels(self) -> npt.NDArray[np.int8]:
        """The labels, int8[rows].

        Raises:
            TrainingError: a label is missing or neither 0 nor 1, or all are the same.
        """
        values = np.asarray(self["label"], np.float64)
        if np.isnan(values).any():
            raise TrainingError(f"{int(np.isnan(values).sum())} of {len(values)} labels are missing, none may be")
        if not np.isin(values, (0, 1)).all():
            raise TrainingError(f"labels from {values.min():g} to {values.max():g} were seen, must be 0 or 1")
        if len(np.unique(values)) < 2:
            seen = f"all {len(values)} labels are {values[0]:g}" if len(values) else "there is no row"
            raise TrainingError(f"{seen}: there is nothing to tell apart; the customers or the days are too few")
        return values.astype(np.int8)


def build_training_set(settings: Settings, day: date, *, run_id: str = "", join: Join | None = None) -> TrainingSet:
    """The training set of the data up to `day`: built once, found again by its inputs.

    Features are read at the table versions of the newest `features` release.

    Args:
        settings: lake, dates, split.
        day: newest day of data that is used.
        run_id: noted in the manifest.
        join: gives features for entities; default: Feast's point-in-time join at the release's versions.

    Raises:
        LakeError: there is no release of features or transactions, or it does not reach `day`.
        TrainingError: history is too short, or a label window does not lie in ingested days.
        FeatureStoreError: a join lost, added or moved rows.
    """
    lake = Lake(settings.lake_path)
    dates = _mature_dates(lake, day, settings)
    features = pinned_features(lake, day, (*dates.as_ofs, dates.holdout))
    root = settings.home_path / "training_sets"
    code = digest_json([code_digest(), definitions_digest(settings)])
    key = root / "index" / f"{_input_digest(features, dates, settings, code)}.json"
    if found := _indexed(root, key):
        return found
    chunks = Chunks(
        lake,
        features,
        settings.training,
        join or feast_join(settings, features, settings.training.service),
        folder=None if join else root / FOLDER,
        code=code,
    )
    draft = root / f".draft.{uuid4().hex}"
    draft.mkdir(parents=True)
    try:
        digest = write_training_set(draft, features, dates, settings, chunks, day=day, run_id=run_id).digest
        folder = root / digest
        if not folder.exists():
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _note(key, {"digest": digest})
    chunks.forget_others()
    return TrainingSet.open(folder)


def write_training_set(
    folder: Path,
    features: Release,
    dates: TrainingDates,
    settings: Settings,
    chunks: Chunks,
    *,
    day: date,
    run_id: str = "",
) -> TrainingSet:
    """Writes a training set into an empty folder that is there already, whatever lies elsewhere.

    Args:
        folder: where its files go.
        features: table versions that `chunks` reads.
        dates: training `as_of`s and holdout.
        settings: windows, split.
        chunks: gives the rows of each date.
        day: newest day of data that is used.
        run_id: noted in the manifest.

    Raises:
        TrainingError: the join gave no known feature.
        FeatureStoreError: the join lost, added or moved rows.
    """
    manifest = _write(folder, features, dates, settings, chunks)
    manifest |= {"day": str(day), "run_id": run_id}
    (folder / MANIFEST).write_text(json.dumps(manifest, sort_keys=True, indent=1))
    return TrainingSet(manifest["digest"], folder, manifest)


def _mature_dates(lake: Lake, day: date, settings: Settings) -> TrainingDates:
    """The dates of a day, all of whose label windows lie in ingested days."""
    transactions = pinned(lake, "transactions")
    ingested = lake.table("transactions", transactions.versions["transactions"]).days()
    dates = training_dates(day, settings.training, first_day=ingested[0] if ingested else None)
    last = dates.holdout + timedelta(days=settings.training.horizon_days - 1)
    if not ingested or ingested[-1] < last:
        newest = ingested[-1] if ingested else "none"
        raise TrainingError(
            f"labels as of {dates.holdout} need every day up to {last}, the newest ingested day is {newest}: "
            "immature labels are never trained on"
        )
    return dates


def _input_digest(features: Release, dates: TrainingDates, settings: Settings, code: str) -> str:
    training = settings.training
    return digest_json(
        {
            "code": code,
            "features": features.digest,
            "versions": dict(features.versions),
            "as_ofs": [str(as_of) for as_of in (*dates.as_ofs, dates.holdout)],
            "settings": [training.horizon_days, training.active_days, training.service, *_split_settings(settings)],
            **_cut_inner(dates, settings),
        }
    )


def _cut_inner(dates: TrainingDates, settings: Settings) -> dict[str, int]:
    """What stands in digests where held-out customers are not read at all dates: sets of before keep theirs."""
    steps = settings.training.inner_steps
    return {"inner_steps": steps} if steps < len(dates.as_ofs) else {}


def _split_settings(settings: Settings) -> list[Any]:
    training = settings.training
    return [training.salt, training.early_stopping_share, training.selection_share]


def _indexed(root: Path, key: Path) -> TrainingSet | None:
    if not key.exists():
        return None
    digest = json.loads(key.read_text())["digest"]
    try:
        return TrainingSet.open(root / digest, digest)
    except TrainingError:  # removed or damaged: build it again
        shutil.rmtree(root / digest, ignore_errors=True)
        return None


def _note(key: Path, document: Mapping[str, Any]) -> None:
    key.parent.mkdir(parents=True, exist_ok=True)
    draft = key.with_suffix(f".{uuid4().hex}")
    draft.write_text(json.dumps(document))
    draft.rename(key)


def _write(folder: Path, release: Release, dates: TrainingDates, settings: Settings, chunks: Chunks) -> dict[str, Any]:
    """Writes the Parquet files, one `as_of` in memory at a time, and gives the manifest."""
    training = settings.training
    digests: dict[str, dict[str, str]] = {}
    rows: dict[str, int] = dict.fromkeys([*Split, "holdout"], 0)
    positives = dict(rows)
    writers: dict[str, pq.ParquetWriter] = {}
    names: list[str] = []
    for as_of in (*dates.as_ofs, dates.holdout):
        chunk = chunks.of(as_of)
        names = chunk.column_names[len(KEYS) :]
        for file, part in _parts(chunk, as_of, dates, settings):
            if file not in writers:
                writers[file] = pq.ParquetWriter(folder / file, part.schema, compression="zstd", compression_level=1)
            writers[file].write_table(part, row_group_size=max(1, part.num_rows))
            digests.setdefault(file, {})[str(as_of)] = digest_table(part)
            splits = part["split"].to_numpy() if file == INNER else None
            labels = part["label"].to_numpy()
            for name in (Split.EARLY_STOPPING, Split.SELECTION) if file == INNER else (file.split(".")[0],):
                kept = labels if splits is None else labels[splits == name]
                rows[name] += len(kept)
                positives[name] += int(kept.sum())
    for writer in writers.values():
        writer.close()
    content: dict[str, Any] = {
        "transform": TRANSFORM,
        "as_ofs": [str(as_of) for as_of in dates.as_ofs],
        "holdout": str(dates.holdout),
        "horizon_days": training.horizon_days,
        "active_days": training.active_days,
        "service": training.service,
        "salt": training.salt,
        "shares": {Split.EARLY_STOPPING: training.early_stopping_share, Split.SELECTION: training.selection_share},
        "features": [{"name": name, "dtype": dtype(name)} for name in names if name not in RAW],
        "digests": digests,
        **_cut_inner(dates, settings),
    }
    if raw := [{"name": name, "kind": RAW[name]} for name in names if name in RAW]:
        content["raw"] = raw  # sets from before there were any keep their digest
    return {
        "digest": digest_json(content),
        "content": content,
        "versions": dict(release.versions),
        "features_release": release.digest,
        "rows": rows,
        "positives": positives,
        "steps": {"wanted": dates.wanted_steps, "taken": len(dates.as_ofs)},
        "files": {name: file_sha256(folder / name) for name in sorted(writers)},
    }


def _parts(chunk: pa.Table, as_of: date, dates: TrainingDates, settings: Settings) -> Iterator[tuple[str, pa.Table]]:
    if as_of == dates.holdout:
        yield HOLDOUT, chunk
        return
    split = pa.array(split_customers(chunk["customer_id"].to_numpy(), settings.training), pa.string())
    training = pc.equal(split, Split.TRAIN.value)
    yield TRAIN, chunk.filter(training)
    if as_of not in dates.as_ofs[-settings.training.inner_steps :]:
        return
    inner = chunk.filter(pc.invert(training))
    yield INNER, inner.add_column(len(KEYS), "split", split.filter(pc.invert(training)))


def _kind(dtype: str) -> FeatureKind:
    return "category" if dtype == "string" else "number"
