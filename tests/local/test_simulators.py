"""Each simulator answers as its provider's documentation says, and refuses what the provider refuses."""

import json
import re
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

import local.simulators
from local.simulators import demo_secrets, load, names
from local.simulators.close import CloseSimulator
from local.simulators.hubspot import OBJECT_TYPES, HubSpotSimulator
from tests.local.client import Answer, call

WORLDS = [pytest.param(name, world, id=f"{name} {world or ''}") for name in names() for world in load(name).worlds]
TOY = """
from local.simulators.base import Simulator

class Toy(Simulator):
    name = "toy"
"""


# Every simulator


@pytest.mark.parametrize("name", names())
def test_a_simulator_declares_a_demo_account_of_its_own_provider(name: str) -> None:
    simulator = load(name)
    assert UUID(simulator.demo_account_id)
    for account in (simulator.demo_account, *simulator.accounts):
        assert account.keys() == {"provider", "tenant", "credentials", "settings"}
        assert account["provider"] == name
        assert account["tenant"] == "demo"
        assert account["credentials"]["type"] in {"api_key", "bearer", "oauth2"}
    assert simulator.secrets()
    assert simulator.secrets() <= set(demo_secrets())


def test_no_two_simulators_share_a_demo_account_or_a_secret() -> None:
    assert len({load(name).demo_account_id for name in names()}) == len(names())
    assert len(set.union(*(load(name).secrets() for name in names()))) == sum(len(load(n).secrets()) for n in names())


@pytest.mark.parametrize(("name", "world"), WORLDS)
def test_what_is_seeded_is_seen_and_a_reset_forgets_it(name: str, world: dict[str, Any]) -> None:
    simulator = load(name)(**world)
    empty = simulator.snapshot()
    seeded = simulator.seed("Sales", ["New", {"name": "Talks", "records": 2}])
    assert simulator.pipelines()[-1] == seeded
    assert [stage["name"] for stage in seeded["stages"]][:2] == ["New", "Talks"]
    assert json.loads(json.dumps(simulator.snapshot())) == simulator.snapshot() != empty
    simulator.reset()
    assert simulator.snapshot() == empty


@pytest.mark.parametrize("name", names())
def test_stopping_leaves_no_thread_even_while_clients_hold_connections_open(name: str) -> None:
    before = set(threading.enumerate())
    with load(name)() as simulator:
        held = HTTPConnection(urlsplit(simulator.url).netloc, timeout=5)
        held.request("GET", "/")
        held.getresponse().read()
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before
    held.close()
    simulator.stop()
    with pytest.raises(RuntimeError, match="not started"):
        _ = simulator.url


@pytest.mark.parametrize("name", names())
def test_a_setting_that_does_not_exist_is_a_mistake(name: str) -> None:
    with pytest.raises(TypeError, match="no setting colour"):
        load(name)(colour="red")


def test_a_simulator_is_found_by_being_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(local.simulators, "__path__", [*local.simulators.__path__, str(tmp_path)])
    try:
        assert "toy" in names()
        assert load("toy").name == "toy"
    finally:
        sys.modules.pop("local.simulators.toy", None)


@pytest.mark.parametrize("source", ["", TOY + TOY.replace("Toy", "Second"), TOY.replace('"toy"', '"other"')])
def test_a_module_without_exactly_one_simulator_of_its_name_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.py").write_text(source)
    monkeypatch.setattr(local.simulators, "__path__", [*local.simulators.__path__, str(tmp_path)])
    try:
        with pytest.raises(LookupError, match="exactly one"):
            load("toy")
    finally:
        sys.modules.pop("local.simulators.toy", None)


@pytest.mark.parametrize("name", ["base", "nobody", "../close"])
def test_what_is_no_simulator_cannot_be_loaded(name: str) -> None:
    with pytest.raises(LookupError, match="no simulator"):
        load(name)


# The server


def test_a_port_in_use_is_an_error(close: CloseSimulator) -> None:
    with pytest.raises(OSError, match="in use"):
        CloseSimulator(port=urlsplit(close.url).port or 0).start()


def test_one_connection_carries_many_requests(close: CloseSimulator) -> None:
    connection = HTTPConnection(urlsplit(close.url).netloc, timeout=5)
    try:
        ports = []
        for _ in range(3):
            connection.request("GET", "/api/v1/pipeline/", headers=close.authorization(close.demo_account))
            assert connection.getresponse().read()
            ports.append(connection.sock.getsockname())
    finally:
        connection.close()
    assert len(set(ports)) == 1


def test_a_chunked_body_is_read_whole(close: CloseSimulator) -> None:
    connection = HTTPConnection(urlsplit(close.url).netloc, timeout=5)
    headers = {**close.authorization(close.demo_account), "Content-Type": "application/json"}
    try:
        connection.request("POST", "/api/v1/pipeline/", iter([b'{"name":', b' "Sales"}']), headers, encode_chunked=True)
        assert connection.getresponse().status == 201
    finally:
        connection.close()


