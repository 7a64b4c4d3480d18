"""The ActiveCampaign simulator answers as the documentation and the recorded replies say, and refuses as strictly."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.simulators.activecampaign import ActiveCampaignSimulator
from local.simulators.base import Fault
from tests.local.client import Answer, call

GROUPS, STAGES, DEALS = "/api/3/dealGroups", "/api/3/dealStages", "/api/3/deals"
KEY = ActiveCampaignSimulator.demo_account["credentials"]["api_key"]
SALES = {"title": "Sales", "currency": "usd"}
HOST = "https://demo.api-us1.com"


@pytest.fixture
def campaign() -> Iterator[ActiveCampaignSimulator]:
    with ActiveCampaignSimulator() as simulator:
        yield simulator


def create(campaign: ActiveCampaignSimulator, **fields: Any) -> Any:
    return call(campaign, "POST", GROUPS, {"dealGroup": {**SALES, **fields}}).json["dealGroup"]


def create_stage(campaign: ActiveCampaignSimulator, query: str = "", **fields: Any) -> Answer:
    return call(campaign, "POST", STAGES + query, {"dealStage": fields})


def names(campaign: ActiveCampaignSimulator, position: int = 0) -> list[str]:
    return [stage["name"] for stage in campaign.pipelines()[position]["stages"]]


def refusal(answer: Answer) -> tuple[int, str, str]:
    [error] = answer.json["errors"]
    assert error.keys() == {"title", "detail", "code", "source"}
    return answer.status, error["code"], error["source"]["pointer"].removeprefix("/data/attributes/")


# Pipelines


def test_a_new_pipeline_has_three_stages_without_times_and_shows_its_flags_as_numbers(
    campaign: ActiveCampaignSimulator,
) -> None:
    answer = call(campaign, "POST", GROUPS, {"dealGroup": SALES})
    group, stages = answer.json["dealGroup"], answer.json["dealStages"]
    assert (answer.status, answer.json.keys()) == (201, {"dealGroup", "dealStages"})
    flags = {"autoassign": 1, "allusers": 0, "allgroups": 1}
    assert {key: group[key] for key in ("id", *SALES, *flags)} == {"id": "1", **SALES, **flags}
    assert group.keys() == {*SALES, *flags, "id", "cdate", "udate", "links", "stages"}
    assert group["links"]["stages"] == f"{HOST}/api/3/dealGroups/1/stages"
    assert names(campaign) == ["To Contact", "In Contact", "Follow Up"]
    first = next(stage for stage in stages if stage["title"] == "To Contact")
    assert (first["order"], first["width"], first["group"]) == ("1", "280", "1")
    assert first["cdate"] is first["udate"] is None
    assert first.keys() >= {"color", "dealOrder", "cardRegion1", "cardRegion5"}
    read = call(campaign, "GET", f"{GROUPS}/1").json
    assert read["dealStages"] == stages
    assert read["dealGroup"] == {
        **group,
        **{k: str(v) for k, v in flags.items()},
        "win_probability_initialize_date": None,
    }


def test_neither_stages_nor_their_ids_come_in_order(campaign: ActiveCampaignSimulator) -> None:
    create(campaign)
    answer = call(campaign, "GET", f"{GROUPS}/1").json
    assert answer["dealGroup"]["stages"] == ["2", "3", "1"]
    assert [stage["id"] for stage in answer["dealStages"]] == ["3", "2", "1"]
    assert [stage["id"] for stage in campaign.pipelines()[0]["stages"]] == ["1", "2", "3"]


def test_a_title_alone_may_be_changed_and_flags_left_out_fall_back(campaign: ActiveCampaignSimulator) -> None:
    group = create(campaign, autoassign=2, allusers="1")
    sent = {"title": "Renamed", "autoassign": "2", "allusers": 1, "allgroups": "1"}
    kept = call(campaign, "PUT", f"{GROUPS}/1", {"dealGroup": sent})
    assert (kept.status, kept.json.keys()) == (200, {"dealGroup"})
    assert "stages" not in kept.json["dealGroup"]
    assert {**kept.json["dealGroup"], **sent} == kept.json["dealGroup"]
    read = call(campaign, "GET", f"{GROUPS}/1").json["dealGroup"]
    assert (read["title"], read["currency"], read["cdate"]) == ("Renamed", "usd", group["cdate"])
    assert (read["autoassign"], read["allusers"], read["allgroups"]) == ("2", "1", "1")
    fallen = call(campaign, "PUT", f"{GROUPS}/1", {"dealGroup": {"title": "Again"}}).json["dealGroup"]
    assert (fallen["autoassign"], fallen["allusers"], fallen["allgroups"]) == ("1", "0", "0")


def test_lists_are_cut_filtered_and_ordered() -> None:
    with ActiveCampaignSimulator(total_as_text=False) as campaign:
        for number in range(105):
            campaign.seed(f"Pipeline {number}", ["One"])

        def titles(query: str) -> list[str]:
            answer = call(campaign, "GET", f"{GROUPS}?{query}").json
            groups = {group["id"]: group["title"] for group in answer["dealGroups"]}
            assert {stage["group"] for stage in answer["dealStages"]} == groups.keys()
            return list(groups.values())

        assert titles("") == [f"Pipeline {number}" for number in range(20)]
        assert titles("limit=2&offset=104") == ["Pipeline 104"]
        assert len(titles("limit=1000")) == 100
        assert titles("offset=105") == []
        assert titles("filters[title]=LINE%2010&limit=2") == ["Pipeline 10", "Pipeline 100"]
        assert titles("orders%5Btitle%5D=DESC&limit=1") == ["Pipeline 99"]
        assert call(campaign, "GET", f"{GROUPS}?filters[title]=10").json["meta"] == {"total": 6}
        for bad in ("limit=x", "limit=0", "offset=-1"):
            assert call(campaign, "GET", f"{STAGES}?{bad}").status == 400


def test_deleting_destroys_deals_and_leaves_stages_behind(campaign: ActiveCampaignSimulator) -> None:
    held = campaign.seed("Sales", [{"name": "One", "records": 2}, {"name": "Two", "records": 1}, "Three"])
    first, second, third = (stage["id"] for stage in held["stages"])
    other = campaign.seed("Other", [{"name": "Else", "records": 1}])
    group, path = f"filters[group]={held['id']}", f"{GROUPS}/{held['id']}"

    def deals(query: str) -> tuple[int, str]:
        answer = call(campaign, "GET", f"{DEALS}?{query}&limit=1").json
        return len(answer["deals"]), answer["meta"]["total"]

    assert deals(group) == (1, "3")
    assert [deals(f"filters[stage]={id_}") for id_ in (first, second, third)] == [(1, "2"), (1, "1"), (0, "0")]
    gone = call(campaign, "DELETE", f"{STAGES}/{first}")
    assert (gone.status, gone.body, deals(group)) == (200, b"{}", (1, "1"))
    campaign.occupy(second, 0)
    assert deals(group) == (0, "0")
    campaign.occupy(second, 4)
    assert call(campaign, "DELETE", path).status == 200
    assert [call(campaign, "GET", gone).status for gone in (path, f"{STAGES}/{first}")] == [404, 404]
    assert (deals(""), campaign.pipelines()) == ((1, "1"), [other])
    listed = call(campaign, "GET", STAGES).json
    assert [stage["title"] for stage in listed["dealStages"]] == ["Two", "Three", "Else"]
    assert call(campaign, "DELETE", f"{STAGES}/{other['stages'][0]['id']}").status == 200
    assert campaign.pipelines() == [{**other, "stages": []}]


# Stages


def test_a_new_stage_goes_to_the_end_and_shows_numbers_that_reads_show_as_texts(
    campaign: ActiveCampaignSimulator,
) -> None:
    create(campaign)
    created = create_stage(campaign, title="Talks", group="1")
    stage = created.json["dealStage"]
    assert (created.status, stage["id"], stage["order"], stage["width"]) == (201, "4", 4, 280)
    assert stage["links"] == {"group": f"{HOST}/api/3/dealStages/4/group"}
    read = call(campaign, "GET", f"{STAGES}/4").json["dealStage"]
    assert read == {**stage, "order": "4", "width": "280"}
    only = call(campaign, "GET", f"{STAGES}?filters[d_groupid]=1&filters[title]=talks").json
    assert only == {"dealStages": [read], "meta": {"total": "1"}}
    assert call(campaign, "GET", f"{STAGES}?filters[d_groupid]=2").json["dealStages"] == []


def test_equal_orders_are_allowed_and_reorder_puts_the_highest_id_first(campaign: ActiveCampaignSimulator) -> None:
    create(campaign)
    assert create_stage(campaign, title="Talks", group=1, order="1").json["dealStage"]["order"] == 1
    assert names(campaign) == ["To Contact", "Talks", "In Contact", "Follow Up"]
    assert create_stage(campaign, "?reorder=1", title="Won", group="1", order=2).json["dealStage"]["order"] == 3
    assert names(campaign) == ["Talks", "To Contact", "Won", "In Contact", "Follow Up"]
    assert [call(campaign, "GET", f"{STAGES}/{n}").json["dealStage"]["order"] for n in range(1, 6)] == [*"24513"]


def test_a_stage_is_renamed_ordered_and_moved_with_its_deals(campaign: ActiveCampaignSimulator) -> None:
    here, there = campaign.seed("Here", [{"name": "A", "records": 1}, "B"]), campaign.seed("There")
    path = f"{STAGES}/{here['stages'][0]['id']}"
    renamed = call(campaign, "PUT", path, {"dealStage": {"title": "Aye", "order": 9}})
    assert (renamed.status, renamed.json["dealStage"]["order"], renamed.json["dealStage"]["width"]) == (200, 9, "280")
    assert names(campaign) == ["B", "Aye"]
    assert call(campaign, "PUT", path, {"dealStage": {"group": there["id"]}}).json["dealStage"]["group"] == there["id"]
    assert (names(campaign), names(campaign, 1)) == (["B"], ["Aye"])
    assert call(campaign, "GET", f"{DEALS}?filters[group]={there['id']}").json["meta"] == {"total": "1"}


def test_all_deals_of_a_stage_move_within_their_pipeline(campaign: ActiveCampaignSimulator) -> None:
    here, there = campaign.seed("Here", [{"name": "A", "records": 2}, "B"]), campaign.seed("There", ["C"])
    source, target = (stage["id"] for stage in here["stages"])
    moved = call(campaign, "PUT", f"{STAGES}/{source}/deals", {"deal": {"stage": target}})
    assert (moved.status, [deal["stage"] for deal in moved.json["deals"]]) == (200, [target] * 2)
    assert call(campaign, "GET", f"{DEALS}?filters[stage]={source}").json["deals"] == []
    elsewhere = call(campaign, "PUT", f"{STAGES}/{target}/deals", {"deal": {"stage": there["stages"][0]["id"]}})
    assert refusal(elsewhere) == (422, "related_missing", "stage")
    assert refusal(call(campaign, "PUT", f"{STAGES}/{target}/deals", {"deal": {}})) == (422, "field_missing", "stage")


@pytest.mark.parametrize(("offset", "suffix"), [(-5, "-05:00"), (5.5, "+05:30"), (0, "+00:00")])
def test_times_have_the_accounts_offset_and_are_wrong_after_a_stages_deletion(offset: float, suffix: str) -> None:
    with ActiveCampaignSimulator(utc_offset=offset) as campaign:
        now = datetime(2026, 5, 28, 9, 5, 5, tzinfo=UTC)
        campaign.now = lambda: now  # type: ignore[method-assign]
        create(campaign)
        group = call(campaign, "GET", f"{GROUPS}/1").json["dealGroup"]
        assert group["cdate"] == group["udate"] == f"{now + timedelta(hours=offset):%Y-%m-%dT%H:%M:%S}{suffix}"
        call(campaign, "DELETE", f"{STAGES}/3")
        after = call(campaign, "GET", f"{GROUPS}/1").json
        assert after["dealGroup"]["cdate"] == group["cdate"]
        shown = [record["udate"] for record in (after["dealGroup"], *after["dealStages"])]
        assert shown == [f"2026-05-28T09:05:05{suffix}"] * 3


# Refusals


@pytest.mark.parametrize("header", [{"Api-Token": ""}, {"Api-Token": "x"}, {"Api-Token": "", "Authorization": KEY}])
def test_a_wrong_key_is_403(campaign: ActiveCampaignSimulator, header: dict[str, str]) -> None:
    answer = call(campaign, "POST", GROUPS, {"dealGroup": SALES}, headers=header)
    assert (answer.status, answer.json.keys()) == (403, {"message"})
    assert campaign.pipelines() == []


def test_a_key_may_come_in_the_query(campaign: ActiveCampaignSimulator) -> None:
    assert call(campaign, "GET", f"{GROUPS}?api_key={KEY}", headers={"Api-Token": ""}).status == 200


BAD: list[tuple[str, str, str, list[Any]]] = [
    ("dealGroup", "title", "field_missing", [None, "", " "]),
    ("dealGroup", "title", "field_invalid", [1, []]),
    ("dealGroup", "currency", "field_missing", [None, ""]),
    ("dealGroup", "currency", "field_invalid", ["USD", "xxx", "us", 1]),
    ("dealGroup", "autoassign", "field_invalid", [3, True, "x", None, -1]),
    ("dealGroup", "allgroups", "field_invalid", [2]),
    ("dealStage", "title", "field_missing", [None, ""]),
    ("dealStage", "group", "field_missing", [None, ""]),
    ("dealStage", "group", "related_missing", ["9", 9, True, []]),
    ("dealStage", "order", "field_invalid", ["x", 1.5, None]),
    ("dealStage", "color", "field_invalid", [7]),
]


@pytest.mark.parametrize(("kind", "field", "code", "values"), BAD)
def test_wrong_fields_are_422_and_change_nothing(
    campaign: ActiveCampaignSimulator, kind: str, field: str, code: str, values: list[Any]
) -> None:
    campaign.seed("Older", ["One"])
    before, path = campaign.snapshot(), f"/api/3/{kind}s"
    good = SALES if kind == "dealGroup" else {"title": "Two", "group": "1"}
    for value in values:
        assert refusal(call(campaign, "POST", path, {kind: {**good, field: value}})) == (422, code, field)
        assert refusal(call(campaign, "PUT", f"{path}/1", {kind: {field: value}})) == (422, code, field)
    assert refusal(call(campaign, "POST", path, good)) == (422, "field_missing", kind)
    for left_out in good:
        body = {kind: {key: value for key, value in good.items() if key != left_out}}
        assert refusal(call(campaign, "POST", path, body)) == (422, "field_missing", left_out)
    assert campaign.snapshot() == before
    assert call(campaign, "POST", path, {kind: {**good, "unknown": [1]}}).status == 201


NONE = "No Result found for {} with id {}"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        *((method, f"{GROUPS}/3", {}, 404, NONE.format("DealGroup", 3)) for method in ("GET", "PUT", "DELETE")),
        *((method, f"{STAGES}/x", {}, 404, NONE.format("DealStage", 0)) for method in ("GET", "PUT", "DELETE")),
        ("DELETE", f"{STAGES}/", None, 404, NONE.format("DealStage", 0)),
        ("POST", f"{GROUPS}/", {"dealGroup": SALES}, 404, NONE.format("DealGroup", 0)),
        ("PUT", f"{STAGES}/3/deals", {}, 404, NONE.format("DealStage", 3)),
        ("GET", f"{DEALS}/", None, 404, "Not Found"),
        ("GET", "/api/2/dealGroups", None, 404, "Not Found"),
        ("PATCH", GROUPS, {}, 405, "Method Not Allowed"),
    ],
)
def test_what_is_not_there_is_named(
    campaign: ActiveCampaignSimulator, method: str, path: str, body: Any, status: int, message: str
) -> None:
    answer = call(campaign, method, path, body)
    assert (answer.status, answer.json) == (status, {"message": message})


def test_a_body_must_be_a_json_object(campaign: ActiveCampaignSimulator) -> None:
    for body in (b"{", b"[]", b"null", None):
        assert call(campaign, "POST", GROUPS, body).status == 400
    assert call(campaign, "POST", GROUPS, {"dealGroup": SALES}, headers={"Content-Type": "text/plain"}).status == 415
    assert call(campaign, "GET", GROUPS, headers={"Content-Type": "application/json"}).json["meta"] == {"total": "0"}


def test_errors_have_no_common_form() -> None:
    seen = {}
    for form in ("bare", "text", "texts", "objects"):
        with ActiveCampaignSimulator(errors=form) as campaign:
            missing = call(campaign, "POST", GROUPS, {"dealGroup": {"currency": "usd"}})
            seen[form] = (missing.status, missing.json, call(campaign, "GET", f"{GROUPS}/3").json)
    untitled, unknown = "The title was not provided.", NONE.format("DealGroup", 3)
    assert seen["bare"] == (400, {}, {"message": unknown})
    assert seen["text"] == (422, {"errors": untitled}, {"errors": unknown})
    assert seen["texts"] == (422, {"errors": [untitled]}, {"errors": [unknown]})
    assert seen["objects"][2] == {"errors": [{"title": "Not Found", "detail": unknown, "status": 404}]}


# Worlds


def test_worlds_differ_in_what_a_reply_holds() -> None:
    shape: dict[str, Any] = {"created_status": 200, "delete_body": None, "sideload": False, "total_as_text": False}
    with ActiveCampaignSimulator(ready_made=False, **shape) as campaign:
        created = call(campaign, "POST", GROUPS, {"dealGroup": SALES})
        assert (created.status, created.json["dealStages"], created.json["dealGroup"]["stages"]) == (200, [], [])
        assert create_stage(campaign, title="One", group="1").status == 200
        listed = call(campaign, "GET", GROUPS).json
        assert (listed.keys(), listed["meta"]) == ({"dealGroups", "meta"}, {"total": 1})
        gone = call(campaign, "DELETE", f"{GROUPS}/1")
        assert (gone.status, gone.body) == (200, b"")
        assert create(campaign)["id"] == "2"


@pytest.mark.parametrize(("reused", "ids"), [(False, ["7", "8", "9"]), (True, ["1", "2", "3", "7", "8", "9"])])
def test_orphans_are_listed_and_may_come_back_with_their_pipelines_id(reused: bool, ids: list[str]) -> None:
    with ActiveCampaignSimulator(orphans=6, reused_ids=reused) as campaign:
        orphans = call(campaign, "GET", STAGES).json["dealStages"]
        assert [stage["group"] for stage in orphans] == [*"111222"]
        assert campaign.pipelines() == []
        group = create(campaign)
        assert (group["id"], sorted(group["stages"])) == ("1" if reused else "3", ids)


@pytest.mark.parametrize(("forbidden", "statuses"), [(True, [403, 403]), (("DELETE",), [200, 403])])
def test_a_key_may_lack_rights(forbidden: Any, statuses: list[int]) -> None:
    with ActiveCampaignSimulator(forbidden=forbidden) as campaign:
        held = campaign.seed("Sales")
        answers = [call(campaign, method, f"{GROUPS}/{held['id']}") for method in ("GET", "DELETE")]
        assert [answer.status for answer in answers] == statuses
        assert answers[1].json == {"message": "Forbidden"}
        assert campaign.pipelines() == [held]


def test_no_second_may_hold_more_than_five_requests() -> None:
    with ActiveCampaignSimulator(per_second=5) as campaign:
        times = [0.0, 0.5, 0.75, 0.75, 0.75, 0.75, 1.0, 1.75]
        campaign.clock = iter(times).__next__
        answers = [create_stage(campaign, title="One", group="1") for _ in times]
        assert [answer.status for answer in answers] == [422] * 5 + [429] * 2 + [422]
        assert [answer.headers["ratelimit-remaining"] for answer in answers] == [*"43210003"]
        assert [answer.headers.get("retry-after") for answer in answers] == [None] * 5 + ["1"] * 2 + [None]
        assert campaign.arrivals == times
        campaign.reset()
        campaign.clock = lambda: 9.0
        campaign.fault(Fault("rate_limit", retry_after=None))
        refused = call(campaign, "GET", GROUPS)
        assert (refused.status, refused.headers["ratelimit-limit"]) == (429, "5")
        assert "retry-after" not in refused.headers
        assert campaign.arrivals == [9.0]


def test_what_it_cannot_hold_cannot_be_seeded(campaign: ActiveCampaignSimulator) -> None:
    with pytest.raises(ValueError, match="no status"):
        campaign.seed("Sales", [{"name": "Won", "status": "won"}])
    with pytest.raises(ValueError, match="contact"):
        campaign.seed("Sales", entity="contact")
    assert campaign.pipelines("contact") == []
    held = campaign.seed("Sales", [{"name": "A", "remote": {"order": "2"}}, "B"], remote={"currency": "eur"})
    assert [stage["name"] for stage in held["stages"]] == ["A", "B"]
    assert campaign.snapshot()["dealGroups"][0]["currency"] == "eur"
