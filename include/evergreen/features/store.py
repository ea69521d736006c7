"""Feast: the one door to features, offline at pinned versions and online at the newest `as_of`.

Nothing else in `evergreen` imports Feast; definitions and stores live in `feature_repo`. Importing Feast takes seconds,
so it is imported inside the functions, and `apply` does without where nothing changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from evergreen.errors import FeatureStoreError
from evergreen.features.registry import FACTOR_FEATURES, FEATURES
from evergreen.features.schema import (
    CUSTOMER_COLUMNS,
    CUSTOMER_FACTOR_COLUMNS,
    PAIR_COLUMNS,
    PRODUCT_COLUMNS,
    PRODUCT_FACTOR_COLUMNS,
)
from evergreen.settings import Settings
from evergreen.settings.tree import PROJECT

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureService, RepoConfig
    from feast import FeatureStore as FeatureStore  # for the modules that handle one without importing Feast

SERVICE = "buy_again"
KEYS = ("customer_id", "product_id")
REPO = PROJECT / "feature_repo"
DEFINITIONS = ("entities", "data_sources", "feature_views", "on_demand", "feature_services")
VIEWS = {"pair_state": "pair_features", "customer_state": "customer_features", "product_state": "product_features"}
"""Feature views and the tables of the lake that they read."""
FACTORS = "factors"
"""The module of the repository whose definitions there are if `settings.features.factors.enabled`."""
FACTOR_VIEWS = {"customer_factors_state": "customer_factors", "product_factors_state": "product_factors"}

PAIRS_A_READ = 2_000
NOTE = "materialized"
"""Under this name the online store keeps what it holds, written in the transaction that wrote the rows."""


def apply(settings: Settings) -> bool:
    """Registers the feature repository's definitions and makes the online store's tables.

    Quick where neither the definitions nor Feast changed since the last time: Feast is not even imported.

    Returns:
        True where something was applied.
    """
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    digest = definitions_digest(settings)
    with _locked(folder / "apply.lock"):
        stamp = folder / "applied.json"
        if stamp.exists() and json.loads(stamp.read_text())["definitions"] == digest and _stores_exist(settings):
            return False
        register(feature_store(settings), definitions(settings))
        stamp.write_text(json.dumps({"definitions": digest}))
    return True


def views(settings: Settings) -> dict[str, str]:
    """Feature views and the tables that they read, those of factors included where the settings ask for them."""
    return VIEWS | FACTOR_VIEWS if settings.features.factors.enabled else VIEWS


def register(store: FeatureStore, wanted: list[Any]) -> None:
    """Makes a registry hold these definitions and nothing else, and the online store their tables."""
    names = {(type(item).__name__, item.name) for item in wanted}
    gone = [item for item in _registered(store) if (type(item).__name__, item.name) not in names]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "On demand feature view is an experimental feature", RuntimeWarning)
        store.apply(wanted, objects_to_delete=gone, partial=False)


def feature_store(
    settings: Settings, versions: Mapping[str, int] | None = None, online: Mapping[str, Any] | None = None
) -> FeatureStore:
    """A Feast store.

    Args:
        settings: which lake, registry and online store.
        versions: table versions that are read; the newest where a table is not named.
        online: another online store than the settings', as Feast configures it.
    """
    from feast import FeatureStore

    config = repo_config(settings, versions)
    if online is not None:
        config.online_config = dict(online)
    return FeatureStore(config=config)


def repo_config(settings: Settings, versions: Mapping[str, int] | None = None) -> RepoConfig:
    """What `feature_repo/feature_store.yaml` says for the local profile, for any settings and versions."""
    from feast import RepoConfig

    wanted = {*VIEWS.values(), *FACTOR_VIEWS.values()}
    return RepoConfig(
        project="evergreen",
        provider="local",
        registry={**_registry(settings), "cache_ttl_seconds": 0},
        online_store=_online(settings),
        offline_store={
            "type": "feature_repo.stores.delta.DeltaOfflineStore",
            "lake": str(settings.lake_path),
            "versions": {table: number for table, number in (versions or {}).items() if table in wanted},
            "memory_gib": settings.feature_store.join_memory_gib,
            "threads": settings.feature_store.join_threads,
        },
        materialization={"online_write_batch_size": settings.feature_store.online_write_rows},
        entity_key_serialization_version=3,
        repo_path=str(REPO),
    )


def _registry(settings: Settings) -> dict[str, Any]:
    if url := settings.feature_store.registry_url:
        return {"registry_type": "sql", "path": url}
    return {"registry_type": "file", "path": str(_folder(settings) / "registry.db")}


def _stores_exist(settings: Settings) -> bool:
    """Whether what was applied to is still there: a file or a database may have been made anew."""
    folder, given = _folder(settings), settings.feature_store
    if not given.online_url and not (folder / "online.db").exists():
        return False
    if not given.registry_url:
        return (folder / "registry.db").exists()
    from sqlalchemy import create_engine, inspect, text
    from sqlalchemy.pool import NullPool

    with create_engine(given.registry_url, poolclass=NullPool).connect() as connection:
        return inspect(connection).has_table("feature_views") and bool(
            connection.execute(text("SELECT count(*) FROM feature_views")).scalar()
        )


def _online(settings: Settings) -> dict[str, Any]:
    if url := settings.feature_store.online_url:
        return {"type": "feature_repo.stores.redis.RowRedisOnlineStore", "url": url}
    path = str(_folder(settings) / "online.db")
    return {"type": "feature_repo.stores.sqlite.RowSqliteOnlineStore", "path": path}


def historical_features(
    settings: Settings, versions: Mapping[str, int], entities: pd.DataFrame, service: str = SERVICE
) -> pd.DataFrame:
    """Point-in-time features of (customer, product) pairs, one `as_of` in memory at a time.

    Args:
        settings: which lake and registry.
        versions: table versions that are read, as in a release of `features`.
        entities: n rows of `customer_id`, `product_id` and `as_of` (a date: everything before its 00:00 UTC is known).
        service: feature service; without a version (`buy_again`) its newest one.

    Returns:
        n rows in the same order: `customer_id`, `product_id`, `as_of`, then the service's features in its order. What
        is not known reads as NaN, or `unknown`.

    Raises:
        FeatureStoreError: an unknown service, versions without a table of factors where they are switched on, or a
            join that lost or added rows.
    """
    import numpy as np
    import pandas as pd

    check_factors(settings, versions)
    apply(settings)
    store = feature_store(settings, versions)
    references = service_references(store, service)
    as_ofs = np.array(pd.to_datetime(entities["as_of"]).dt.date)
    parts, places = [], []
    for as_of in sorted(set(as_ofs)):
        place = np.flatnonzero(as_ofs == as_of)
        parts.append(read_offline(store, references, entities.iloc[place], as_of))
        places.append(place)
    if not parts:
        return pd.DataFrame(columns=[*KEYS, "as_of", *_names(references)])
    joined = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
    place = np.concatenate(places)
    if len(joined) != len(entities):
        raise FeatureStoreError(f"{len(entities)} pairs went into the join, {len(joined)} came out")
    return joined if (np.diff(place) > 0).all() else joined.iloc[np.argsort(place)].reset_index(drop=True)


def check_factors(settings: Settings, versions: Mapping[str, int]) -> None:
    """Refuses a release that was made before factors were switched on: its pairs would have none, without a word.

    Raises:
        FeatureStoreError: naming the table and the setting.
    """
    for table in views(settings).values():
        if table in FACTOR_VIEWS.values() and table not in versions:
            raise FeatureStoreError(
                f"the release of features has no table {table}: it was made before settings.features.factors.enabled; "
                "build the features of the day again"
            )


def online_features(settings: Settings, pairs: pd.DataFrame, as_of: date, service: str = SERVICE) -> pd.DataFrame:
    """The same features from the online store, for pairs that are asked for now.

    Args:
        settings: which online store.
        pairs: n rows of `customer_id` and `product_id`.
        as_of: must be the date that is materialized: an older store would serve stale ages, a newer one the future.
        service: feature service; without a version its newest one.

    Returns:
        n rows in the same order, with the columns of `historical_features`.

    Raises:
        FeatureStoreError: the online store holds another `as_of`, or the service is unknown.
    """
    store, references = _reader(settings, service)
    held = materialized(store)
    if held is None or held["as_of"] != str(as_of):
        has = "nothing" if held is None else f"features as of {held['as_of']}"
        raise FeatureStoreError(f"the online store holds {has}, asked for {as_of}: materialize that day first")
    return read_online(store, references, pairs, as_of)


def read_offline(store: FeatureStore, references: list[str], pairs: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """Features at the store's versions.

    Args:
        store: the Feast store.
        references: `view:feature`; features' names are unique over all views.
        pairs: n rows of `customer_id` and `product_id`.
        as_of: everything before its 00:00 UTC is known.

    Returns:
        n rows in the same order: `customer_id`, `product_id`, `as_of` and the named columns.

    Raises:
        FeatureStoreError: the join lost or added rows.
    """
    import pandas as pd

    labels = pd.DataFrame({key: pairs[key].to_numpy() for key in KEYS})
    labels["event_timestamp"] = pd.Timestamp(datetime.combine(as_of, time(), UTC))
    labels["as_of_day"] = _epoch_day(as_of)
    found = store.get_historical_features(labels, references).to_arrow()
    if found.num_rows != len(pairs):
        raise FeatureStoreError(f"as of {as_of}: {len(pairs)} pairs went into the join, {found.num_rows} came out")
    return _with_keys(pairs, as_of, found.select(_names(references)).to_pandas())


def read_online(store: FeatureStore, references: list[str], pairs: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """The same from the online store, whatever it holds; within an open transaction, what that has written so far."""
    import pandas as pd

    names, parts = _names(references), []
    for start in range(0, len(pairs), PAIRS_A_READ):
        some = pairs.iloc[start : start + PAIRS_A_READ]
        request = {key: some[key].tolist() for key in KEYS} | {"as_of_day": [_epoch_day(as_of)] * len(some)}
        response = store.get_online_features(references, request).to_dict()
        parts.append(pd.DataFrame({name: response[name] for name in names}))
    read = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)
    return _with_keys(pairs, as_of, read)


def bring_online(store: FeatureStore, view: str, start: datetime, end: datetime, only: pa.Table | None = None) -> None:
    """Writes each entity's newest row with an event time in [start, end] to the online store.

    Args:
        store: the Feast store at the versions to read.
        view: feature view.
        start: first instant.
        end: last instant, inclusive. Before `start`: nothing is written.
        only: keys of the entities to write; default all.
    """
    if end < start:
        return
    definition = store.get_feature_view(view)
    keys = [field.name for field in definition.entity_columns]
    columns = [field.name for field in definition.features]
    source: Any = definition.batch_source
    newest = store._get_provider().offline_store.pull_latest_from_table_or_query(
        store.config, source, keys, columns, source.timestamp_field, source.created_timestamp_column, start, end
    )
    rows = newest.to_arrow()
    if only is not None:
        wanted = only.append_column("wanted", pa.array([True] * only.num_rows, pa.bool_()))
        places = rows.select(keys).append_column("place", pa.array(range(rows.num_rows), pa.int64()))
        rows = rows.take(places.join(wanted, keys, join_type="inner")["place"])  # Arrow joins no lists
    online_store(store).write_table(store.config, definition, rows)


def forget(store: FeatureStore, view: str, keys: pa.Table | None) -> None:
    """Takes entities out of the online store: those with these keys; None: all."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    online, definition = online_store(store), store.get_feature_view(view)
    if keys is None:
        online.prune(store.config, definition, None)
        return
    columns = [keys[name].to_pylist() for name in keys.column_names]
    entities = (
        EntityKey(join_keys=keys.column_names, entity_values=[Value(string_val=value) for value in row])
        for row in zip(*columns, strict=True)
    )
    online.delete(store.config, definition, entities)