def test_received_keeps_every_request_as_it_was_sent(close: CloseSimulator) -> None:
    call(close, "POST", "/api/v1/pipeline/?a=1&b=%20x&b", {"name": "Sales", "extra": 1}, headers={"X-Trace": "one"})
    call(close, "GET", "//nowhere%2F", headers={"Authorization": "Bearer wrong"})
    call(close, "PUT", "/api/v1/pipeline/x/", b"{oops")
    first, second, third = close.received
    assert (first.method, first.path, first.raw_query) == ("POST", "/api/v1/pipeline/", "a=1&b=%20x&b")
    assert first.query == [("a", "1"), ("b", " x"), ("b", "")]
    assert first.headers["x-trace"] == "one"
    assert json.loads(first.body) == first.json == {"name": "Sales", "extra": 1}
    assert second.path == "//nowhere%2F"
    assert (third.body, third.json, third.malformed) == (b"{oops", None, True)


def test_a_snapshot_is_a_copy_and_can_leave_the_clock_out(close: CloseSimulator) -> None:
    pipeline = close.seed("Sales", ["New"])
    before, timeless = close.snapshot(), close.snapshot(times=False)
    call(close, "PUT", f"/api/v1/pipeline/{pipeline['id']}/", {"name": "Sales"})
    assert close.snapshot() != before
    assert close.snapshot(times=False) == timeless
    timeless["pipelines"][0]["statuses"].clear()
    assert close.snapshot()["pipelines"][0]["statuses"]


