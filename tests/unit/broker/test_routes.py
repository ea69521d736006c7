"""Requests that are known, and nothing beside them."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.broker.refusal import RefusedError, Rule
from evergreen.broker.routes import find_route, image_filter, own_filters


@pytest.mark.parametrize(
    ("method", "target", "kind", "subject"),
    [
        ("GET", "/_broker/health", "health", ""),
        ("GET", "/version", "version", ""),
        ("GET", "/v1.41/_ping", "ping", ""),
        ("HEAD", "/_ping", "ping_head", ""),
        ("GET", "/v1.41/info", "info", ""),
        ("GET", "/v1.41/images/evergreen/trainer:0.1.0/json", "image", "evergreen/trainer:0.1.0"),
        ("GET", f"/v1.41/images/sha256:{'a' * 64}/json", "image", f"sha256:{'a' * 64}"),
        ("POST", "/v1.41/containers/create?name=a-1", "create", ""),
        ("GET", "/v1.41/containers/json?limit=-1&all=1&size=0&trunc_cmd=0", "list", ""),
        ("GET", "/v1.41/containers/containers/json", "inspect", "containers"),
        ("POST", "/v1.41/containers/abc/attach?logs=0&stdout=1&stderr=1&stream=1", "attach", "abc"),
        ("POST", "/v1.41/containers/abc/start", "start", "abc"),
        ("GET", "/v1.41/containers/abc/logs?follow=1&tail=all", "logs", "abc"),
        ("POST", "/v1.41/containers/abc/stop?t=10", "stop", "abc"),
        ("POST", "/v1.41/containers/abc/kill?signal=SIGKILL", "kill", "abc"),
        ("POST", "/v1.41/containers/abc/wait", "wait", "abc"),
        ("DELETE", "/v1.41/containers/abc?v=False&link=False&force=True", "remove", "abc"),
    ],
)
def test_what_docker_py_asks_is_known(method: str, target: str, kind: str, subject: str) -> None:
    route = find_route(method, target)
    assert (route.kind, route.subject) == (kind, subject)
    assert route.target() == target  # written anew, and the same
    if subject:
        assert route.target("f00d") == target.replace(f"/{subject}", "/f00d", 1).replace(
            "/v1.41/f00d/containers", "/v1.41/containers/f00d"
        )


@pytest.mark.parametrize(
    "request_line",
    [
        "POST /v1.41/images/create?fromImage=evil",
        "POST /v1.41/images/evil/tag?repo=evergreen/trainer&tag=0.1.0",
        "POST /v1.41/build",
        "POST /v1.41/images/load",
        "DELETE /v1.41/images/evergreen/trainer:0.1.0",
        "POST /v1.41/volumes/create",
        "GET /v1.41/volumes",
        "GET /v1.41/networks",
        "POST /v1.41/networks/create",
        "POST /v1.41/containers/abc/exec",
        "POST /v1.41/exec/abc/start",
        "POST /v1.41/commit",
        "GET /v1.41/containers/abc/archive?path=/",
        "PUT /v1.41/containers/abc/archive?path=/",
        "GET /v1.41/containers/abc/export",
        "POST /v1.41/containers/abc/rename?name=x",
        "POST /v1.41/containers/abc/update",
        "POST /v1.41/containers/prune",
        "GET /v1.41/containers/abc/attach/ws",
        "GET /v1.41/containers/abc/top",
        "GET /v1.41/events",
        "GET /v1.41/system/df",
        "GET /v1.41/plugins",
        "GET /v1.41/swarm",
        "GET /v1.41/secrets",
        "POST /v1.41/session",
        "POST /v1.41/grpc",
        "POST /v1.41/auth",
        "GET /metrics",
        "GET /",
        "GET ",
        "GET //version",
        "GET /v1.41//version",
        "GET /version/",
        "GET /v1.41/./version",
        "GET /v1.41/containers/../version",
        "GET /v1.41/containers/..%2fversion/json",
        "GET /v1.41/containers/%61bc/json",
        "GET /v1.41/containers/a b/json",
        "GET /v1.41/containers/a\\b/json",
        "GET /v1.41/images/../containers/abc/json",
        "GET /v2.0/version",
        "GET /v1/version",
        "GET /1.41/version",
        "GET /v1.41.0/version",
        "GET /v1.41/v1.40/version",
        "GET http://localhost/version",
        "GET localhost:2375/version",
        "GET *",
        "OPTIONS *",
        "CONNECT localhost:2375",
        "get /version",
        "POST /version",
        "GET /v1.41/containers/create",
    ],
)
def test_other_paths_are_refused(request_line: str) -> None:
    method, _, target = request_line.partition(" ")
    with pytest.raises(RefusedError) as caught:
        find_route(method, target)
    assert caught.value.rule is Rule.PATH


@pytest.mark.parametrize(
    "target",
    [
        "/v1.41/containers/create?platform=linux/arm64",
        "/v1.41/containers/create?name=../x",
        "/v1.41/containers/create?name=a&name=b",
        "/v1.41/containers/create?name=a&Name=b",
        "/v1.41/containers/create?name",
        "/v1.41/containers/create?name=a;x=b",
        "/v1.41/containers/create?name=%2e%2e",
        "/v1.41/containers/create?na%6De=a&name=b",
        "/v1.41/containers/create?name=%ff",
        "/v1.41/containers/abc/attach?stdin=1",
        "/v1.41/containers/abc/attach?stream=1&detachKeys=a",
        "/v1.41/containers/abc/start?checkpoint=x",
        "/v1.41/containers/abc/start?detachKeys=x",
        "/v1.41/containers/abc/stop?t=99999",
        "/v1.41/containers/abc/kill?signal=a%0ab",
    ],
)
def test_other_queries_are_refused(target: str) -> None:
    with pytest.raises(RefusedError) as caught:
        find_route("POST", target)
    assert caught.value.rule is Rule.QUERY


def test_a_removal_does_not_reach_links() -> None:
    with pytest.raises(RefusedError, match="query: link"):
        find_route("DELETE", "/v1.41/containers/abc?link=True")


@pytest.mark.parametrize(
    ("target", "is_watch"),
    [
        ("POST /v1.41/containers/abc/attach?stream=1", True),
        ("POST /v1.41/containers/abc/wait", True),
        ("GET /v1.41/containers/abc/logs?follow=1", True),
        ("GET /v1.41/containers/abc/logs?follow=0", False),
        ("GET /v1.41/containers/abc/logs", False),
        ("GET /v1.41/containers/abc/json", False),
    ],
)
def test_who_stays_follows(target: str, is_watch: bool) -> None:
    assert find_route(*target.split(" ")).is_watch is is_watch  # type: ignore[arg-type]


def test_lists_show_our_containers_alone() -> None:
    assert json.loads(own_filters("", {"evergreen.part": "trainer"})) == {"label": ["evergreen.part=trainer"]}
    given_filters = json.dumps({"status": ["running"], "label": ["evergreen.dag_id=x", "evergreen.part=trainer"]})
    assert json.loads(own_filters(given_filters, {"evergreen.part": "trainer"})) == {
        "status": ["running"],
        "label": ["evergreen.dag_id=x", "evergreen.part=trainer"],
    }


@pytest.mark.parametrize(
    "filters",
    [
        "[]",
        '{"label": "x"}',
        '{"label": {"x": true}}',
        '{"volume": ["x"]}',
        '{"label": ["a"], "Label": ["b"]}',
        "{",
        "1",
    ],
)
def test_other_filters_are_refused(filters: str) -> None:
    with pytest.raises(RefusedError):
        own_filters(filters, {})


def test_an_image_list_is_about_one_image() -> None:
    assert image_filter('{"reference": ["a:1"]}') == "a:1"
    for text in ("", "{}", '{"reference": []}', '{"reference": ["a", "b"]}', '{"dangling": ["true"]}'):
        with pytest.raises(RefusedError):
            image_filter(text)


@given(st.text(max_size=80))
def test_whatever_is_asked_is_refused_or_plain(text: str) -> None:
    try:
        route = find_route("GET", f"/{text}")
    except RefusedError:
        return
    assert not set("%\\ \n") & set(route.target().partition("?")[0])
    assert "//" not in route.target()


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_no_other_key_gets_into_a_query(query: dict[str, str]) -> None:
    try:
        route = find_route("POST", f"/containers/abc/wait?{urlencode(query)}")
    except RefusedError:
        return
    assert set(route.query) <= {"condition"}