def forget_before(store: FeatureStore, view: str, instant: datetime) -> None:
    """Takes entities out of the online store whose newest row is older than `instant`: Feast ignores TTLs online."""
    online_store(store).prune(store.config, store.get_feature_view(view), instant)


def materialized(store: FeatureStore) -> dict[str, Any] | None:
    """What the online store holds (`as_of`, release and definitions), None before the first load."""
    text = online_store(store).noted(store.config, NOTE)
    return None if text is None else json.loads(text)


def online_store(store: FeatureStore) -> Any:
    """The online store behind a Feast store: a `feature_repo.stores.rows.RowOnlineStore`."""
    return store._get_provider().online_store


def definitions_digest(settings: Settings) -> str:
    """SHA-256 over all that `apply` registers: the repository's modules, columns, features, Feast's version."""
    hasher = hashlib.sha256(version("feast").encode())
    factors = settings.features.factors.enabled
    for file in sorted(REPO.rglob("*.py")):
        if file.stem == FACTORS and not factors:
            continue
        hasher.update(str(file.relative_to(REPO)).encode())
        hasher.update(file.read_bytes())
    hasher.update(repr((PAIR_COLUMNS, CUSTOMER_COLUMNS, PRODUCT_COLUMNS, FEATURES)).encode())
    if factors:
        hasher.update(repr((CUSTOMER_FACTOR_COLUMNS, PRODUCT_FACTOR_COLUMNS, FACTOR_FEATURES)).encode())
    return hasher.hexdigest()


