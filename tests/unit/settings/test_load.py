"""Overrides, refusals that name what to do, `auto` sizes, and a description for every key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from evergreen.errors import SettingsError
from evergreen.settings import Settings, load_settings
from evergreen.settings import load as load_module
from evergreen.settings.machine import GIB, Machine, this_machine
from evergreen.settings.platform import AirflowSettings, SparkSettings
from evergreen.settings.training import TrainingSettings
from evergreen.settings.tree import PROJECT


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a profile named `trial`; what is written there is what `load_settings("trial")` reads."""
    monkeypatch.setattr(load_module, "PROFILES", tmp_path)
    load_module._load.cache_clear()
    yield tmp_path / "trial.yaml"
    load_module._load.cache_clear()


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str | None]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description


def test_every_key_has_a_description() -> None:
    bare = [name for name, description in keys(Settings) if not description]
    assert bare == [], "give each of these a Field(..., description=...): the settings reference is made from it"


@pytest.mark.parametrize("name", ["local", "dev", "compose"])
def test_the_profiles_that_we_ship_load(name: str) -> None:
    assert load_settings(name).profile == name


def test_dev_is_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVERGREEN_HOME")
    local, dev = load_settings("local"), load_settings("dev")
    assert local.home_path == PROJECT / "var"
    assert dev.home_path == PROJECT / "var" / "dev"
    assert local.airflow.port != dev.airflow.port


def test_the_environment_overrides_the_file(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile.write_text("training:\n  steps: 3\n  seed: 5\n")
    monkeypatch.setenv("EVERGREEN__TRAINING__STEPS", "4")
    read = load_settings("trial")
    assert (read.training.steps, read.training.seed) == (4, 5)


def test_the_environment_can_give_lists_and_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN__INGEST__COLUMNS", "{customer_id: Kunde}")
    monkeypatch.setenv("EVERGREEN__INGEST__NON_PRODUCTS", "[POST, FEE]")
    ingest = load_settings("local").ingest
    assert ingest.columns == {"customer_id": "Kunde"}
    assert ingest.non_products == ("POST", "FEE")


def test_the_profile_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROFILE", "dev")
    assert load_settings().profile == "dev"


def test_home_comes_from_the_environment(home: Path) -> None:
    assert load_settings("local").lake_path == home / "lake"


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"profile 'lokal' is unknown, must be one of: compose, dev, local"):
        load_settings("lokal")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "training:\n  seed: 1\n  horizont_days: 28\n",
            "settings.training.horizont_days is not known; the nearest known one is settings.training.horizon_days "
            "(include/evergreen/settings/trial.yaml, line 3)",
        ),
        (
            "trainig:\n  seed: 1\n",
            "settings.trainig is not known; the nearest known one is settings.training "
            "(include/evergreen/settings/trial.yaml, line 1)",
        ),
        (
            "spark:\n  master: local[1]\n\nairflow:\n  # comment\n  prot: 1\n",
            "settings.airflow.prot is not known; the nearest known one is settings.airflow.port "
            "(include/evergreen/settings/trial.yaml, line 6)",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(profile: Path, text: str, message: str) -> None:
    profile.write_text(text)
    with pytest.raises(SettingsError) as refusal:
        load_settings("trial")
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("training:\n  horizon_days: 0\n", ("settings.training.horizon_days is 0", "line 2")),
        ("training:\n  seed: 1\n  steps: many\n", ("settings.training.steps is 'many'", "integer", "line 3")),
        ("logging:\n  format: xml\n", ("settings.logging.format is 'xml'", "'auto', 'text' or 'json'", "line 2")),
        ("\n\ntraining: 7\n", ("settings.training is 7", "line 3")),
    ],
)
def test_a_wrong_value_is_refused_with_file_and_line(profile: Path, text: str, parts: tuple[str, ...]) -> None:
    profile.write_text(text)
    with pytest.raises(SettingsError) as refusal:
        load_settings("trial")
    assert "\n" not in str(refusal.value)
    for part in (*parts, "include/evergreen/settings/trial.yaml"):
        assert part in str(refusal.value)


@pytest.mark.parametrize(("name", "value"), [("EVERGREEN__AIRFLOW__PORT", "80800"), ("EVERGREEN__AIRFLOW__PROT", "1")])
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"environment variable {name}"):
        load_settings("local")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "EVERGREEN__TRAINNG__SEED",
            "1",
            r"settings\.trainng is not known.*environment variable EVERGREEN__TRAINNG__SEED",
        ),
        ("EVERGREEN__AIRFLOW__PORT", "[1, 2", r"environment variable EVERGREEN__AIRFLOW__PORT, line 1 is no YAML"),
        ("EVERGREEN_AIRFLOW_PORT", "81", "EVERGREEN_AIRFLOW_PORT is not read, must be spelt EVERGREEN__AIRFLOW__PORT"),
        ("EVERGREEN__LAKE__LOCATION", "s3://shop/lake", r"location is 's3://shop/lake': the lake is a folder, a URI"),
        ("EVERGREEN__TRAINING__HORIZON_DAYS", "14", r"horizon_days is 14, must be 28: .*EVERGREEN__TRAINING__HORIZON"),
        ("EVERGREEN__TRAINING__ACTIVE_DAYS", "180", r"active_days is 180, must be 365: .*prediction\.py"),
    ],
)
def test_a_variable_that_cannot_be_meant_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message) as refusal:
        load_settings("local")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("training: [1\n", r"settings/trial\.yaml, line \d is no YAML"), ("- 1\n", "must hold sections with keys")],
)
def test_a_profile_that_is_no_mapping_is_refused(profile: Path, text: str, message: str) -> None:
    profile.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings("trial")