def test_a_rate_limit_counts_within_its_window() -> None:
    with CloseSimulator(rate_limit=2, rate_window=5.0) as close:
        now = 100.0
        close.clock = lambda: now
        answers = [call(close, "GET", "/api/v1/pipeline/") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert [answer.headers["ratelimit"].split(", ")[1] for answer in answers] == [
            "remaining=1",
            "remaining=0",
            "remaining=0",
        ]
        assert answers[2].headers["retry-after"] == "5"
        now += 5
        assert call(close, "GET", "/api/v1/pipeline/").status == 200


# Close


@pytest.fixture
def close() -> Iterator[CloseSimulator]:
    with CloseSimulator() as simulator:
        yield simulator


def refused_fields(answer: Answer) -> set[str]:
    assert answer.status == 400
    assert answer.json.keys() == {"errors", "field-errors"}
    return set(answer.json["field-errors"])


@pytest.mark.parametrize("account", [CloseSimulator.demo_account, *CloseSimulator.accounts])
def test_close_takes_api_keys_and_access_tokens(close: CloseSimulator, account: dict[str, Any]) -> None:
    assert call(close, "GET", "/api/v1/pipeline/", headers=close.authorization(account)).status == 200


@pytest.mark.parametrize(
    "wrong",
    ["", "Bearer wrong", "Basic !!!", "Basic d3Jvbmc6", "Basic YXBpX2RlbW8uY2xvc2UuNGY5ZDJiN2MxZTpwYXNzd29yZA=="],
    ids=["none", "token", "no base64", "key", "key with a password"],
)
def test_close_refuses_a_wrong_credential(close: CloseSimulator, wrong: str) -> None:
    answer = call(close, "POST", "/api/v1/pipeline/", {"name": "Sales"}, headers={"Authorization": wrong})
    assert (answer.status, list(answer.json)) == (401, ["error"])
    assert close.pipelines() == []


def test_close_creates_with_201_reads_lists_and_shapes_a_pipeline(close: CloseSimulator) -> None:
    created = call(close, "POST", "/api/v1/pipeline/", {"name": "Sales", "statuses": [{"label": "Won", "type": "won"}]})
    assert created.status == 201
    pipeline = created.json
    assert set(pipeline) == {
        *("id", "name", "organization_id", "created_by", "updated_by", "date_created", "date_updated", "statuses")
    }
    assert re.fullmatch(r"pipe_\w{22}", pipeline["id"])
    assert re.fullmatch(r"stat_\w{22}", pipeline["statuses"][0].pop("id"))
    assert pipeline["statuses"] == [{"label": "Won", "type": "won"}]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", pipeline["date_created"])
    assert pipeline["created_by"] is pipeline["updated_by"] is None
    read = call(close, "GET", f"/api/v1/pipeline/{pipeline['id']}/")
    assert (read.status, read.json) == (200, created.json)
    listed = call(close, "GET", "/api/v1/pipeline/")
    assert (listed.status, listed.json) == (200, {"data": [created.json], "has_more": False})


def test_close_may_ignore_inline_statuses() -> None:
    with CloseSimulator(inline_statuses=False) as close:
        answer = call(close, "POST", "/api/v1/pipeline/", {"name": "Sales", "statuses": [{"label": "New"}]})
        assert (answer.status, answer.json["statuses"]) == (201, [])
        assert close.received[0].json["statuses"] == [{"label": "New"}]


def test_close_creates_a_status_with_200_at_the_end_of_its_pipeline(close: CloseSimulator) -> None:
    pipeline = close.seed("Sales", ["New"])
    body = {"label": "Lost", "type": "lost", "pipeline_id": pipeline["id"]}
    created = call(close, "POST", "/api/v1/status/opportunity/", body)
    assert created.status == 200
    status = created.json
    assert {key: status[key] for key in body} == body
    assert status.keys() == {*body, "id", "organization_id"}
    assert call(close, "GET", f"/api/v1/status/opportunity/{status['id']}/").json == status
    assert call(close, "GET", "/api/v1/status/opportunity/").json["data"][-1] == status
    assert [stage["status"] for stage in close.pipelines()[0]["stages"]] == ["active", "lost"]


def test_close_renames_a_status_and_nothing_else(close: CloseSimulator) -> None:
    stage = close.seed("Sales", ["New"])["stages"][0]
    answer = call(close, "PUT", f"/api/v1/status/opportunity/{stage['id']}/", {"label": "Old", "type": "won"})
    assert (answer.status, answer.json["label"], answer.json["type"]) == (200, "Old", "active")


def test_close_orders_and_moves_statuses_by_the_list_and_keeps_the_unnamed_behind(close: CloseSimulator) -> None:
    here, there = close.seed("Here", ["A", "B", "C"]), close.seed("There", ["D", "E"])
    a, b, c = (stage["id"] for stage in here["stages"])
    d, e = (stage["id"] for stage in there["stages"])
    wanted = {"statuses": [{"id": c}, {"id": d}, {"id": a}]}
    answer = call(close, "PUT", f"/api/v1/pipeline/{here['id']}/", wanted)
    assert (answer.status, answer.json["name"]) == (200, "Here")
    assert [status["id"] for status in answer.json["statuses"]] == [c, d, a, b]
    assert [stage["id"] for stage in close.pipelines()[1]["stages"]] == [e]


def test_close_deletes_a_pipeline_only_without_statuses_and_a_status_only_without_opportunities(
    close: CloseSimulator,
) -> None:
    pipeline = close.seed("Sales", [{"name": "New", "records": 1}])
    pipeline_path, status_path = f"/api/v1/pipeline/{pipeline['id']}/", "/api/v1/status/opportunity/{}/"
    status_path = status_path.format(pipeline["stages"][0]["id"])
    before = close.snapshot()
    for path in (pipeline_path, status_path):
        refusal = call(close, "DELETE", path)
        assert refused_fields(refusal) == set()
        assert refusal.json["errors"]
    assert close.snapshot() == before
    close.occupy(pipeline["stages"][0]["id"], 0)
    assert call(close, "DELETE", status_path).status == 200
    gone = call(close, "DELETE", pipeline_path)
    assert (gone.status, gone.body) == (204, b"")
    assert close.snapshot() == {"pipelines": [], "opportunities": {}}


@pytest.mark.parametrize("bad", [{}, {"name": None}, {"name": ""}, {"name": "  "}, {"name": 7}, {"name": ["x"]}])
def test_close_refuses_a_pipeline_without_a_proper_name(close: CloseSimulator, bad: dict[str, Any]) -> None:
    assert refused_fields(call(close, "POST", "/api/v1/pipeline/", bad)) == {"name"}
    pipeline = close.seed("Sales")
    if bad:
        assert refused_fields(call(close, "PUT", f"/api/v1/pipeline/{pipeline['id']}/", bad)) == {"name"}
    assert close.pipelines() == [pipeline]


@pytest.mark.parametrize(
    "statuses",
    ["New", ["New"], [{"label": "", "type": "won"}], [{"label": "New"}], [{"label": "New", "type": "closed"}]],
)
def test_close_refuses_wrong_inline_statuses_as_a_whole(close: CloseSimulator, statuses: Any) -> None:
    assert refused_fields(call(close, "POST", "/api/v1/pipeline/", {"name": "Sales", "statuses": statuses}))
    assert close.pipelines() == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"label": ""}, "label"),
        ({"label": None}, "label"),
        ({"label": 5}, "label"),
        ({"type": None}, "type"),
        ({"type": "closed"}, "type"),
        ({"type": []}, "type"),
        ({"pipeline_id": None}, "pipeline_id"),
        ({"pipeline_id": 1}, "pipeline_id"),
        ({"pipeline_id": "pipe_nowhere"}, "pipeline_id"),
    ],
)
def test_close_refuses_a_status_with_a_wrong_field(close: CloseSimulator, change: dict[str, Any], field: str) -> None:
    pipeline = close.seed("Sales")
    body = {"label": "New", "type": "active", "pipeline_id": pipeline["id"], **change}
    assert refused_fields(call(close, "POST", "/api/v1/status/opportunity/", body)) == {field}
    assert close.pipelines() == [pipeline]


