"""Feast offline store over the lake: Delta tables at pinned versions, joined point in time by DuckDB.

Feast's own DuckDB store cannot do this: for Delta it downloads a DuckDB extension at run time, and a glob over the
table's folder also reads files that a later version has replaced. Here the lake names the files of the version, and an
ASOF join replaces a join of every observation with every label row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from feast import type_map
from feast.data_source import DataSource
from feast.feature_view import FeatureView
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.value_type import ValueType
from pydantic import Field

from evergreen.errors import FeatureStoreError
from evergreen.lake import Lake, LakeTable

VECTORIZED = "vectorized"
"""Tag of on-demand views (mode `python`) whose function also takes whole Arrow columns."""

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROW, AT, SEEN, CREATED = "__row", "__at", "__seen", "__created"  # columns of the join; instants in epoch microseconds


class DeltaSource(DataSource):
    """A table of the lake as a Feast source.

    What happened on a day is known from the next midnight on: event timestamps lie after the beginning of the row's
    `event_date` and at the latest at its end, so that the files to read follow from the times asked for.
    """

    def __init__(
        self,
        *,
        table: str,
        name: str = "",
        timestamp_field: str = "event_timestamp",
        created_timestamp_column: str = "",
        field_mapping: dict[str, str] | None = None,
        description: str = "",
        tags: dict[str, str] | None = None,
        owner: str = "",
    ) -> None:
        super().__init__(
            name=name or table,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping,
            description=description,
            tags=tags,
            owner=owner,
        )
        self.table = table

    def __hash__(self) -> int:
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeltaSource) and super().__eq__(other) and self.table == other.table

    def source_type(self) -> Any:
        """Feast's kind for sources that it does not know."""
        return DataSourceProto.CUSTOM_SOURCE

    @staticmethod
    def from_proto(data_source: DataSourceProto) -> DeltaSource:
        """The source that `to_proto` wrote."""
        return DeltaSource(
            table=json.loads(data_source.custom_options.configuration)["table"],
            name=data_source.name,
            timestamp_field=data_source.timestamp_field,
            created_timestamp_column=data_source.created_timestamp_column,
            field_mapping=dict(data_source.field_mapping),
            description=data_source.description,
            tags=dict(data_source.tags),
            owner=data_source.owner,
        )

    def _to_proto_impl(self) -> DataSourceProto:
        options = json.dumps({"table": self.table}).encode()
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type=f"{DeltaSource.__module__}.DeltaSource",
            custom_options=DataSourceProto.CustomSourceOptions(configuration=options),
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            field_mapping=self.field_mapping,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    def validate(self, config: RepoConfig) -> None:
        """Refuses a table that the lake does not know."""
        _open(config, self)

    def get_table_query_string(self) -> str:
        """Name of the table, for Feast's messages."""
        return self.table

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """Feast's type of an Arrow type's name."""
        return type_map.pa_to_feast_value_type

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:
        """Names and Arrow types of the table's columns."""
        return [(field.name, str(field.type)) for field in _open(config, self).spec.file_schema]


class DeltaOfflineStoreConfig(FeastConfigBaseModel):
    """Where the lake is, which versions are read, and what DuckDB may use."""

    type: Literal["feature_repo.stores.delta.DeltaOfflineStore"] = "feature_repo.stores.delta.DeltaOfflineStore"
    lake: str
    """Root folder of the lake, relative to the feature repository."""
    versions: dict[str, int] = Field(default_factory=dict)
    """Pinned versions by table; the newest where a table is not named."""
    memory_gib: float = 2.0
    threads: int | None = None


