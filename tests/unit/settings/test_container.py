from __future__ import annotations

import pytest

from evergreen import __version__
from evergreen.errors import SettingsError
from evergreen.settings import load_settings
from evergreen.settings.container import ContainerSettings, Gpus
from evergreen.settings.machine import GIB, Machine
from evergreen.training.provenance import settings_digest


def test_the_image_is_of_this_version_and_the_network_is_none():
    assert ContainerSettings().image == f"evergreen/trainer:{__version__}"
    assert ContainerSettings().network == "none"


def test_auto_is_half_the_memory_and_all_cores(monkeypatch):
    monkeypatch.setattr("evergreen.settings.container.this_machine", lambda: Machine(cores=6, memory_bytes=12 * GIB))
    assert (ContainerSettings().memory_bytes, ContainerSettings().nano_cpus) == (6 * GIB, 6_000_000_000)
    given = ContainerSettings(memory_gib=1.5, cpus=0.5)
    assert (given.memory_bytes, given.nano_cpus) == (3 * GIB // 2, 500_000_000)


def test_auto_leaves_a_small_machine_something_to_work_with(monkeypatch):
    monkeypatch.setattr("evergreen.settings.container.this_machine", lambda: Machine(cores=1, memory_bytes=GIB))
    assert ContainerSettings().memory_bytes == GIB


@pytest.mark.parametrize(
    ("text", "meant"), [("on", Gpus.ON), ("off", Gpus.OFF), ("auto", Gpus.AUTO), ("'on'", Gpus.ON)]
)
def test_on_and_off_are_read_as_they_are_written(monkeypatch, text, meant):
    """YAML takes `on` for true."""
    monkeypatch.setenv("EVERGREEN__CONTAINER__GPUS", text)
    assert load_settings().container.gpus is meant


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ENGINE_URL", "/var/run/docker.sock", "must begin with one of: unix://, tcp://"),
        ("VOLUMES", "{models: v}", "names the path 'models', must be absolute"),
        ("VOLUMES", "{/a/../b: v}", r"must be absolute and without '\.\.'"),
        ("VOLUMES", "{/a: /b}", "gives /a the name '/b', must be the name of a volume"),
        ("MEMORY_GIB", "0.01", "must be at least 0.0625"),
        ("CPUS", "0", "must be at least 0.1"),
        ("PIDS", "1", "greater than or equal to 16"),
        ("SECONDS", "0", "greater than 0"),
        ("NETWORK", "host", "Input should be 'none'"),
        ("GPUS", "two", "'auto', 'on' or 'off'"),
    ],
)
def test_what_is_refused(monkeypatch, name, value, message):
    monkeypatch.setenv(f"EVERGREEN__CONTAINER__{name}", value)
    with pytest.raises(SettingsError, match=rf"^settings\.container.*{message}"):
        load_settings()


def test_an_unknown_runtime_is_refused(monkeypatch):
    monkeypatch.setenv("EVERGREEN__TRAINING__RUNTIME", "podman")
    with pytest.raises(SettingsError, match=r"settings\.training\.runtime is 'podman': .*'process' or 'docker'"):
        load_settings()


def test_where_it_trains_does_not_change_what_a_result_depends_on(monkeypatch):
    """Evidence names this digest; the bundle is the same."""
    before = settings_digest(load_settings())
    monkeypatch.setenv("EVERGREEN__TRAINING__RUNTIME", "docker")
    monkeypatch.setenv("EVERGREEN__CONTAINER__PIDS", "99")
    assert settings_digest(load_settings()) == before
    monkeypatch.setenv("EVERGREEN__TRAINING__SEED", "8")
    assert settings_digest(load_settings()) != before