@pytest.mark.parametrize("statuses", ["x", ["x"], [{}], [{"id": 1}], [{"id": "stat_nowhere"}], [{"id": []}], "twice"])
def test_close_refuses_an_order_of_statuses_that_it_does_not_know(close: CloseSimulator, statuses: Any) -> None:
    pipeline = close.seed("Sales", ["New"])
    if statuses == "twice":
        statuses = [{"id": pipeline["stages"][0]["id"]}] * 2
    before = close.snapshot()
    path = f"/api/v1/pipeline/{pipeline['id']}/"
    assert refused_fields(call(close, "PUT", path, {"name": "Other", "statuses": statuses})) == {"statuses"}
    assert close.snapshot() == before


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/api/v1/pipeline", None, {}, 404),
        ("POST", "/api/v1/pipeline", {"name": "Sales"}, {}, 404),
        ("GET", "/api/v1/pipeline/pipe_nowhere/", None, {}, 404),
        ("PUT", "/api/v1/pipeline/pipe_nowhere/", {"name": "Sales"}, {}, 404),
        ("DELETE", "/api/v1/pipeline/pipe_nowhere/", None, {}, 404),
        ("GET", "/api/v1/status/opportunity/stat_nowhere/", None, {}, 404),
        ("PUT", "/api/v1/status/opportunity/stat_nowhere/", {"label": "New"}, {}, 404),
        ("DELETE", "/api/v1/status/opportunity/stat_nowhere/", None, {}, 404),
        ("GET", "/v1/pipeline/", None, {}, 404),
        ("PATCH", "/api/v1/pipeline/", {"name": "Sales"}, {}, 405),
        ("POST", "/api/v1/pipeline/", {"name": "Sales"}, {"Content-Type": "text/plain"}, 415),
        ("POST", "/api/v1/pipeline/", {"name": "Sales"}, {"Content-Type": ""}, 415),
        ("POST", "/api/v1/pipeline/", b'{"name": "Sa', {}, 400),
        ("POST", "/api/v1/pipeline/", b'{"name": NaN}', {}, 400),
        ("POST", "/api/v1/pipeline/", b"\xff", {}, 400),
        ("POST", "/api/v1/pipeline/", [1], {}, 400),
        ("POST", "/api/v1/pipeline/", None, {}, 400),
    ],
)
def test_close_answers_what_it_cannot_read_or_find_with_one_error_text(
    close: CloseSimulator, method: str, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    answer = call(close, method, path, body, headers=headers)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert isinstance(answer.json["error"], str)
    assert close.pipelines() == []


def test_close_cuts_lists_into_pages_where_the_world_says_so() -> None:
    with CloseSimulator(page_size=2) as close:
        seeded = [close.seed(name)["id"] for name in "ABC"]
        first = call(close, "GET", "/api/v1/pipeline/").json
        second = call(close, "GET", "/api/v1/pipeline/?_skip=2&_limit=2").json
        assert (first["has_more"], second["has_more"]) == (True, False)
        assert [item["id"] for item in first["data"] + second["data"]] == seeded
        assert refused_fields(call(close, "GET", "/api/v1/pipeline/?_skip=x")) == {"_skip"}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("comma", {"ratelimit": "limit=1, remaining=0, reset=10.0"}),
        ("semicolon", {"ratelimit": "limit=1; remaining=0; reset=10.0"}),
        ("separate", {"ratelimit-limit": "1", "ratelimit-remaining": "0", "ratelimit-reset": "10.0"}),
    ],
)
def test_close_says_its_rate_limit_in_three_forms(form: str, expected: dict[str, str]) -> None:
    with CloseSimulator(rate_limit=1, rate_headers=form) as close:
        close.clock = lambda: 0.0
        allowed, refused = (call(close, "GET", "/api/v1/pipeline/") for _ in range(2))
        for answer in (allowed, refused):
            assert {key: value for key, value in answer.headers.items() if key.startswith("ratelimit")} == expected
        assert (refused.status, refused.headers["retry-after"]) == (429, "10")
        assert refused.json["error"]["rate_reset"] == 10


# HubSpot

DEALS = "/crm/v3/pipelines/deals"


@pytest.fixture
def hubspot() -> Iterator[HubSpotSimulator]:
    with HubSpotSimulator() as simulator:
        yield simulator


def stage(label: str = "New", order: int = 0, **metadata: Any) -> dict[str, Any]:
    return {"label": label, "displayOrder": order, "metadata": metadata or {"probability": "0.5"}}


def pipeline(label: str = "Sales", *stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"label": label, "displayOrder": 0, "stages": list(stages) or [stage()], **more}


def refusal(answer: Answer) -> tuple[int, str | None, str | None]:
    assert answer.json["status"] == "error"
    assert answer.json["message"]
    assert UUID(answer.json["correlationId"])
    return answer.status, answer.json.get("category"), answer.json.get("subCategory")