class DeltaRetrievalJob(RetrievalJob):
    """A query that runs when its rows are asked for."""

    def __init__(
        self,
        run: Callable[[], pa.Table],
        *,
        full_feature_names: bool = False,
        on_demand: Sequence[OnDemandFeatureView] = (),
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._run = run
        self._full_feature_names = full_feature_names
        self._vectorized = [view for view in on_demand if VECTORIZED in view.tags]
        self._on_demand = [view for view in on_demand if VECTORIZED not in view.tags]
        self._metadata = metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        rows = self._run()
        for view in self._vectorized:
            rows = _append_on_demand(rows, view, self._full_feature_names)
        return rows

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    @property
    def full_feature_names(self) -> bool:
        """Whether columns are named `view__feature`."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Views that Feast computes itself: those whose function does not take whole columns."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return self._metadata


class DeltaOfflineStore(OfflineStore):
    """Point-in-time joins with Feast's semantics: TTL inclusive, ties by created time, unmatched label rows kept."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """Joins each label row with each view's newest row at or before it: rows out = rows in, in the same order.

        Raises:
            FeatureStoreError: `entity_df` is no data frame or has label rows without a time.
        """
        if not isinstance(entity_df, pd.DataFrame):
            raise FeatureStoreError(f"entity_df is {type(entity_df).__name__}, must be a data frame of keys and times")
        time_column = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        at = _microseconds(entity_df[time_column])
        joins = [_ViewJoin.of(view, feature_refs, full_feature_names) for view in feature_views]

        def run() -> pa.Table:
            entities = pa.Table.from_pandas(entity_df, preserve_index=False)
            labels = entities.select(sorted({name for join in joins for name in join.keys.values()}))
            labels = labels.append_column(ROW, pa.array(np.arange(len(at)))).append_column(AT, pa.array(at))
            with closing(_connect(config)) as connection:
                connection.register("labels", labels)
                for join in joins:
                    found = join.run(connection, config, at, filter_by_created_timestamp)
                    for name in found.column_names:
                        entities = entities.append_column(name, found[name])
            return entities

        return DeltaRetrievalJob(
            run,
            full_feature_names=full_feature_names,
            on_demand=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[str(name) for name in entity_df.columns if name != time_column],
                min_event_timestamp=_instant(int(at.min())) if len(at) else None,
                max_event_timestamp=_instant(int(at.max())) if len(at) else None,
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Each entity's newest row with an event timestamp in [start_date, end_date]."""
        return _pull(
            config,
            data_source,
            [*join_key_columns, *feature_name_columns],
            created_timestamp_column,
            (start_date, end_date),
            newest_of=join_key_columns,
        )

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows with an event timestamp in [start_date, end_date]; an end that is None is open."""
        return _pull(
            config,
            data_source,
            [*join_key_columns, *feature_name_columns],
            created_timestamp_column,
            (start_date, end_date),
        )


@dataclass(frozen=True)
class _ViewJoin:
    """What one feature view adds to the label rows."""

    source: DeltaSource
    keys: Mapping[str, str]  # of the view -> of the label rows
    columns: Mapping[str, str]  # of the table -> of the result
    ttl: timedelta | None

    @staticmethod
    def of(view: FeatureView, refs: Sequence[str], full_names: bool) -> _ViewJoin:
        source = view.batch_source
        if not isinstance(source, DeltaSource):
            raise FeatureStoreError(f"source of {view.name} is {type(source).__name__}, must be a DeltaSource")
        stored = {new: old for old, new in source.field_mapping.items()}
        prefix = view.projection.name_to_use()
        base = view.projection.name_alias or view.name
        wanted = [ref.split(":", 1)[1] for ref in refs if ref.split(":", 1)[0] == prefix]
        return _ViewJoin(
            source,
            view.projection.join_key_map or {field.name: field.name for field in view.entity_columns},
            {stored.get(name, name): f"{base}__{name}" if full_names else name for name in wanted},
            view.ttl or None,
        )

    def run(self, connection: duckdb.DuckDBPyConnection, config: RepoConfig, at: pd.Series, cut: bool) -> pa.Table:
        """The view's columns, one row a label row, in their order; nulls where nothing matches.

        Args:
            connection: knows the label rows as `labels`.
            config: where the lake is.
            at: the label rows' times, epoch microseconds.
            cut: only rows that were created by the label's time.
        """
        last = _instant(int(at.max())) if len(at) else EPOCH
        first = _instant(int(at.min())) - self.ttl if self.ttl and len(at) else None
        table = _open(config, self.source)
        created = self.source.created_timestamp_column
        rows = _select(
            connection,
            table,
            [*self.keys, *self.columns],
            (self.source.timestamp_field, created),
            (first, last),
            newest_of=[*self.keys, SEEN] if created and not cut else [],
        )
        query = self._newest_created_by_then(rows) if cut and created else self._newest(rows)
        found = connection.sql(f"{query} ORDER BY labels.{ROW}").to_arrow_table()
        if found.num_rows != len(at):
            raise FeatureStoreError(
                f"{self.source.table}: {len(at)} label rows went into the join, {found.num_rows} came out"
            )
        return found

    def _newest(self, rows: str) -> str:
        """The newest row at or before the label, then the TTL: if the newest is too old, then so are all others."""
        taken = [
            f"CASE WHEN {self._within} THEN rows.{_quote(old)} END AS {_quote(new)}"
            for old, new in self.columns.items()
        ]
        on = f"{self._equal} AND labels.{AT} >= rows.{SEEN}"
        return f"SELECT {', '.join(taken)} FROM labels ASOF LEFT JOIN ({rows}) AS rows ON {on}"

    def _newest_created_by_then(self, rows: str) -> str:
        """The same over rows that existed by the label's time, which no ASOF join can say: it takes one inequality."""
        bounds = [f"rows.{SEEN} <= labels.{AT}", f"rows.{CREATED} <= labels.{AT}", self._within]
        found = (
            f"SELECT labels.{ROW}, rows.* FROM labels JOIN ({rows}) AS rows ON {' AND '.join([self._equal, *bounds])} "
            f"QUALIFY row_number() OVER (PARTITION BY labels.{ROW} ORDER BY {SEEN} DESC, {CREATED} DESC) = 1"
        )
        taken = [f"found.{_quote(old)} AS {_quote(new)}" for old, new in self.columns.items()]
        return f"SELECT {', '.join(taken)} FROM labels LEFT JOIN ({found}) AS found ON labels.{ROW} = found.{ROW}"

    @property
    def _equal(self) -> str:
        return " AND ".join(f"labels.{_quote(label)} = rows.{_quote(key)}" for key, label in self.keys.items())

    @property
    def _within(self) -> str:
        return f"labels.{AT} - rows.{SEEN} <= {self.ttl // MICROSECOND}" if self.ttl else f"rows.{SEEN} IS NOT NULL"


def _pull(
    config: RepoConfig,
    source: DataSource,
    names: Sequence[str],
    created: str | None,
    between: tuple[datetime | None, datetime | None],
    newest_of: Sequence[str] = (),
) -> RetrievalJob:
    if not isinstance(source, DeltaSource):
        raise FeatureStoreError(f"source {source.name} is {type(source).__name__}, must be a DeltaSource")

    def run() -> pa.Table:
        with closing(_connect(config)) as connection:
            table = _open(config, source)
            rows = connection.sql(
                _select(connection, table, names, (source.timestamp_field, created or ""), between, newest_of)
            ).to_arrow_table()
        times = {source.timestamp_field: SEEN} | ({created: CREATED} if created else {})
        for name, column in times.items():
            rows = rows.append_column(name, rows[column].cast(pa.timestamp("us", tz="UTC")))
        # Feast writes the first chunk of a table and forgets the others.
        return rows.drop_columns([SEEN, CREATED] if created else [SEEN]).combine_chunks()

    return DeltaRetrievalJob(run)


def _select(
    connection: duckdb.DuckDBPyConnection,
    table: LakeTable,
    names: Sequence[str],
    times: tuple[str, str],
    between: tuple[datetime | None, datetime | None],
    newest_of: Sequence[str],
) -> str:
    """SQL for the table's rows with an event time between two instants (both inclusive).

    Args:
        connection: where an empty table is registered if there is no file to read.
        table: the table at its version.
        names: columns to read.
        times: columns of the event time and the created time; the latter may be empty.
        between: first and last instant; None is open.
        newest_of: columns whose groups give one row each, the newest; none: all rows.
    """
    seen, created = times
    first, last = (None if instant is None else _utc(instant) for instant in between)
    paths = table.paths(first and first.date() - DAY, last and last.date())
    if paths:
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        origin = f"read_parquet([{listed}], hive_partitioning = false)"
    else:
        connection.register("nothing", table.spec.schema.empty_table())
        origin = "nothing"
    taken = [*(_quote(name) for name in names), f"epoch_us({_quote(seen)}) AS {SEEN}"]
    order = [f"{SEEN} DESC"]
    if created:
        taken.append(f"epoch_us({_quote(created)}) AS {CREATED}")
        order.append(f"{CREATED} DESC NULLS LAST")
    bounds = [f"{SEEN} >= {(first - EPOCH) // MICROSECOND}"] if first else []
    bounds += [f"{SEEN} <= {(last - EPOCH) // MICROSECOND}"] if last else []
    rows = f"SELECT {', '.join(taken)} FROM {origin}{' WHERE ' if bounds else ''}{' AND '.join(bounds)}"
    if not newest_of:
        return rows
    group = ", ".join(_quote(name) for name in newest_of)
    return f"SELECT * FROM ({rows}) QUALIFY row_number() OVER (PARTITION BY {group} ORDER BY {', '.join(order)}) = 1"


def _append_on_demand(rows: pa.Table, view: OnDemandFeatureView, full_names: bool) -> pa.Table:
    """Computes an on-demand view from whole columns: Feast itself would turn every cell into a Python object first."""
    inputs: dict[str, pa.ChunkedArray] = {}
    for projection in view.source_feature_view_projections.values():
        for feature in projection.features:
            full = f"{projection.name_to_use()}__{feature.name}"
            inputs[feature.name] = inputs[full] = rows[full if full in rows.column_names else feature.name]
    for name in view.get_request_data_schema():
        inputs[name] = rows[name]
    made = view.feature_transformation.udf(inputs)
    for feature in view.projection.features:
        name = f"{view.projection.name_to_use()}__{feature.name}" if full_names else feature.name
        rows = rows.append_column(name, pa.array(made[feature.name]))
    return rows


def _open(config: RepoConfig, source: DeltaSource) -> LakeTable:
    store = config.offline_store
    root = Path(store.lake)
    if not root.is_absolute():
        root = Path(config.repo_path or ".") / root
    return Lake(root).table(source.table, store.versions.get(source.table))


def _connect(config: RepoConfig) -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own for one query, with bounded memory, that never reaches for the network."""
    store = config.offline_store
    limits = {"memory_limit": f"{store.memory_gib}GiB"} | ({"threads": store.threads} if store.threads else {})
    return duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            **limits,
        }
    )


def _microseconds(times: pd.Series) -> pd.Series:
    """Instants as epoch microseconds; those without a zone are UTC."""
    instants = pd.to_datetime(times, utc=True)
    if missing := int(instants.isna().sum()):
        raise FeatureStoreError(f"{missing} of {len(times)} label rows have no time in column {times.name!r}")
    return instants.astype("datetime64[us, UTC]").astype("int64")


def _instant(microseconds: int) -> datetime:
    return EPOCH + microseconds * MICROSECOND


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
