"""Pipedrive's simulator answers as API v2 is documented and was recorded, and refuses what it refuses."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from local.simulators.base import Fault
from local.simulators.pipedrive import PipedriveSimulator
from tests.local.client import Answer, call

PIPELINES, STAGES, DEALS = "/api/v2/pipelines", "/api/v2/stages", "/api/v2/deals"
PIPELINE_KEYS = {"id", "name", "order_nr", "is_deleted", "is_deal_probability_enabled", "add_time", "update_time"}
STAGE_KEYS = {
    *("id", "name", "order_nr", "pipeline_id", "deal_probability", "is_deal_rot_enabled", "days_to_rotten"),
    *("is_deleted", "add_time", "update_time"),
}
SCHEMA = (400, "ERR_SCHEMA_VALIDATION_FAILED")
SECONDS = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
MILLISECONDS = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def pipedrive() -> Iterator[PipedriveSimulator]:
    with PipedriveSimulator() as simulator:
        yield simulator


def refusal(answer: Answer) -> tuple[int, str | None]:
    body = answer.json
    assert body["success"] is False
    assert body["error"]
    assert body["data"] is body["additional_data"] is None
    return answer.status, body.get("code")


def data(answer: Answer) -> Any:
    assert (answer.status, answer.json["success"]) == (200, True)
    return answer.json["data"]


def orders(simulator: PipedriveSimulator, pipeline_id: Any) -> dict[str, int]:
    query = f"?pipeline_id={pipeline_id}&sort_by=order_nr"
    return {stage["name"]: stage["order_nr"] for stage in data(call(simulator, "GET", STAGES + query))}


@pytest.mark.parametrize("account", [PipedriveSimulator.demo_account, *PipedriveSimulator.accounts])
def test_pipedrive_takes_api_tokens_and_access_tokens(pipedrive: PipedriveSimulator, account: dict[str, Any]) -> None:
    headers = {"x-api-token": "", **pipedrive.authorization(account)}
    assert call(pipedrive, "GET", PIPELINES, headers=headers).json == {
        "success": True,
        "data": [],
        "additional_data": {"next_cursor": None},
    }


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, "unauthorized access"),
        ({"x-api-token": "wrong"}, "unauthorized access"),
        ({"Authorization": "Bearer wrong"}, "Invalid token: access token is invalid"),
        ({"Authorization": "Bearer pipedrive-demo-api-token-61d0b8"}, "Invalid token: access token is invalid"),
        ({"x-api-token": "pipedrive-demo-access-token-f2a7"}, "unauthorized access"),
    ],
)
def test_pipedrive_refuses_a_wrong_credential(
    pipedrive: PipedriveSimulator, headers: dict[str, str], error: str
) -> None:
    query = "?api_token=pipedrive-demo-api-token-61d0b8"  # where v1 took it
    answer = call(pipedrive, "POST", PIPELINES + query, {"name": "Sales"}, headers={"x-api-token": "", **headers})
    assert (answer.status, answer.json["errorCode"], answer.json["error"]) == (401, 401, error)
    assert pipedrive.pipelines() == []


def test_pipedrive_creates_reads_and_lists_a_pipeline_without_stages(pipedrive: PipedriveSimulator) -> None:
    created = data(call(pipedrive, "POST", PIPELINES, {"name": "Sales", "stages": [{"name": "New"}], "extra": 1}))
    assert created.keys() == PIPELINE_KEYS
    assert (created["id"], created["is_deal_probability_enabled"], created["update_time"]) == (1, True, None)
    assert re.fullmatch(SECONDS, created["add_time"])
    assert data(call(pipedrive, "GET", f"{PIPELINES}/1")) == created
    assert data(call(pipedrive, "GET", PIPELINES)) == [created]
    assert data(call(pipedrive, "GET", STAGES)) == []
    again = data(call(pipedrive, "POST", PIPELINES, {"name": "Sales", "is_deal_probability_enabled": False}))
    assert (again["id"], again["name"], again["is_deal_probability_enabled"]) == (2, "Sales", False)


@pytest.mark.parametrize(("first", "expected"), [(0, [0, 1, 5, 9]), (1, [1, 2, 6, 10])])
def test_pipedrive_puts_a_new_stage_at_the_end_and_its_order_jumps(first: int, expected: list[int]) -> None:
    with PipedriveSimulator(first_order=first, created_status=201) as pipedrive:
        assert call(pipedrive, "POST", PIPELINES, {"name": "Sales"}).status == 201
        made = [call(pipedrive, "POST", STAGES, {"name": "Same", "pipeline_id": 1}) for _ in range(4)]
        assert {answer.status for answer in made} == {201}
        stages = [answer.json["data"] for answer in made]
        assert [stage["order_nr"] for stage in stages] == expected
        assert {stage["deal_probability"] for stage in stages} == {100}
        assert {stage["days_to_rotten"] for stage in stages} == {None}
        assert stages[0].keys() == STAGE_KEYS
        assert data(call(pipedrive, "GET", f"{STAGES}/2")) == stages[1]


def test_pipedrive_may_give_a_new_pipeline_stages_but_not_a_planted_one() -> None:
    with PipedriveSimulator(ready_made=("Qualified", "Contact Made")) as pipedrive:
        assert pipedrive.seed("Planted", ["New"])["stages"] == [{"id": "1", "name": "New", "status": "active"}]
        assert data(call(pipedrive, "POST", PIPELINES, {"name": "Sales"})).keys() == PIPELINE_KEYS
        assert [stage["name"] for stage in pipedrive.pipelines()[1]["stages"]] == ["Qualified", "Contact Made"]


def test_pipedrive_patches_in_parts_and_update_time_moves_only_with_a_change(pipedrive: PipedriveSimulator) -> None:
    pipedrive.seed("Sales", [{"name": "New", "status": "won", "remote": {"deal_probability": 40}}])
    path = f"{STAGES}/1"
    before = data(call(pipedrive, "GET", path))
    assert data(call(pipedrive, "PATCH", path, {"name": "New", "deal_probability": 40})) == before
    assert before["update_time"] is None
    body = {"is_deal_rot_enabled": True, "days_to_rotten": 9, "deal_probability": 0}
    after = data(call(pipedrive, "PATCH", path, body))
    assert re.fullmatch(MILLISECONDS, after.pop("update_time"))
    assert after == {**{key: before[key] for key in after}, **body}
    renamed = data(call(pipedrive, "PATCH", f"{PIPELINES}/1", {"name": "Other"}))
    assert (renamed["name"], renamed["is_deal_probability_enabled"]) == ("Other", True)
    assert re.fullmatch(MILLISECONDS, renamed["update_time"])
    assert pipedrive.pipelines()[0]["stages"] == [{"id": "1", "name": "New", "status": "active"}]


def test_pipedrive_moves_a_stage_to_the_end_with_its_deals_and_renumbers_what_it_left(
    pipedrive: PipedriveSimulator,
) -> None:
    pipedrive.seed("Here", [{"name": "A", "records": 2}, "B", "C"])
    pipedrive.seed("There", ["D"])
    assert orders(pipedrive, 1) == {"A": 0, "B": 1, "C": 5}
    moved = data(call(pipedrive, "PATCH", f"{STAGES}/1", {"pipeline_id": 2}))
    assert (moved["pipeline_id"], moved["order_nr"]) == (2, 1)
    assert (orders(pipedrive, 1), orders(pipedrive, 2)) == ({"B": 0, "C": 1}, {"D": 0, "A": 1})
    assert [stage["name"] for stage in pipedrive.pipelines()[1]["stages"]] == ["D", "A"]
    assert [stage["id"] for stage in data(call(pipedrive, "GET", f"{STAGES}?pipeline_id=2"))] == [1, 4]
    assert data(call(pipedrive, "GET", f"{STAGES}/3"))["update_time"]
    assert {deal["pipeline_id"] for deal in data(call(pipedrive, "GET", DEALS))} == {2}


@pytest.mark.parametrize("gone_is_404", [False, True])
def test_pipedrive_marks_as_deleted_whatever_the_deals(gone_is_404: bool) -> None:
    with PipedriveSimulator(deleted_are_404=gone_is_404) as pipedrive:
        pipedrive.seed("Sales", ["A", {"name": "B", "records": 1}, "C"])
        pipedrive.seed("Other", ["D"])
        deleted = call(pipedrive, "DELETE", f"{STAGES}/2")
        assert (deleted.status, deleted.json) == (200, {"success": True, "data": {"id": 2}})
        assert orders(pipedrive, 1) == {"A": 0, "C": 1}
        deleted = call(pipedrive, "DELETE", f"{PIPELINES}/1")
        assert (deleted.status, deleted.json) == (200, {"success": True, "data": {"id": 1}})
        assert [item["id"] for item in data(call(pipedrive, "GET", PIPELINES))] == [2]
        assert [item["name"] for item in data(call(pipedrive, "GET", STAGES))] == ["D"]
        assert [item["name"] for item in pipedrive.pipelines()] == ["Other"]
        for path in (f"{PIPELINES}/1", f"{STAGES}/1", f"{STAGES}/2"):
            found = call(pipedrive, "GET", path)
            assert refusal(found) == (404, None) if gone_is_404 else data(found)["is_deleted"] is True
            assert refusal(call(pipedrive, "DELETE", path)) == (404, None)
            assert refusal(call(pipedrive, "PATCH", path, {"name": "Back"})) == (404, None)
        into_nothing = call(pipedrive, "POST", STAGES, {"name": "New", "pipeline_id": 1})
        assert refusal(into_nothing) == SCHEMA
        assert data(call(pipedrive, "POST", PIPELINES, {"name": "Third"}))["id"] == 3


def test_pipedrive_shows_deals_by_pipeline_and_by_stage(pipedrive: PipedriveSimulator) -> None:
    pipedrive.seed("Sales", [{"name": "New", "records": 3}, {"name": "Old", "records": 1}])
    pipedrive.seed("Other", ["New"])
    for query, count in (("", 4), ("?pipeline_id=1", 4), ("?stage_id=1", 3), ("?stage_id=2&limit=1", 1)):
        assert len(data(call(pipedrive, "GET", DEALS + query))) == count
    first = call(pipedrive, "GET", f"{DEALS}?pipeline_id=1&limit=1").json
    assert first["data"][0].items() >= {"stage_id": 1, "pipeline_id": 1, "status": "open"}.items()
    assert first["additional_data"]["next_cursor"]
    assert data(call(pipedrive, "GET", f"{DEALS}?pipeline_id=2")) == []
    pipedrive.occupy("1", 0)
    assert data(call(pipedrive, "GET", f"{DEALS}?stage_id=1")) == []
    with pytest.raises(LookupError):
        pipedrive.occupy("12345")


def pages(simulator: PipedriveSimulator, path: str) -> list[list[int]]:
    found, cursor = [], ""
    while True:
        answer = call(simulator, "GET", path + cursor)
        found.append([item["id"] for item in data(answer)])
        following = answer.json["additional_data"]["next_cursor"]
        if following is None:
            return found
        cursor = f"&cursor={following}"


def test_pipedrive_answers_page_by_page_in_any_order() -> None:
    with PipedriveSimulator(page_size=2) as pipedrive:
        pipedrive.seed("Sales", "ABCDE")
        call(pipedrive, "PATCH", f"{STAGES}/2", {"name": "Bee"})
        assert pages(pipedrive, f"{STAGES}?limit=500") == [[1, 2], [3, 4], [5]]
        assert pages(pipedrive, f"{STAGES}?sort_direction=desc") == [[5, 4], [3, 2], [1]]
        assert pages(pipedrive, f"{STAGES}?sort_by=update_time&limit=4") == [[1, 3], [4, 5], [2]]
        assert pages(pipedrive, f"{STAGES}?sort_by=order_nr&limit=1") == [[1], [2], [3], [4], [5]]
        cursor = call(pipedrive, "GET", STAGES).json["additional_data"]["next_cursor"]
        call(pipedrive, "DELETE", f"{STAGES}/3")
        assert pages(pipedrive, f"{STAGES}?cursor={cursor}") == [[4, 5]]
        other_sort = call(pipedrive, "GET", f"{STAGES}?sort_by=order_nr&cursor={cursor}")
        assert refusal(other_sort) == SCHEMA


def test_pipedrive_answers_a_hundred_unless_asked_for_more(pipedrive: PipedriveSimulator) -> None:
    pipedrive.seed("Sales", [f"Stage {number}" for number in range(120)])
    assert [len(page) for page in pages(pipedrive, f"{STAGES}?pipeline_id=1")] == [100, 20]
    assert [len(page) for page in pages(pipedrive, f"{STAGES}?limit=500")] == [120]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=501", "limit=", "limit=x", "limit=-1", "pipeline_id=x", "pipeline_id=", "cursor=x"),
        *("cursor=", "cursor=NQ==", "cursor=WyJpZCIsICJ4IiwgMV0=", "sort_by=name", "sort_direction=up"),
    ],
)
def test_pipedrive_refuses_a_query_out_of_bounds(pipedrive: PipedriveSimulator, query: str) -> None:
    assert refusal(call(pipedrive, "GET", f"{STAGES}?{query}")) == SCHEMA
    assert refusal(call(pipedrive, "GET", f"{PIPELINES}?sort_by=order_nr")) == SCHEMA
    assert call(pipedrive, "GET", f"{STAGES}?start=0&updated_since=x").status == 200


@pytest.mark.parametrize(
    "change",
    [
        *({"name": None}, {"name": ""}, {"name": " "}, {"name": 5}, {"order_nr": 1}, {"pipeline_id": None}),
        *({"pipeline_id": "1"}, {"pipeline_id": True}, {"pipeline_id": 1.5}, {"pipeline_id": 12345}),
        *({"deal_probability": 101}, {"deal_probability": -1}, {"deal_probability": "50"}, {"days_to_rotten": "9"}),
        *({"is_deal_rot_enabled": 1}, {"is_deal_rot_enabled": "true"}, {"days_to_rotten": -1}),
    ],
)
def test_pipedrive_refuses_a_field_of_another_type(pipedrive: PipedriveSimulator, change: dict[str, Any]) -> None:
    pipedrive.seed("Sales", ["New"])
    before = pipedrive.snapshot()
    assert refusal(call(pipedrive, "POST", STAGES, {"name": "Old", "pipeline_id": 1, **change})) == SCHEMA
    assert refusal(call(pipedrive, "PATCH", f"{STAGES}/1", {"deal_probability": 7, **change})) == SCHEMA
    if change.keys() <= {"name", "order_nr"}:
        assert refusal(call(pipedrive, "POST", PIPELINES, {"name": "Old", **change})) == SCHEMA
        assert refusal(call(pipedrive, "PATCH", f"{PIPELINES}/1", change)) == SCHEMA
    assert pipedrive.snapshot() == before


@pytest.mark.parametrize("body", [{}, {"is_deal_probability_enabled": True}, [], b"null", b"{", b'{"name": NaN}', None])
def test_pipedrive_refuses_a_body_without_what_it_requires(pipedrive: PipedriveSimulator, body: Any) -> None:
    assert refusal(call(pipedrive, "POST", PIPELINES, body)) == SCHEMA
    assert refusal(call(pipedrive, "POST", STAGES, body)) == SCHEMA
    assert refusal(call(pipedrive, "POST", STAGES, {"name": "No pipeline"})) == SCHEMA
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert refusal(call(pipedrive, "POST", PIPELINES, b"name=Sales", headers=form)) == (415, None)
    assert pipedrive.pipelines() == []


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", f"{PIPELINES}/12345", (404, None)),
        ("PATCH", f"{PIPELINES}/12345", (404, None)),
        ("DELETE", f"{STAGES}/12345", (404, None)),
        ("GET", f"{STAGES}/abc", SCHEMA),
        ("DELETE", f"{PIPELINES}/1.0", SCHEMA),
        ("GET", f"{PIPELINES}/{'9' * 5000}", SCHEMA),
        ("GET", f"{PIPELINES}/", (404, None)),
        ("GET", f"{STAGES}/1/", (404, None)),
        ("GET", "/v2/pipelines", (404, None)),
        ("GET", "/api/v1/pipelines", (404, None)),
        ("PUT", f"{PIPELINES}/1", (405, None)),
        ("DELETE", STAGES, (405, None)),
        ("POST", DEALS, (405, None)),
    ],
)
def test_pipedrive_knows_no_other_id_path_or_method(
    pipedrive: PipedriveSimulator, method: str, path: str, expected: tuple[int, str | None]
) -> None:
    pipedrive.seed("Sales", ["New"])
    before = pipedrive.snapshot()
    assert refusal(call(pipedrive, method, path, {"name": "x"} if method in ("PATCH", "PUT") else None)) == expected
    assert pipedrive.snapshot() == before


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ({"deals:read"}, (200, 200, 403)),
        (["deals:full"], (200, 200, 403)),
        ({"admin"}, (200, 403, 200)),
        (set(), (403, 403, 403)),
        ({"deals:read", "admin"}, (200, 200, 200)),
    ],
)
def test_pipedrive_asks_for_scopes(scopes: Any, expected: tuple[int, ...]) -> None:
    with PipedriveSimulator(scopes=scopes) as pipedrive:
        answers = [call(pipedrive, "GET", STAGES), call(pipedrive, "GET", DEALS)]
        answers.append(call(pipedrive, "POST", PIPELINES, {"name": "Sales"}))
        assert tuple(answer.status for answer in answers) == expected
        for answer in answers:
            if answer.status == 403:
                assert (answer.json["error"], answer.json["errorCode"]) == ("Scope and URL mismatch", 403)


def test_pipedrive_says_its_rate_limit_in_headers() -> None:
    with PipedriveSimulator(rate_limit=1, rate_window=2.0) as pipedrive:
        pipedrive.clock = lambda: 0.0
        allowed, refused = (call(pipedrive, "GET", PIPELINES) for _ in range(2))
        for answer in (allowed, refused):
            found = {key: value for key, value in answer.headers.items() if key.startswith("x-ratelimit")}
            assert found == {"x-ratelimit-limit": "1", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "2"}
            assert int(answer.headers["x-daily-ratelimit-token-remaining"]) > 0
        assert (refused.status, refused.json["success"], refused.headers["retry-after"]) == (429, False, "2")
        pipedrive.fault(Fault("rate_limit", retry_after=None))
        silent = call(pipedrive, "GET", PIPELINES)
        assert (silent.status, "retry-after" in silent.headers) == (429, False)


def test_pipedrive_stops_everything_for_the_day_for_money_or_for_abuse() -> None:
    with PipedriveSimulator(daily_exhausted=True) as pipedrive:
        answer = call(pipedrive, "GET", PIPELINES)
        assert (answer.status, answer.json["success"]) == (429, False)
        assert answer.headers["x-daily-ratelimit-token-remaining"] == "0"
        assert (answer.headers["x-ratelimit-remaining"], "retry-after" in answer.headers) == ("19", False)
    with PipedriveSimulator(unpaid=True) as pipedrive:
        assert call(pipedrive, "GET", PIPELINES).status == 402
    with PipedriveSimulator(plan_limit=0) as pipedrive:
        answer = call(pipedrive, "POST", PIPELINES, {"name": "Sales"})
        assert refusal(answer) == (403, "feature_capping_deals_limit")
    with PipedriveSimulator(cloudflare=True) as pipedrive:
        answer = call(pipedrive, "GET", PIPELINES)
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (403, "text/html")
        assert answer.body.startswith(b"<!DOCTYPE html>")


def test_pipedrive_has_pipelines_for_deals_only() -> None:
    simulator = PipedriveSimulator()
    assert simulator.seed("Sales", entity="opportunity") == {"id": "1", "name": "Sales", "stages": []}
    assert simulator.pipelines("contact") == []
    with pytest.raises(ValueError, match="no pipelines for contact"):
        simulator.seed("Sales", entity="contact")