INVALID = (400, "VALIDATION_ERROR", None)


@pytest.mark.parametrize("account", [HubSpotSimulator.demo_account, *HubSpotSimulator.accounts])
def test_hubspot_takes_private_app_and_oauth_tokens(hubspot: HubSpotSimulator, account: dict[str, Any]) -> None:
    assert call(hubspot, "GET", DEALS, headers=hubspot.authorization(account)).json == {"results": []}


@pytest.mark.parametrize("wrong", ["", "Bearer wrong", "Basic d3Jvbmc6"])
def test_hubspot_refuses_a_wrong_credential(hubspot: HubSpotSimulator, wrong: str) -> None:
    answer = call(hubspot, "POST", f"{DEALS}?hapikey=demo", pipeline(), headers={"Authorization": wrong})
    assert refusal(answer) == (401, "INVALID_AUTHENTICATION", None)
    assert hubspot.pipelines() == []


def test_hubspot_tells_an_expired_token_from_a_wrong_one() -> None:
    with HubSpotSimulator(expired=True) as hubspot:
        assert refusal(call(hubspot, "GET", DEALS)) == (401, "EXPIRED_AUTHENTICATION", None)


def test_hubspot_names_the_scope_that_a_token_lacks() -> None:
    with HubSpotSimulator(scopes=("crm.schemas.deals.read",)) as hubspot:
        assert call(hubspot, "GET", DEALS).status == 200
        for method, path, scope in (
            ("POST", DEALS, "crm.schemas.deals.write"),
            ("GET", "/crm/v3/pipelines/tickets", "crm.schemas.tickets.read"),
            ("GET", "/crm/v3/pipelines/2-77", "crm.schemas.custom.read"),
        ):
            answer = call(hubspot, method, path, pipeline() if method == "POST" else None)
            assert refusal(answer) == (403, "MISSING_SCOPES", None)
            assert answer.json["errors"][0]["context"] == {"requiredGranularScopes": [scope]}


@pytest.mark.parametrize("object_type", [*sorted(OBJECT_TYPES), "2-1234567", "p_boats"])
def test_hubspot_keeps_the_pipelines_of_each_object_type_apart(hubspot: HubSpotSimulator, object_type: str) -> None:
    path = f"/crm/v3/pipelines/{object_type}"
    body = pipeline("Sales", stage(probability="0.5", ticketState="CLOSED"))
    created = call(hubspot, "POST", path, body)
    assert created.status == 201
    assert len(call(hubspot, "GET", path).json["results"]) == 1
    assert [view["id"] for view in hubspot.pipelines(object_type)] == [created.json["id"]]
    other = "orders" if object_type != "orders" else "deals"
    assert call(hubspot, "GET", f"/crm/v3/pipelines/{other}/{created.json['id']}").status == 404
    assert call(hubspot, "DELETE", f"{path}/{created.json['id']}").status == 204
    assert hubspot.snapshot() == {"pipelines": {}, "records": {}}


@pytest.mark.parametrize("object_type", ["xyz", "Deals", "2-x"])
def test_hubspot_cannot_infer_an_unknown_object_type(hubspot: HubSpotSimulator, object_type: str) -> None:
    answer = call(hubspot, "GET", f"/crm/v3/pipelines/{object_type}")
    assert refusal(answer) == INVALID
    assert answer.json["message"] == f"Unable to infer object type from: {object_type}"


