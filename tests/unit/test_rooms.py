"""Who may import whom (the directions of the design), read from the source: nothing is imported here."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
ROOTS = {"include": "evergreen", "plugins": "evergreen_airflow", "dags": "dags", "feature_repo": "feature_repo"}

# A room may import from its own layer and from those before it in this list, never from those after it.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "files", "settings", "system_errors", "logs"}),
    frozenset({"lake"}),
    frozenset({"ingest", "quality", "features"}),
    frozenset({"models"}),
    frozenset({"training"}),
    frozenset({"evaluation"}),
    frozenset({"promotion"}),
    frozenset({"serving", "monitoring", "experiments", "broker"}),
    frozenset({"jobs", "platform"}),
    frozenset({"backup"}),
    frozenset({"deploy"}),
    frozenset({"cli"}),
)
HEAVY = frozenset(
    {
        "duckdb", "evidently", "feast", "great_expectations", "lightgbm", "matplotlib", "mlflow", "onnx", "onnxruntime",
        "optuna", "pandas", "polars", "pyspark", "scipy", "sklearn", "torch", "xgboost",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Import:
    target: str  # dotted name; for `from a import b` that is `a.b`, where `b` may be a module or a name in `a`
    eager: bool  # runs when the importing module is imported
    line: int


@dataclass(frozen=True)
class Module:
    name: str
    file: Path
    imports: tuple[Import, ...]

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""


def read_imports(tree: ast.AST, package: str = "") -> Iterator[Import]:
    lazy: set[ast.AST] = set()
    for node in ast.walk(tree):
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if guarded or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            body = node.body if isinstance(node.body, list) else [node.body]
            lazy.update(inner for statement in body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node not in lazy, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or package
            yield from (Import(f"{base}.{alias.name}", node not in lazy, node.lineno) for alias in node.names)


@cache
def modules(root: str) -> tuple[Module, ...]:
    found = []
    for file in sorted((PROJECT / root).rglob("*.py")):
        relative = file.relative_to(PROJECT / root).with_suffix("")
        parts = [part for part in relative.parts if part != "__init__"]
        name = ".".join(parts) if root in ("include", "plugins") else ".".join([root, *parts])
        found.append(Module(name, file, tuple(read_imports(ast.parse(file.read_text())))))
    return tuple(found)


@cache
def by_name() -> dict[str, Module]:
    return {module.name: module for root in ROOTS for module in modules(root)}


def local(target: str) -> str | None:
    """The module of ours that an import of `target` runs, if any."""
    while target:
        if target in by_name():
            return target
        target = target.rpartition(".")[0]
    return None


def shown(module: Module, entry: Import) -> str:
    return f"{module.file.relative_to(PROJECT)}, line {entry.line}, imports {entry.target}"


def top(target: str) -> str:
    return target.split(".")[0]


def layer_of(room: str) -> int:
    return next(index for index, rooms in enumerate(LAYERS) if room in rooms)


def test_every_room_has_a_place() -> None:
    known = frozenset().union(*LAYERS)
    new = sorted({module.room for module in modules("include") if module.room} - known)
    assert new == [], "give each new room of include/evergreen a place in LAYERS, above what may import it"


def test_rooms_import_one_way() -> None:
    wrong = [
        shown(module, entry)
        for module in modules("include")
        for entry in module.imports
        if (target := local(entry.target)) and module.room and (room := by_name()[target].room)
        if layer_of(room) > layer_of(module.room)
    ]
    assert wrong == []


def test_rooms_form_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module in modules("include"):
        targets = {by_name()[target].room for entry in module.imports if (target := local(entry.target))}
        graph.setdefault(module.room, set()).update(targets - {module.room, ""})
    assert_no_circle({room: others for room, others in graph.items() if room})


def test_modules_form_no_circle() -> None:
    graph = {
        module.name: {
            target
            for entry in module.imports
            if entry.eager and (target := local(entry.target)) and target != module.name
            if not module.name.startswith(f"{target}.")  # a package's own page gathers what its modules define
        }
        for module in by_name().values()
    }
    assert_no_circle(graph)


def assert_no_circle(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' <- '.join(error.args[1])}")


def test_evergreen_never_imports_airflow() -> None:
    wrong = [
        shown(module, entry)
        for module in modules("include")
        for entry in module.imports
        if top(entry.target) in ("airflow", "evergreen_airflow", "dags")
    ]
    assert wrong == []


def test_dags_import_only_what_parses_fast() -> None:
    wrong = [
        shown(module, entry)
        for module in modules("dags")
        for entry in module.imports
        if not (
            entry.target.startswith("airflow.sdk.")
            or top(entry.target) in ("evergreen_airflow", "__future__")
            or top(entry.target) in sys.stdlib_module_names
            or (top(entry.target) == "evergreen" and not entry.eager)  # a task's body calls one function
        )
    ]
    assert wrong == [], "parsing a DAG file imports airflow.sdk, evergreen_airflow and the standard library alone"


def test_feature_repo_stands_on_features_and_lake() -> None:
    allowed = {"features", "lake", "settings", "errors"}
    wrong = [
        shown(module, entry)
        for module in modules("feature_repo")
        for entry in module.imports
        if (target := local(entry.target)) and top(target) == "evergreen" and by_name()[target].room not in allowed
    ]
    assert wrong == []


def test_feast_is_known_to_one_module() -> None:
    users = {module.name for module in modules("include") for entry in module.imports if top(entry.target) == "feast"}
    bench = "evergreen.jobs.bench_point_in_time_join"  # it measures Feast's own stores
    assert users <= {"evergreen.features.store", bench}


LIGHT = ("dags", "evergreen_airflow", "evergreen.cli", "evergreen.settings", "evergreen.lake", "evergreen.logs")


@pytest.mark.parametrize("prefix", LIGHT)
def test_light_modules_stay_light(prefix: str) -> None:
    """No heavy package is reached from them by imports that run at import time, however indirectly."""
    wrong = []
    for start in [name for name in by_name() if f"{name}.".startswith(f"{prefix}.")]:
        waiting, seen = [start], {start}
        while waiting:
            module = by_name()[waiting.pop()]
            for entry in (entry for entry in module.imports if entry.eager):
                if top(entry.target) in HEAVY:
                    wrong.append(f"{shown(module, entry)} (reached from {start})")
                target = local(entry.target)
                names = (
                    [] if target is None else [".".join(target.split(".")[:n]) for n in range(1, target.count(".") + 2)]
                )
                new = [name for name in names if name in by_name() and name not in seen]
                seen.update(new)
                waiting += new
    assert sorted(set(wrong)) == [], "import it inside the function that needs it"


def test_the_reader_tells_eager_imports_from_lazy_ones() -> None:
    """Control: a reader that saw nothing, or took every import for lazy, would let everything above pass."""
    source = """
import pandas
from airflow.sdk import dag
if TYPE_CHECKING:
    import feast
else:
    import duckdb
def f():
    from pyspark.sql import functions
class A:
    import mlflow
"""
    found = {(entry.target, entry.eager) for entry in read_imports(ast.parse(source))}
    assert found == {
        ("pandas", True),
        ("airflow.sdk.dag", True),
        ("feast", False),
        ("duckdb", True),
        ("pyspark.sql.functions", False),
        ("mlflow", True),
    }


def test_the_reader_sees_the_project() -> None:
    assert local("evergreen.lake.table.Lake") == "evergreen.lake.table"
    assert any(entry.target == "deltalake.DeltaTable" for entry in by_name()["evergreen.lake.table"].imports)


def test_a_circle_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match="circle"):
        assert_no_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