def test_the_days_of_the_prediction_stand_in_one_place() -> None:
    """The constants that features are made with are those that the settings are held against."""
    from evergreen.features import fold, materialize, relative, snapshots
    from evergreen.settings import prediction
    from feature_repo.feature_views import ACTIVE

    assert fold.REPEAT_DAYS == relative.HORIZON_DAYS == prediction.HORIZON_DAYS == TrainingSettings().horizon_days
    active = (snapshots.ACTIVE_DAYS, materialize.ACTIVE_DAYS, ACTIVE.days + 1, TrainingSettings().active_days)
    assert set(active) == {prediction.ACTIVE_DAYS}


def test_settings_are_frozen(settings: Settings) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings.training.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("cores", "gib", "memory", "partitions"),
    [(1, 2, 1, 4), (2, 24, 6, 4), (16, 128, 32, 32), (64, 1024, 32, 128)],
)
def test_auto_sizes_follow_the_machine(cores: int, gib: int, memory: int, partitions: int) -> None:
    machine = Machine(cores, gib * GIB)
    assert (machine.spark_memory_gib, machine.shuffle_partitions) == (memory, partitions)


def test_auto_is_resolved_and_a_number_is_kept() -> None:
    machine = this_machine()
    spark, airflow = SparkSettings(), AirflowSettings()
    assert (spark.memory_gib, spark.partitions) == (machine.spark_memory_gib, machine.shuffle_partitions)
    assert airflow.slots == machine.cores + 1
    fixed = SparkSettings(driver_memory_gib=3, shuffle_partitions=7)
    assert (fixed.memory_gib, fixed.partitions) == (3, 7)
    assert AirflowSettings(parallelism=9).slots == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  steps: 1\n", r"min_steps is 2, must be at most steps \(1\)"),
        ("training:\n  early_stopping_share: 0.4\n  selection_share: 0.4\n", "at least a fifth of the customers"),
        ("training:\n  candidates: {}\n", "must name at least one candidate"),
        ("training:\n  candidates: {a: {model: xgboost, enabled: false}}\n", "must name at least one candidate"),
        ("sample:\n  day: 2020-01-01\n", r"day 2020-01-01 must lie after first_day"),
        ("ingest:\n  columns: {colour: Farbe}\n", "'colour' is no column of the contract, must be one of"),
        ("ingest:\n  columns: {quantity: ''}\n", "'quantity' cannot be absent"),
        ("features:\n  categories: {other: [BOX]}\n", "category 'other' is what is left over"),
        ("features:\n  categories: {a: [box]}\n", "must be upper-case letters"),
        ("features:\n  categories: {a: [BOX], b: [BOX]}\n", "stands in the categories 'a' and 'b'"),
        ("promotion:\n  guardrails: {}\n", "must hold the primary metric"),
        ("promotion:\n  guardrails: {average_precision: -1}\n", "negative margin, must be 0 or more"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(profile: Path, text: str, message: str) -> None:
    profile.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings("trial")


@pytest.mark.parametrize(("seen", "threads"), [("auto", this_machine().cores), (3, 3)])
def test_trainer_threads(seen: int | str, threads: int) -> None:
    assert TrainingSettings.model_validate({"threads": seen}).trainer_threads == threads


def test_a_secret_comes_from_a_file(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As text, whatever it looks like; a changed file is read again."""
    profile.write_text("")
    secret = tmp_path / "secret"
    secret.write_text("1234\n")
    monkeypatch.setenv("EVERGREEN__PROMOTION__LEDGER_URL_FILE", str(secret))
    assert load_settings("trial").promotion.ledger_url == "1234"
    secret.write_text("postgresql://other")
    assert load_settings("trial").promotion.ledger_url == "postgresql://other"


def test_a_secret_file_that_is_missing_is_named(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile.write_text("")
    monkeypatch.setenv("EVERGREEN__PROMOTION__LEDGER_URL_FILE", str(tmp_path / "none"))
    expected = r"EVERGREEN__PROMOTION__LEDGER_URL_FILE names .*/none, which cannot be read: No such file or directory$"
    with pytest.raises(SettingsError, match=expected):
        load_settings("trial")


def test_a_secret_is_never_shown(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile.write_text("")
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    monkeypatch.setenv("EVERGREEN__AIRFLOW__PORT_FILE", str(secret))
    with pytest.raises(SettingsError) as refused:
        load_settings("trial")
    assert "hunter2" not in str(refused.value)
    assert "EVERGREEN__AIRFLOW__PORT_FILE" in str(refused.value)


def test_a_secret_is_not_shown_with_its_section(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile.write_text("promotion:\n  primary_metric: other\n")
    secret = tmp_path / "secret"
    secret.write_text("postgresql://ledger:hunter2@postgres/ledger")
    monkeypatch.setenv("EVERGREEN__PROMOTION__LEDGER_URL_FILE", str(secret))
    with pytest.raises(SettingsError, match=r"primary_metric.*other") as refused:
        load_settings("trial")
    assert "hunter2" not in str(refused.value)


def test_a_setting_is_given_once(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile.write_text("")
    monkeypatch.setenv("EVERGREEN__MLFLOW__EXPERIMENT", "a")
    monkeypatch.setenv("EVERGREEN__MLFLOW__EXPERIMENT_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"EXPERIMENT and .*EXPERIMENT_FILE are both set"):
        load_settings("trial")


def test_no_setting_is_called_like_a_secret_file() -> None:
    assert [name for name, _ in keys(Settings) if name.endswith("_file")] == [], "EVERGREEN__..._FILE would be read"