def test_hubspot_shows_is_closed_on_reads_only_and_all_fields_always(hubspot: HubSpotSimulator) -> None:
    body = pipeline("Sales", stage("Won", 0, probability="1.0"), stage("New", 1, probability=0.2, note="x"), extra=1)
    created = call(hubspot, "POST", DEALS, body)
    assert created.status == 201
    assert set(created.json) == {"id", "label", "displayOrder", "stages", "archived", "createdAt", "updatedAt"}
    assert set(created.json["stages"][0]) == {
        *("id", "label", "displayOrder", "metadata", "archived", "createdAt", "updatedAt", "writePermissions")
    }
    assert [item["metadata"] for item in created.json["stages"]] == [
        {"probability": "1.0"},
        {"probability": "0.2", "note": "x"},
    ]
    read = call(hubspot, "GET", f"{DEALS}/{created.json['id']}").json
    assert [item["metadata"] for item in read["stages"]] == [
        {"isClosed": "false", "probability": "0.2", "note": "x"},
        {"isClosed": "true", "probability": "1.0"},
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", read["createdAt"])


@pytest.mark.parametrize(("micro", "text"), [(0, "…05Z"), (999, "…05Z"), (12_000, "…05.012Z")])
def test_hubspot_leaves_out_milliseconds_of_zero(micro: int, text: str) -> None:
    hubspot = HubSpotSimulator()
    hubspot.now = lambda: datetime.fromisoformat("2024-02-03T04:05:05+00:00").replace(microsecond=micro)  # type: ignore[method-assign]
    hubspot.seed("Sales", ["New"])
    assert hubspot.snapshot()["pipelines"]["deals"][0]["createdAt"] == text.replace("…", "2024-02-03T04:05:")


def test_hubspot_lists_are_not_sorted_by_display_order(hubspot: HubSpotSimulator) -> None:
    for order, label in enumerate("ABC"):
        call(hubspot, "POST", DEALS, {**pipeline(label, stage("X", 0), stage("Y", 1)), "displayOrder": order})
    listed = call(hubspot, "GET", DEALS).json["results"]
    stages = call(hubspot, "GET", f"{DEALS}/{listed[0]['id']}/stages").json["results"]
    for items in (listed, listed[0]["stages"], stages):
        orders = [item["displayOrder"] for item in items]
        assert orders != sorted(orders)
    assert [view["name"] for view in hubspot.pipelines()] == ["A", "B", "C"]
    assert [item["name"] for item in hubspot.pipelines()[0]["stages"]] == ["X", "Y"]


def test_hubspot_is_born_with_a_deal_pipeline_from_the_epochs_zero() -> None:
    with HubSpotSimulator(default_pipeline=True) as hubspot:
        [born] = call(hubspot, "GET", DEALS).json["results"]
        assert (born["id"], born["createdAt"], len(born["stages"])) == ("default", "1970-01-01T00:00:00Z", 7)
        assert [item["status"] for item in hubspot.pipelines()[0]["stages"]][-2:] == ["won", "lost"]


@pytest.mark.parametrize(
    ("entity", "status", "seen"),
    [
        ("opportunity", "won", "won"),
        ("opportunity", "lost", "lost"),
        ("opportunity", None, "active"),
        ("tickets", "closed", "closed"),
        ("tickets", "active", "active"),
        ("contact", "active", None),
    ],
)
def test_hubspot_reads_a_status_from_metadata(entity: str, status: str | None, seen: str | None) -> None:
    planted = HubSpotSimulator().seed("Sales", [{"name": "One", "status": status}], entity=entity)
    assert [item["status"] for item in planted["stages"]] == [seen]


def test_hubspot_can_hold_what_its_api_would_not_write() -> None:
    hubspot = HubSpotSimulator()
    odd = {"name": "Closed Lost", "remote": {"metadata": {"isClosed": "false", "probability": "0.1"}}}
    seeded = hubspot.seed("Sales", [odd], remote={"createdAt": "1970-01-01T00:00:00Z"})
    assert seeded["stages"][0]["status"] == "active"
    assert hubspot.snapshot()["pipelines"]["deals"][0]["createdAt"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"label": None}, INVALID),
        ({"label": ""}, INVALID),
        ({"label": " "}, INVALID),
        ({"label": 5}, INVALID),
        ({"displayOrder": None}, INVALID),
        ({"displayOrder": "0"}, INVALID),
        ({"displayOrder": 0.5}, INVALID),
        ({"displayOrder": True}, INVALID),
        ({"pipelineId": 5}, INVALID),
        ({"stages": None}, INVALID),
        ({"stages": []}, INVALID),
        ({"stages": {}}, INVALID),
        ({"stages": ["New"]}, INVALID),
        ({"stages": [{**stage(), "label": ""}]}, INVALID),
        ({"stages": [{**stage(), "displayOrder": "1"}]}, INVALID),
        ({"stages": [{**stage(), "metadata": None}]}, INVALID),
        ({"stages": [{**stage(), "metadata": []}]}, INVALID),
        ({"stages": [{**stage(), "metadata": {"probability": "0.5", "deep": {}}}]}, INVALID),
        ({"stages": [{**stage(), "metadata": {}}]}, (400, None, None)),
        ({"stages": [stage(probability="1.1")]}, INVALID),
        ({"stages": [stage(probability=-0.1)]}, INVALID),
        ({"stages": [stage(probability="high")]}, INVALID),
        ({"stages": [stage(probability="nan")]}, INVALID),
        ({"stages": [stage(probability=True)]}, INVALID),
        ({"label": "tAKEN"}, INVALID),
        ({"stages": [stage("New"), stage("nEW")]}, (400, "VALIDATION_ERROR", "PipelineError.STAGE_LABEL_EXISTS")),
        ({"pipelineId": "p1"}, (409, "OBJECT_ALREADY_EXISTS", None)),
        (
            {"stages": [{**stage(), "stageId": "s1"}]},
            (409, "OBJECT_ALREADY_EXISTS", "PipelineError.STAGE_ID_EXISTS_IN_ANOTHER_PIPELINE"),
        ),
    ],
)
def test_hubspot_refuses_a_wrong_pipeline(hubspot: HubSpotSimulator, change: dict[str, Any], expected: Any) -> None:
    own_ids = pipeline("Taken", {**stage(), "stageId": "s1"}, pipelineId="p1")
    assert call(hubspot, "POST", DEALS, own_ids).json["id"] == "p1"
    second = hubspot.seed("Second", ["New"])
    before = hubspot.snapshot()
    assert refusal(call(hubspot, "POST", DEALS, {**pipeline(), **change})) == expected
    if "pipelineId" not in change:
        assert refusal(call(hubspot, "PUT", f"{DEALS}/{second['id']}", {**pipeline(), **change})) == expected
    assert hubspot.snapshot() == before


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([None], INVALID),
        (["WAITING"], INVALID),
        (["OPEN"], (400, "VALIDATION_ERROR", "PipelineError.MISSING_CLOSED_STAGE")),
    ],
)
def test_hubspot_wants_a_closed_stage_for_tickets(hubspot: HubSpotSimulator, states: list[Any], expected: Any) -> None:
    stages = [{**stage(f"S{n}"), "metadata": {"ticketState": state}} for n, state in enumerate(states)]
    assert refusal(call(hubspot, "POST", "/crm/v3/pipelines/tickets", pipeline("Help", *stages))) == expected
    assert hubspot.pipelines("tickets") == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", None])
