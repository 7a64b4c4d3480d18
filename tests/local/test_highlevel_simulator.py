"""HighLevel's simulator answers as its documentation says, and refuses what HighLevel refuses."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from local.simulators.base import Fault
from local.simulators.highlevel import LOCATION, HighLevelSimulator
from tests.local.client import Answer
from tests.local.client import call as send

PIPELINES = "/opportunities/pipelines"
LIST = f"{PIPELINES}?locationId={LOCATION}"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
PIPELINE_FIELDS = {
    *("id", "name", "stages", "showInFunnel", "showInPieChart", "useOpportunityProbability"),
    *("dateAdded", "dateUpdated", "locationId", "position"),
}


@pytest.fixture
def highlevel() -> Iterator[HighLevelSimulator]:
    with HighLevelSimulator() as simulator:
        yield simulator


def call(
    simulator: HighLevelSimulator, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    return send(simulator, method, path, body, headers={"Version": "v3", **(headers or {})})


def body(*stages: Any, **more: Any) -> dict[str, Any]:
    named = [{"name": item} if isinstance(item, str) else item for item in stages]
    return {"name": "Sales", "locationId": LOCATION, "stages": named, **more}


def change(*stages: Any, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in body(*stages, **more).items() if key != "locationId"}


def messages(answer: Answer) -> list[str]:
    assert answer.status == 422
    assert answer.json.keys() == {"message", "error", "statusCode", "traceId"}
    assert isinstance(answer.json["message"], list)
    return list(answer.json["message"])


def search(simulator: HighLevelSimulator, **query: str) -> Any:
    pairs = "&".join(f"{key}={value}" for key, value in {"locationId": LOCATION, **query}.items())
    return call(simulator, "GET", f"/opportunities/search?{pairs}").json


def names(answer: Answer) -> list[list[str]]:
    return [[stage["name"] for stage in pipeline["stages"]] for pipeline in answer.json["pipelines"]]


@pytest.mark.parametrize("account", [HighLevelSimulator.demo_account, *HighLevelSimulator.accounts])
def test_private_and_oauth_tokens_are_taken(highlevel: HighLevelSimulator, account: dict[str, Any]) -> None:
    assert re.fullmatch(r"\w{20}", account["settings"]["location_id"])
    assert call(highlevel, "GET", LIST, headers=highlevel.authorization(account)).status == 200


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({"Authorization": ""}, 401, "Invalid JWT"),
        ({"Authorization": "Bearer wrong"}, 401, "Invalid JWT"),
        ({"Authorization": "Bearer pit-wrong"}, 401, "Invalid Private Integration token"),
        ({"Authorization": "Basic cGl0LWRlbW8taGlnaGxldmVsLTRjMWQ3YTkyOg=="}, 401, "Invalid JWT"),
        ({"Version": ""}, 401, "version header was not found."),
        ({"Version": "2021-07-28"}, 401, "version header is invalid"),
        ({"Content-Type": "text/plain"}, 415, "Unsupported Media Type"),
        ({"Content-Type": ""}, 415, "Unsupported Media Type"),
    ],
)
def test_a_wrong_header_gets_no_further(
    highlevel: HighLevelSimulator, headers: dict[str, str], status: int, message: str
) -> None:
    answer = call(highlevel, "POST", PIPELINES, body("New"), headers)
    assert (answer.status, answer.json["statusCode"], answer.json["message"]) == (status, status, message)
    assert highlevel.pipelines() == []


def test_a_missing_scope_is_401_and_is_seen_before_a_foreign_location() -> None:
    needed = {
        ("GET", PIPELINES): "opportunities.readonly",
        ("GET", "/opportunities/search"): "opportunities.readonly",
        ("POST", PIPELINES): "pipelines.create",
        ("GET", f"{PIPELINES}/x"): "pipelines.readonly",
        ("PUT", f"{PIPELINES}/x"): "pipelines.write",
        ("DELETE", f"{PIPELINES}/x"): "pipelines.write",
    }
    refusal = {"statusCode": 401, "message": "The token is not authorized for this scope."}
    for (method, path), scope in needed.items():
        with HighLevelSimulator(scopes=set(needed.values()) - {scope}) as highlevel:
            answer = call(highlevel, method, f"{path}?locationId=foreign")
            assert (answer.status, answer.json) == (401, refusal)
        with HighLevelSimulator(scopes={scope}) as highlevel:
            assert call(highlevel, method, path).status in (404, 422)


def test_a_location_must_be_named_and_be_the_tokens_own(highlevel: HighLevelSimulator) -> None:
    theirs = highlevel.seed("Theirs", ["New"], remote={"locationId": "someoneElses00000001"})
    for path in (PIPELINES, "/opportunities/search", f"{PIPELINES}?locationId="):
        assert messages(call(highlevel, "GET", path)) == ["locationId can't be undefined"]
    for wrong in ({}, {"locationId": None}, {"locationId": 5}):
        answer = call(highlevel, "POST", PIPELINES, {"name": "Sales", "stages": [{"name": "New"}], **wrong})
        assert messages(answer) == ["locationId can't be undefined"]
    refusal = {"statusCode": 403, "message": "The token does not have access to this location."}
    for method, path, sent in (
        ("GET", f"{PIPELINES}?locationId=foreign", None),
        ("GET", "/opportunities/search?locationId=foreign", None),
        ("POST", PIPELINES, body("New", locationId="foreign")),
        ("DELETE", f"{PIPELINES}/{theirs['id']}", None),
    ):
        answer = call(highlevel, method, path, sent)
        assert (answer.status, answer.json) == (403, refusal)
    assert call(highlevel, "GET", LIST).json["pipelines"] == []


@pytest.mark.parametrize("world", [{}, {"wrapped": True, "created_status": 201}, {"counts_from": 1}])
def test_a_pipeline_is_created_read_listed_changed_and_deleted(world: dict[str, Any]) -> None:
    with HighLevelSimulator(**world) as highlevel:

        def one(answer: Answer, status: int = 200) -> Any:
            assert answer.status == status
            if world.get("wrapped"):
                assert answer.json.keys() == {"pipeline", "traceId"}
            return answer.json["pipeline"] if world.get("wrapped") else answer.json

        sent = body(
            "New", "Talks", extra=1, stages=[{"name": "New", "extra": 1}, {"name": "Talks", "color": "#155EEF"}]
        )
        created = one(call(highlevel, "POST", PIPELINES, sent), world.get("created_status", 200))
        assert created.keys() == PIPELINE_FIELDS
        assert re.fullmatch(r"\w{20}", created["id"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", created["dateAdded"])
        shown = {"showInFunnel": True, "showInPieChart": True}
        first = world.get("counts_from", 0)
        assert all(re.fullmatch(UUID, stage["id"]) for stage in created["stages"])
        assert [{k: v for k, v in stage.items() if k != "id"} for stage in created["stages"]] == [
            {"name": "New", "position": first, "stageWinProbability": 33.33, **shown},
            {"name": "Talks", "position": first + 1, "stageWinProbability": 66.67, **shown, "color": "#155EEF"},
        ]
        path = f"{PIPELINES}/{created['id']}"
        assert one(call(highlevel, "GET", path)) == created
        listed = call(highlevel, "GET", LIST).json
        assert listed.keys() == {"pipelines", "traceId"}
        assert listed["pipelines"] == [created]
        changed = one(call(highlevel, "PUT", path, {"name": "Other", "stages": created["stages"]}))
        assert {**changed, "dateUpdated": ""} == {**created, "name": "Other", "dateUpdated": ""}
        gone = call(highlevel, "DELETE", path)
        assert (gone.status, gone.json) == (200, {"success": True})
        assert highlevel.snapshot() == {"pipelines": [], "opportunities": []}


def test_a_delete_may_be_answered_without_a_body() -> None:
    with HighLevelSimulator(bodyless_delete=True) as highlevel:
        pipeline = highlevel.seed("Sales", ["New"])
        gone = call(highlevel, "DELETE", f"{PIPELINES}/{pipeline['id']}")
        assert (gone.status, gone.body) == (200, b"")


THREE = ["stages must contain at least 1 elements", "stages must be an array", "stages should not be empty"]
LONG = "must be shorter than or equal to 255 characters"
WRONG_STAGES: dict[str, dict[str, Any]] = {
    "position must be an integer number": {"position": "1"},
    "position must be an integer number ": {"position": -1},
    "stageWinProbability must be a number from 0 to 100": {"stageWinProbability": 101},
    "showInFunnel must be a boolean value": {"showInFunnel": "yes"},
    "color must be a hexadecimal color": {"color": "red"},
    "id must be a string": {"id": 5},
    f"name {LONG}": {"name": "x" * 256},
    "name should not be empty": {"name": None},
}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": 7}, "name must be a string"),
        ({"name": ""}, "name should not be empty"),
        ({"name": "x" * 256}, f"name {LONG}"),
        ({"name": "tAKEN"}, "Pipeline with name tAKEN already exists"),
        ({"stages": {}}, THREE[1]),
        ({"stages": []}, THREE[0]),
        ({"stages": ["New"]}, "each value in nested property stages must be either object or array"),
        ({"stages": [{"name": "New"}, {"name": "nEW"}]}, "Stage names must be unique"),
        ({"useOpportunityProbability": 1}, "useOpportunityProbability must be a boolean value"),
        ({"colorRenderMode": "big"}, "colorRenderMode must be one of dot, bg-tint, none"),
        *(({"stages": [{"name": "N", **bad}]}, f"stages.0.{said.strip()}") for said, bad in WRONG_STAGES.items()),
    ],
)
def test_a_wrong_pipeline_is_refused_as_a_whole(
    highlevel: HighLevelSimulator, wrong: dict[str, Any], message: str
) -> None:
    highlevel.seed("Taken", ["New"])
    own = highlevel.seed("Own", ["New"])
    before = highlevel.snapshot()
    assert message in messages(call(highlevel, "POST", PIPELINES, {**body("New"), **wrong}))
    assert message in messages(call(highlevel, "PUT", f"{PIPELINES}/{own['id']}", {**change("New"), **wrong}))
    assert highlevel.snapshot() == before


def test_what_is_missing_and_what_is_no_object_is_refused(highlevel: HighLevelSimulator) -> None:
    bare = messages(call(highlevel, "POST", PIPELINES, {"locationId": LOCATION}))
    assert bare == ["name must be a string", "name should not be empty", *THREE]
    for wrong in (b"{", b"[]", b"null", b'"x"'):
        answer = call(highlevel, "POST", PIPELINES, wrong)
        assert (answer.status, answer.json["message"]) == (400, "Unexpected token in JSON")
    assert messages(call(highlevel, "POST", PIPELINES)) == ["locationId can't be undefined"]


def test_put_without_stages_fails_in_its_own_way(highlevel: HighLevelSimulator) -> None:
    path = f"{PIPELINES}/{highlevel.seed('Sales', ['New'])['id']}"
    answer = call(highlevel, "PUT", path, {"name": "Other"})
    assert answer.status == 400
    assert answer.json == {"success": False, "message": "Cannot read properties of undefined (reading 'map')"}
    assert highlevel.pipelines()[0]["name"] == "Sales"


@pytest.mark.parametrize("key", ["id", "position", "dateAdded", "dateUpdated", "locationId"])
def test_put_takes_back_no_fixed_field(highlevel: HighLevelSimulator, key: str) -> None:
    path = f"{PIPELINES}/{highlevel.seed('Sales', ['New'])['id']}"
    row = call(highlevel, "GET", path).json
    said = messages(call(highlevel, "PUT", path, {**change("New"), key: row[key]}))
    assert said == [f"property {key} should not exist"]


def test_put_replaces_the_stages_and_moves_deals_silently_to_the_lowest(highlevel: HighLevelSimulator) -> None:
    seeded = highlevel.seed("Sales", ["A", {"name": "B", "records": 2}, "C"])
    a, b, c = (stage["id"] for stage in seeded["stages"])
    path = f"{PIPELINES}/{seeded['id']}"
    wanted = [
        {"id": a, "name": "A", "position": 5},
        {"name": "New", "position": 7},
        {"id": c, "name": "C2", "position": 1},
    ]
    answer = call(highlevel, "PUT", path, {"stages": wanted})
    assert answer.json["name"] == "Sales"
    assert [(stage["name"], stage["position"]) for stage in answer.json["stages"]] == [("A", 1), ("New", 2), ("C2", 0)]
    assert [stage["name"] for stage in highlevel.pipelines()[0]["stages"]] == ["C2", "A", "New"]
    assert [stage["id"] for stage in answer.json["stages"]][::2] == [a, c]
    assert search(highlevel, pipelineStageId=b)["meta"]["total"] == 0
    assert search(highlevel, pipelineStageId=c)["meta"]["total"] == 2
    for unknown in ([b], [a, a]):
        stages = [{"id": each, "name": f"S{index}"} for index, each in enumerate(unknown)]
        assert messages(call(highlevel, "PUT", path, {"stages": stages}))[0] == f"Stage {unknown[0]} does not exist"


def test_probabilities_of_ones_own_need_the_flag_and_a_value_everywhere(highlevel: HighLevelSimulator) -> None:
    given = [{"name": "A", "stageWinProbability": 10}, {"name": "B", "stageWinProbability": 100}]
    flag = {"useOpportunityProbability": True}

    def chances(answer: Answer) -> list[float]:
        return [stage["stageWinProbability"] for stage in answer.json["stages"]]

    created = call(highlevel, "POST", PIPELINES, body(*given, **flag))
    assert (chances(created), created.json["useOpportunityProbability"]) == ([10, 100], True)
    path = f"{PIPELINES}/{created.json['id']}"
    assert chances(call(highlevel, "PUT", path, change(*given))) == [10, 100]
    assert chances(call(highlevel, "PUT", path, change(given[0], "B"))) == [33.33, 66.67]
    assert chances(call(highlevel, "PUT", path, change(*given, useOpportunityProbability=False))) == [33.33, 66.67]
    six = call(highlevel, "POST", PIPELINES, body(*"ABCDEF", name="Six"))
    assert chances(six) == [14.29, 28.57, 42.86, 57.14, 71.43, 85.71]


def test_deals_are_found_by_the_search_and_erased_with_their_pipeline(highlevel: HighLevelSimulator) -> None:
    seeded = highlevel.seed("Sales", [{"name": "New", "records": 30}, "Talks"])
    other = highlevel.seed("Other", ["New"])
    highlevel.occupy(other["stages"][0]["id"], 1)
    found = search(highlevel, pipelineId=seeded["id"])
    assert found.keys() == {"opportunities", "meta", "aggregations", "traceId"}
    assert (len(found["opportunities"]), found["meta"]["total"]) == (20, 30)
    assert {deal["pipelineStageId"] for deal in found["opportunities"]} == {seeded["stages"][0]["id"]}
    assert len(search(highlevel, limit="1")["opportunities"]) == 1
    assert search(highlevel, pipelineId="nowhere")["opportunities"] == []
    for wrong in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"pipeline_id": "x"}, {"location_id": "x"}):
        assert search(highlevel, **wrong)["statusCode"] == 422
    assert search(highlevel, pipeline_stage_id="x")["message"] == ["property pipeline_stage_id should not exist"]
    assert call(highlevel, "DELETE", f"{PIPELINES}/{seeded['id']}").status == 200
    assert search(highlevel)["meta"]["total"] == 1
    highlevel.occupy(other["stages"][0]["id"], 0)
    assert highlevel.snapshot()["opportunities"] == []


def test_lists_lag_behind_a_write_for_as_many_reads_and_writes_never_do() -> None:
    with HighLevelSimulator(lag=2) as highlevel:
        path = f"{PIPELINES}/{highlevel.seed('Sales', ['A'])['id']}"
        assert [stage["name"] for stage in call(highlevel, "PUT", path, change("A", "B")).json["stages"]] == ["A", "B"]
        assert names(call(highlevel, "GET", LIST)) == [["A"]]
        call(highlevel, "PUT", path, change("A", "B", "C"))
        assert len(call(highlevel, "GET", path).json["stages"]) == 3
        assert [names(call(highlevel, "GET", LIST))[0] for _ in range(3)] == [["A"], ["A", "B"], ["A", "B", "C"]]
        call(highlevel, "DELETE", path)
        assert [len(names(call(highlevel, "GET", LIST))) for _ in range(3)] == [1, 1, 0]


def test_reads_by_id_may_lag_too() -> None:
    with HighLevelSimulator(lag=1, lag_of="all") as highlevel:
        path = f"{PIPELINES}/{call(highlevel, 'POST', PIPELINES, body('A')).json['id']}"
        assert [call(highlevel, "GET", path).status for _ in range(2)] == [404, 200]
        call(highlevel, "DELETE", path)
        assert [call(highlevel, "GET", path).status for _ in range(2)] == [200, 404]
        call(highlevel, "POST", PIPELINES, body("A"))
        highlevel.reset()
        highlevel.seed("Sales", ["B"])
        assert names(call(highlevel, "GET", LIST)) == [["B"]]


@pytest.mark.parametrize(("status", "error"), [(404, "Not Found"), (400, "Bad Request"), (422, "Unprocessable Entity")])
def test_an_unknown_pipeline_is_refused_in_one_of_three_ways(status: int, error: str) -> None:
    with HighLevelSimulator(missing_status=status) as highlevel:
        for method, sent in (("GET", None), ("PUT", change("New")), ("DELETE", None)):
            answer = call(highlevel, method, f"{PIPELINES}/nowhere", sent)
            assert (answer.status, answer.json["statusCode"], answer.json["error"]) == (status, status, error)
            assert answer.json["message"] in ("Pipeline not found", ["Pipeline not found"])
            assert answer.json["traceId"]


def test_other_paths_and_methods_are_404(highlevel: HighLevelSimulator) -> None:
    for method, path in (("GET", f"{PIPELINES}/"), ("PATCH", f"{PIPELINES}/x"), ("GET", f"{PIPELINES}/x/stages")):
        answer = call(highlevel, method, path)
        assert (answer.status, answer.json["message"]) == (404, f"Cannot {method} {path}")


def test_the_rate_limit_says_so_in_headers_and_need_not_say_when() -> None:
    with HighLevelSimulator(rate_limit=1) as highlevel:
        allowed, refused = (call(highlevel, "GET", LIST) for _ in range(2))
        for answer in (allowed, refused):
            assert answer.headers["x-ratelimit-max"] == "1"
            assert answer.headers["x-ratelimit-remaining"] == "0"
            assert answer.headers["x-ratelimit-interval-milliseconds"] == "10000"
            assert answer.headers["x-ratelimit-limit-daily"] == "200000"
        assert (refused.status, refused.json) == (429, {"statusCode": 429, "message": "Too Many Requests"})
        highlevel.fault(Fault("rate_limit", retry_after=None))
        silent = call(highlevel, "GET", LIST)
        assert silent.status == 429
        assert "retry-after" not in silent.headers


def test_there_are_pipelines_for_opportunities_only(highlevel: HighLevelSimulator) -> None:
    assert highlevel.seed("Sales", [{"name": "Won", "status": "won"}])["stages"][0]["status"] == "active"
    assert highlevel.pipelines("contact") == []
    with pytest.raises(ValueError, match="contact"):
        highlevel.seed("Sales", entity="contact")