def service_references(store: FeatureStore, service: str = SERVICE) -> list[str]:
    """References (`view:feature`) of the service's features, in its order.

    Raises:
        FeatureStoreError: there is no such service.
    """
    projections: list[Any] = _service(store, service).feature_view_projections
    return [
        f"{projection.name_to_use()}:{feature.name}" for projection in projections for feature in projection.features
    ]


def state_references(store: FeatureStore, views: Iterable[str] = VIEWS) -> list[str]:
    """References of all stored columns of views."""
    return [f"{view}:{feature.name}" for view in views for feature in store.get_feature_view(view).features]


def _names(references: list[str]) -> list[str]:
    return [reference.split(":", 1)[1] for reference in references]


def _with_keys(pairs: pd.DataFrame, as_of: date, read: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    keys = pd.DataFrame({key: pairs[key].to_numpy() for key in KEYS} | {"as_of": [as_of] * len(pairs)})
    return pd.concat([keys, read], axis=1)


def _service(store: FeatureStore, name: str) -> FeatureService:
    versions: dict[int, FeatureService] = {}
    known = store.list_feature_services()
    for service in known:
        if service.name == name:
            return service
        if match := re.fullmatch(rf"{re.escape(name)}_v(\d+)", service.name):
            versions[int(match[1])] = service
    if not versions:
        listed = ", ".join(sorted(service.name for service in known))
        raise FeatureStoreError(f"feature service {name!r} is unknown, must be one of: {listed}")
    return versions[max(versions)]


def definitions(settings: Settings) -> list[Any]:
    """All Feast objects that stand in the modules of the feature repository; of factors only where they are made."""
    from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView

    kinds = (Entity, FeatureView, OnDemandFeatureView, FeatureService)
    found = {}
    for name in (*DEFINITIONS, FACTORS) if settings.features.factors.enabled else DEFINITIONS:
        for item in vars(import_module(f"feature_repo.{name}")).values():
            if isinstance(item, kinds):
                found[(type(item).__name__, item.name)] = item
    return list(found.values())


def _registered(store: FeatureStore) -> Sequence[Any]:
    return [
        *store.list_entities(),
        *store.list_feature_views(),
        *store.list_on_demand_feature_views(),
        *store.list_feature_services(),
    ]


_READERS: dict[tuple[str, str, str], tuple[FeatureStore, list[str]]] = {}
"""Stores and references for online reads, by home, definitions and service: making them costs more than a request."""


def _reader(settings: Settings, service: str) -> tuple[FeatureStore, list[str]]:
    key = (str(settings.home_path), definitions_digest(settings), service)
    if key not in _READERS:
        apply(settings)
        store = feature_store(settings)
        _READERS[key] = (store, service_references(store, service))
    return _READERS[key]


def _folder(settings: Settings) -> Path:
    return settings.home_path / "feast"


def _epoch_day(day: date) -> int:
    return (day - date(1970, 1, 1)).days


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Two processes that apply at once would each write the registry without the other's objects."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