def test_hubspot_refuses_a_body_that_is_no_object(hubspot: HubSpotSimulator, body: bytes | None) -> None:
    assert refusal(call(hubspot, "POST", DEALS, body)) == INVALID


def test_hubspot_refuses_a_body_of_another_type(hubspot: HubSpotSimulator) -> None:
    assert refusal(call(hubspot, "POST", DEALS, pipeline(), headers={"Content-Type": "text/plain"}))[0] == 415


def test_hubspot_patches_a_pipeline_and_leaves_its_stages_alone(hubspot: HubSpotSimulator) -> None:
    first, second = hubspot.seed("First", ["New", "Old"]), hubspot.seed("Second", ["New"])
    path = f"{DEALS}/{first['id']}"
    answer = call(hubspot, "PATCH", path, {"label": "fIRST", "displayOrder": 9, "stages": []})
    assert (answer.status, answer.json["label"], answer.json["displayOrder"]) == (200, "fIRST", 9)
    assert hubspot.pipelines() == [second, {**first, "name": "fIRST"}]
    assert refusal(call(hubspot, "PATCH", path, {"label": "SECOND"})) == INVALID
    assert refusal(call(hubspot, "PATCH", path, {"displayOrder": None})) == INVALID
    assert refusal(call(hubspot, "PATCH", path, {"archived": True})) == INVALID


def test_hubspot_put_replaces_everything_and_deletes_the_stages_not_named(hubspot: HubSpotSimulator) -> None:
    born = {"createdAt": "1970-01-01T00:00:00Z"}
    seeded = hubspot.seed("Sales", ["New", {"name": "Old", "remote": born}], remote=born)
    kept = seeded["stages"][1]["id"]
    body = pipeline("Other", {**stage("Kept", 0), "stageId": kept}, stage("Fresh", 1))
    replaced = call(hubspot, "PUT", f"{DEALS}/{seeded['id']}", body)
    assert replaced.status == 200
    zero = [item["createdAt"] == born["createdAt"] for item in (replaced.json, *replaced.json["stages"])]
    assert zero == [True, True, False]
    [view] = hubspot.pipelines()
    assert (view["id"], view["name"]) == (seeded["id"], "Other")
    assert [item["name"] for item in view["stages"]] == ["Kept", "Fresh"]
    assert view["stages"][0]["id"] == kept


@pytest.mark.parametrize("flag", ["validateReferencesBeforeDelete", "validateDealStageUsagesBeforeDelete"])
@pytest.mark.parametrize("what", ["pipeline", "stage", "replace"])
def test_hubspot_looks_before_it_deletes_only_if_asked(hubspot: HubSpotSimulator, flag: str, what: str) -> None:
    seeded = hubspot.seed("Sales", ["New", {"name": "Talks", "records": 2}])
    used = seeded["stages"][1]["id"]
    path = f"{DEALS}/{seeded['id']}" + (f"/stages/{used}" if what == "stage" else "")
    verb, body = ("PUT", pipeline("Sales")) if what == "replace" else ("DELETE", None)
    before = hubspot.snapshot()
    answer = call(hubspot, verb, f"{path}?{flag}=true", body)
    assert refusal(answer) == (400, "VALIDATION_ERROR", "PipelineError.STAGE_ID_IN_USE")
    assert answer.json["context"]["stageIds"] == [f"[{used}]"]
    assert hubspot.snapshot() == before
    assert call(hubspot, verb, f"{path}?{flag}=false", body).status in (200, 204)
    assert hubspot.snapshot()["records"] == {}


