"""The rows of one `as_of` of a training set: joined once, found again while what they are made from stays the same.

Tomorrow's training set has all dates of today's but two; joining those anew would be most of its time.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from evergreen.errors import TrainingError
from evergreen.features import registry
from evergreen.lake import Lake, Release
from evergreen.lake.digest import digest_json
from evergreen.models.inputs import SNAPSHOTS, Join, features_of
from evergreen.models.pairs import labelled_pairs
from evergreen.models.preprocessing import as_float32
from evergreen.settings.training import TrainingSettings

FOLDER = "by_as_of"


class Chunks:
    """Rows by `as_of`, at a release of features. With a folder they are kept there under the digest of their inputs."""

    def __init__(
        self,
        lake: Lake,
        release: Release,
        training: TrainingSettings,
        join: Join,
        *,
        folder: Path | None = None,
        code: str = "",
    ) -> None:
        """Takes what rows are made from.

        Args:
            lake: where pairs and snapshots are.
            release: versions that are read.
            training: windows and the feature service.
            join: gives features for entities.
            folder: where chunks are kept; None keeps none.
            code: digest of what computes features.
        """
        self._lake, self._release, self._training, self._join = lake, release, training, join
        self._folder, self._code = folder, code
        self._asked: set[Path] = set()

    def of(self, as_of: date) -> pa.Table:
        """Keys, label and features of all pairs that are active as of a date, sorted by customer and product.

        Raises:
            TrainingError: the join gave no known feature.
            FeatureStoreError: the join lost, added or moved rows.
        """
        if self._folder is None:
            return labelled_features(self._lake, self._release, as_of, self._training, self._join)
        file = self._folder / f"{self.key(as_of)}.parquet"
        self._asked.add(file)
        try:
            return pq.read_table(file, memory_map=True)
        except (OSError, pa.ArrowInvalid):  # not there, or damaged
            chunk = labelled_features(self._lake, self._release, as_of, self._training, self._join)
            _keep(chunk, file)
            return chunk

    def key(self, as_of: date) -> str:
        """Digest of all that the rows of a date depend on.

        Those are the pairs' purchases from `active_days` before the date to the end of its label window, the snapshots
        as of the date, and the code.
        """
        training, versions = self._training, self._release.versions
        first = as_of - timedelta(days=training.active_days)
        last = as_of + timedelta(days=training.horizon_days - 1)
        pairs = self._lake.table("pair_features", versions["pair_features"]).digests
        snapshots = {name: self._lake.table(name, versions[name]).digests for name in SNAPSHOTS if name in versions}
        return digest_json(
            {
                "as_of": str(as_of),
                "code": self._code,
                "service": training.service,
                "active_days": training.active_days,
                "horizon_days": training.horizon_days,
                "pairs": sorted([str(day), digest] for day, digest in pairs.items() if first <= day <= last),
                "snapshots": {name: days.get(as_of - timedelta(days=1)) for name, days in snapshots.items()},
            }
        )

    def forget_others(self) -> None:
        """Removes the chunks that nobody asked for: dates move on, and a corrected day leaves old ones behind."""
        if self._folder is not None:
            for file in set(self._folder.glob("*.parquet")) - self._asked:
                file.unlink(missing_ok=True)


def labelled_features(lake: Lake, release: Release, as_of: date, training: TrainingSettings, join: Join) -> pa.Table:
    """What `Chunks.of` gives, made anew. Numbers are float32: what models read, and half the memory."""
    pairs = lake.table("pair_features", release.versions["pair_features"])
    labelled = labelled_pairs(pairs, as_of, training.active_days, training.horizon_days)
    frame = features_of(labelled, as_of, join)
    names = [feature.name for feature in registry.KNOWN if feature.name in frame]
    if not names:
        raise TrainingError(f"the join as of {as_of} gave no feature that evergreen.features.registry knows")
    columns: dict[str, pa.Array] = {
        "as_of": pa.array([as_of] * len(frame), pa.date32()),
        "customer_id": labelled["customer_id"],
        "product_id": labelled["product_id"],
        "label": labelled["label"],
    }
    for name in names:
        if dtype(name) == "string":
            columns[name] = pa.array(frame[name], pa.string(), from_pandas=True)
        else:
            columns[name] = pa.array(as_float32(frame[name]), pa.float32(), from_pandas=True)
    return pa.table(columns)


def dtype(feature: str) -> str:
    """How a feature is stored in a training set."""
    return "string" if feature in registry.CATEGORICAL or registry.RAW.get(feature) == "text" else "float32"


def _keep(chunk: pa.Table, file: Path) -> None:
    """Writes a chunk whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{uuid4().hex}")
    try:
        pq.write_table(chunk, draft, compression="zstd", compression_level=1)
        draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)
