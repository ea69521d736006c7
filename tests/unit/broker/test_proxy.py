"""The broker's own mechanics: what reaches the engine, what does not, who follows what.

The engine here only writes down what reaches it; tests/integration/broker asks a real one.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import docker.errors
import pytest

from tests.create_requests import HOSTILE, IMAGE, create, gpu_request, recorded, wait_until, with_change
from tests.unit.broker.conftest import FOREIGN_ID, IMAGE_ID, House

OURS = {"evergreen.part": "trainer", "evergreen.broker": "evergreen"}
OpenHouse = Callable[..., House]


def refused(house: House, raw: bytes) -> str:
    """The message of a refusal; the engine must not have been asked for anything that changes something."""
    before = len(house.engine.seen)
    status, body = house.send(raw)
    assert status == 403, body
    assert all(method == "GET" for method, *_ in house.engine.seen[before:])
    return str(json.loads(body)["message"])


def post(target: str, body: bytes = b"", headers: str = "") -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: broker\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def create_bytes(body: dict[str, Any]) -> bytes:
    return post("/v1.41/containers/create", json.dumps(body).encode())


def test_a_trainer_runs_from_create_to_remove(house: House) -> None:
    """As the operator does it, with docker-py: the control of all refusals here."""
    client = house.client
    assert client.ping()
    assert client.images(name=IMAGE)[0]["Id"] == IMAGE_ID
    assert client.inspect_image(IMAGE)["Id"] == IMAGE_ID
    container = create(client, name="trainer-1")["Id"]
    stream = client.attach(container, stdout=True, stderr=True, stream=True)
    client.start(container)
    assert next(stream) == b"hello\n"
    house.in_loop(lambda: house.engine.end(container))
    assert list(stream) == []
    assert client.wait(container) == {"StatusCode": 0}
    assert client.inspect_container(container)["State"]["Status"] == "exited"
    client.remove_container(container, force=True)
    assert house.engine.containers == {}
    assert house.entries == []


def test_the_engine_gets_the_pinned_id_and_nothing_of_the_clients_headers(house: House) -> None:
    raw = create_bytes(recorded()).replace(b"Host: broker", b"Host: broker\r\nX-Evil: 1\r\nUser-Agent: me")
    assert house.send(raw)[0] == 201
    method, target, headers, body = house.engine.seen[-1]
    assert (method, target) == ("POST", "/v1.41/containers/create")
    assert set(headers) == {"host", "connection", "content-type", "content-length"}
    assert json.loads(body)["Image"] == IMAGE_ID


@pytest.mark.parametrize(("rule", "path", "value"), HOSTILE[::6], ids=lambda value: str(value)[:30])
def test_a_hostile_create_does_not_reach_the_engine(house: House, rule: str, path: str, value: Any) -> None:
    assert refused(house, create_bytes(with_change(recorded(), path, value))).startswith(f"{rule}: ")
    assert "POST /v1.41/containers/create" not in house.engine.asked


@pytest.mark.parametrize(
    "image", ["foreign:1", FOREIGN_ID, "evergreen/trainer", "EVERGREEN/trainer:0.1.0", IMAGE_ID[7:]]
)
def test_a_foreign_image_is_refused(house: House, image: str) -> None:
    assert refused(house, create_bytes(with_change(recorded(), "Image", image))).startswith("image: ")


def test_a_tag_that_was_moved_is_refused(house: House) -> None:
    """The id itself still runs: that is the image that was allowed."""
    house.engine.images[IMAGE] = FOREIGN_ID
    assert FOREIGN_ID in refused(house, create_bytes(recorded()))
    assert refused(house, f"GET /v1.41/images/{IMAGE}/json HTTP/1.1\r\nHost: b\r\n\r\n".encode()).startswith("image: ")
    assert house.send(create_bytes(with_change(recorded(), "Image", IMAGE_ID)))[0] == 201


def test_an_image_that_was_not_there_at_the_start_is_refused(open_house: OpenHouse) -> None:
    house = open_house(lambda engine: engine.images.pop(IMAGE))
    house.engine.images[IMAGE] = FOREIGN_ID
    assert refused(house, create_bytes(recorded())).startswith("image: ")


def test_a_pull_is_refused(house: House) -> None:
    """The operator pulls what the engine does not list."""
    with pytest.raises(docker.errors.APIError, match="path: "):
        house.client.pull("evil", tag="1")


@pytest.mark.parametrize("labels", [{"com.docker.compose.service": "postgres"}, {"evergreen.part": "trainer"}])
def test_containers_of_others_are_out_of_reach(open_house: OpenHouse, labels: dict[str, str]) -> None:
    others: list[str] = []
    house = open_house(lambda engine: others.append(engine.add(labels)))
    for call in ("inspect_container", "start", "stop", "kill", "wait", "remove_container", "logs"):
        with pytest.raises(docker.errors.APIError, match="owner: "):
            getattr(house.client, call)(others[0])
    with pytest.raises(docker.errors.APIError, match="owner: "):
        house.client.attach(others[0])
    assert {line.split(" ")[0] for line in house.engine.asked} == {"GET"}
    assert others[0] in house.engine.containers


def test_an_unknown_container_is_not_found(house: House) -> None:
    with pytest.raises(docker.errors.NotFound):
        house.client.inspect_container("nobody")


def test_a_list_asks_for_our_label(house: House) -> None:
    house.client.containers(all=True, filters={"status": "running"})
    target = house.engine.seen[-1][1]
    assert "evergreen.part%3Dtrainer" in target
    assert "evergreen.broker%3Devergreen" in target
    assert "running" in target


def test_info_tells_runtimes_alone(open_house: OpenHouse) -> None:
    assert open_house().client.info() == {"Runtimes": {"runc": {}}}
    with_gpus = open_house(gpus=True)
    assert with_gpus.client.info() == {"Runtimes": {"runc": {}, "nvidia": {}}}
    create(with_gpus.client, device_requests=[gpu_request()])


def test_there_is_a_limit_to_containers(open_house: OpenHouse) -> None:
    house = open_house(max_containers=1)
    create(house.client)
    with pytest.raises(docker.errors.APIError, match="count: there are 1 containers"):
        create(house.client)


GOOD_BODY = json.dumps(recorded()).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /version HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET /version HTTP/1.1\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n",
        b"GET  /version HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: a\r\nUpgrade: tcp\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: a\r\n\r\nGET /images HTTP/1.1\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        post("/v1.41/containers/create", GOOD_BODY, "Content-Length: 3\r\n"),
        post("/v1.41/containers/create", GOOD_BODY, "Transfer-Encoding: chunked\r\n"),
        post("/v1.41/containers/create", GOOD_BODY, "Expect: 100-continue\r\n"),
        post("/v1.41/containers/create", GOOD_BODY) + b"POST /v1.41/images/create HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /v1.41/containers/create HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"POST /v1.41/containers/create HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/version HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 40 + b"\r\n\r\n",
    ],
)
def test_tricks_of_transport_are_refused(house: House, raw: bytes) -> None:
    before = len(house.engine.seen)
    message = refused(house, raw)
    assert message.split(":")[0] in ("http", "path")
    assert len(message) < 600
    assert len(house.engine.seen) == before


def test_a_plain_request_is_answered(house: House) -> None:
    """Control of the tricks: the same without them."""
    assert house.send(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n") == (200, '{"ApiVersion": "1.41"}')
    assert house.send(post("/v1.41/containers/create", GOOD_BODY))[0] == 201


def test_a_long_body_is_refused_before_it_is_read(house: House) -> None:
    raw = b"POST /v1.41/containers/create HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n"
    assert refused(house, raw).startswith("body: ")


def test_a_body_where_none_belongs_is_refused(house: House) -> None:
    assert refused(house, post("/v1.41/containers/abc/start", b'{"HostConfig": {}}')).startswith("body: ")


def test_bytes_behind_an_attach_go_nowhere(house: House) -> None:
    """A second request in the raw stream would otherwise be read by the engine."""
    container = create(house.client)["Id"]
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as connection:
        head = (
            f"POST /v1.41/containers/{container}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
        )
        connection.sendall(f"{head}Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
        assert connection.recv(12) == b"HTTP/1.1 101"
        seen = len(house.engine.seen)
        connection.sendall(b"POST /v1.41/images/create?fromImage=evil HTTP/1.1\r\nHost: a\r\n\r\n")
        house.client.start(container)
        assert wait_until(lambda: b"hello" in connection.recv(1000), 5)
    assert all("images/create" not in line for line in house.engine.asked[seen:])


def test_a_refusal_is_in_the_ledger(house: House) -> None:
    refused(house, create_bytes(with_change(recorded(), "HostConfig.Privileged", True)))
    assert wait_until(lambda: len(house.entries) == 1, 5)
    entry = house.entries[0]
    assert (entry.operation, entry.outcome) == ("refuse_container_request", "failure")
    assert entry.resources_affected == ("rule:privileged",)
    assert entry.error_detail == "privileged: HostConfig.Privileged is true, must be left out"
    assert entry.command == "POST /v1.41/containers/create from 127.0.0.1"


def test_health_tells_the_engine_and_the_images(house: House) -> None:
    status, body = house.send(b"GET /_broker/health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (status, json.loads(body)["status"], json.loads(body)["images"]) == (200, "ok", {IMAGE: IMAGE_ID})
    house.engine.path.unlink()
    assert house.send(b"GET /_broker/health HTTP/1.1\r\nHost: a\r\n\r\n")[0] == 502


def test_a_silent_connection_is_no_refusal(house: House) -> None:
    socket.create_connection(("127.0.0.1", house.port)).close()
    assert house.send(b"GET /_ping HTTP/1.1\r\nHost: a\r\n\r\n") == (200, "OK")
    assert house.entries == []


def test_a_container_whose_worker_is_gone_is_ended(house: House) -> None:
    client = house.client
    container = create(client)["Id"]
    stream = client.attach(container, stdout=True, stderr=True, stream=True)
    client.start(container)
    assert next(stream) == b"hello\n"
    assert not wait_until(lambda: container not in house.engine.containers, 1.5), "it is followed: control"
    stream.close()
    assert wait_until(lambda: container not in house.engine.containers, 5)
    verbs = [line.rpartition("/")[2] if "DELETE" not in line else "DELETE" for line in house.engine.asked]
    assert verbs[-2:] == ["stop", "DELETE"]
    assert wait_until(lambda: [entry.operation for entry in house.entries] == ["end_orphan_container"], 5)


def test_who_comes_back_in_time_keeps_the_container(open_house: OpenHouse) -> None:
    house = open_house(grace_seconds=1.5)
    client = house.client
    container = create(client)["Id"]
    stream = client.attach(container, stream=True)
    client.start(container)
    stream.close()
    again = house.client.attach(container, stream=True)
    assert not wait_until(lambda: container not in house.engine.containers, 3)
    again.close()
    assert wait_until(lambda: container not in house.engine.containers, 5)


def test_a_wait_is_enough_to_keep_it(house: House) -> None:
    client = house.client
    container = create(client)["Id"]
    client.start(container)
    with pytest.raises(Exception, match="timed out"):
        client.wait(container, timeout=1.5)
    assert wait_until(lambda: container not in house.engine.containers, 5)


def test_what_is_created_and_left_is_removed(open_house: OpenHouse) -> None:
    house = open_house(start_seconds=1.5)
    container = create(house.client)["Id"]
    house.client.attach(container, stream=True).close()
    assert not wait_until(lambda: container not in house.engine.containers, 1), "not started yet, and there is time"
    assert wait_until(lambda: container not in house.engine.containers, 5)


def test_what_runs_at_the_start_and_nobody_follows_is_ended(open_house: OpenHouse) -> None:
    ids: dict[str, str] = {}

    def prepare(engine: Any) -> None:
        theirs = {**OURS, "evergreen.broker": "another"}
        ids.update(orphan=engine.add(OURS), other=engine.add(theirs), done=engine.add(OURS, "exited"))

    house = open_house(prepare)
    assert wait_until(lambda: ids["orphan"] not in house.engine.containers, 5)
    assert ids["other"] in house.engine.containers
    assert ids["done"] in house.engine.containers, "it ended by itself: somebody may still ask why"


def test_what_ended_by_itself_is_removed_later(open_house: OpenHouse) -> None:
    ids: list[str] = []
    house = open_house(lambda engine: ids.append(engine.add(OURS, "exited")), finished_seconds=1.0)
    assert wait_until(lambda: ids[0] not in house.engine.containers, 5)
    assert "stop" not in {line.rpartition("/")[2] for line in house.engine.asked}


def test_when_the_broker_stops_it_ends_its_containers_followed_or_not(open_house: OpenHouse) -> None:
    ids: dict[str, str] = {}

    def prepare(engine: Any) -> None:
        ids.update(other=engine.add({**OURS, "evergreen.broker": "another"}), done=engine.add(OURS, "exited"))

    house = open_house(prepare, grace_seconds=40, start_seconds=300)
    client = house.client
    followed, waiting = create(client)["Id"], create(client)["Id"]
    stream = client.attach(followed, stdout=True, stderr=True, stream=True)
    client.start(followed)
    assert next(stream) == b"hello\n"
    assert {followed, waiting, ids["done"]} < set(house.engine.containers), "all are there before: control"
    house.stop()
    assert set(house.engine.containers) == {ids["other"]}
    told = {entry.resources_affected[0]: entry.error_detail for entry in house.entries}
    assert told[f"container:{followed}"] == "it was running and the broker was told to stop"
    assert len(told) == 3


def test_a_container_that_cannot_be_ended_keeps_no_other_one(
    open_house: OpenHouse, caplog: pytest.LogCaptureFixture
) -> None:
    house = open_house(grace_seconds=40, start_seconds=300)
    stubborn, other = create(house.client)["Id"], create(house.client)["Id"]
    answer = house.engine._answer_container

    async def refuse(method: str, parts: list[str], *rest: Any) -> None:
        if method == "DELETE" and parts[1] == stubborn:
            house.engine._send(rest[-1], 500, {"message": "device or resource busy"})
        else:
            await answer(method, parts, *rest)

    house.engine._answer_container = refuse  # type: ignore[method-assign]
    house.stop()
    assert set(house.engine.containers) == {stubborn}
    assert other not in house.engine.containers
    assert "could not be ended, the next broker will" in caplog.text