def test_hubspot_answers_a_missing_pipeline_in_three_ways(hubspot: HubSpotSimulator) -> None:
    missing = f"{DEALS}/404"
    for verb, path, body in (
        ("GET", missing, None),
        ("GET", f"{missing}/stages", None),
        ("PATCH", missing, {"label": "x"}),
        ("PUT", missing, pipeline()),
        ("POST", f"{missing}/stages", stage()),
    ):
        answer = call(hubspot, verb, path, body)
        assert (answer.status, answer.body) == (404, b"")
    page = call(hubspot, "GET", missing, headers={"Accept": ""})
    assert (page.status, page.headers["content-type"].split(";")[0]) == (404, "text/html")
    assert refusal(call(hubspot, "DELETE", missing)) == (404, "OBJECT_NOT_FOUND", None)


def test_hubspot_creates_reads_patches_replaces_and_deletes_a_stage(hubspot: HubSpotSimulator) -> None:
    seeded = hubspot.seed("Sales", ["New"])
    stages = f"{DEALS}/{seeded['id']}/stages"
    created = call(hubspot, "POST", stages, {**stage("Won", 1, probability="1.0"), "stageId": "own"})
    assert (created.status, created.json["id"]) == (201, "own")
    own = f"{stages}/own"
    assert call(hubspot, "GET", own).json["metadata"] == {"isClosed": "true", "probability": "1.0"}
    patched = call(hubspot, "PATCH", own, {"metadata": {"probability": "0.0"}})
    assert (patched.status, patched.json["label"], patched.json["metadata"]) == (200, "Won", {"probability": "0.0"})
    replaced = call(hubspot, "PUT", own, stage("Talks", 0, probability="0.3"))
    assert (replaced.status, replaced.json["label"], replaced.json["displayOrder"]) == (200, "Talks", 0)
    for verb, body, expected in (
        ("PATCH", {"label": "No metadata"}, INVALID),
        ("PATCH", {"metadata": {}}, (400, None, None)),
        ("PUT", {"label": "Only", "metadata": {"probability": "0.3"}}, INVALID),
        ("PATCH", stage("nEW"), (400, "VALIDATION_ERROR", "PipelineError.STAGE_LABEL_EXISTS")),
    ):
        assert refusal(call(hubspot, verb, own, body)) == expected
    label_taken = refusal(call(hubspot, "POST", stages, stage("nEW")))
    assert label_taken == (400, "VALIDATION_ERROR", "PipelineError.STAGE_LABEL_EXISTS")
    taken = {**stage("Other"), "stageId": "own"}
    assert refusal(call(hubspot, "POST", stages, taken))[0] == 409
    for _ in range(2):
        gone = call(hubspot, "DELETE", own)
        assert (gone.status, gone.body) == (204, b"")
    assert call(hubspot, "GET", own).status == call(hubspot, "PATCH", own, stage()).status == 404
    last = call(hubspot, "DELETE", f"{stages}/{seeded['stages'][0]['id']}")
    assert refusal(last) == INVALID
    assert last.json["message"] == "Pipeline must have at least one stage"
    assert call(hubspot, "DELETE", f"{DEALS}/404/stages/404").status == 204
    assert hubspot.pipelines() == [seeded]


def test_hubspot_keeps_the_last_closed_stage_of_tickets(hubspot: HubSpotSimulator) -> None:
    seeded = hubspot.seed("Help", ["Open", {"name": "Done", "status": "closed"}], entity="tickets")
    done = f"/crm/v3/pipelines/tickets/{seeded['id']}/stages/{seeded['stages'][1]['id']}"
    expected = (400, "VALIDATION_ERROR", "PipelineError.MISSING_CLOSED_STAGE")
    assert refusal(call(hubspot, "DELETE", done)) == expected
    assert refusal(call(hubspot, "PATCH", done, {"metadata": {"ticketState": "OPEN"}})) == expected
    assert hubspot.pipelines("tickets") == [seeded]


def test_hubspot_knows_no_other_method_or_path(hubspot: HubSpotSimulator) -> None:
    assert call(hubspot, "PUT", DEALS, pipeline()).status == 405
    assert call(hubspot, "GET", f"{DEALS}/").status == 404
    assert call(hubspot, "GET", "/crm/v4/pipelines/deals").status == 404


@pytest.mark.parametrize("policy", ["TEN_SECONDLY_ROLLING", "SECONDLY", "DAILY"])
def test_hubspot_says_which_rate_limit_ran_out(policy: str) -> None:
    with HubSpotSimulator(rate_limit=1, policy=policy) as hubspot:
        allowed, refused = (call(hubspot, "GET", DEALS) for _ in range(2))
        assert allowed.headers["x-hubspot-ratelimit-max"] == "1"
        assert allowed.headers["x-hubspot-ratelimit-remaining"] == "0"
        assert allowed.headers["x-hubspot-ratelimit-interval-milliseconds"] == "10000"
        assert refused.status == 429
        assert (refused.json["errorType"], refused.json["policyName"]) == ("RATE_LIMIT", policy)
        assert "category" not in refused.json
