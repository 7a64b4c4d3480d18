"""The Kommo simulator answers as the documentation says, and refuses what Kommo refuses."""

from collections.abc import Iterator
from typing import Any

import pytest

from local.simulators.base import Fault
from local.simulators.kommo import KommoSimulator
from tests.local.client import Answer, call

BASE = "/api/v4/leads/pipelines"
LEADS = "/api/v4/leads"
PROBLEM = "application/problem+json"
STATUS = {"id", "name", "sort", "is_editable", "pipeline_id", "color", "type", "account_id", "_links"}
FIELDS = ("name", "sort", "is_main", "is_unsorted_on")
PIPELINE = {*FIELDS, "id", "is_archive", "account_id", "_links", "_embedded"}


@pytest.fixture
def kommo() -> Iterator[KommoSimulator]:
    with KommoSimulator() as simulator:
        yield simulator


def body(*statuses: dict[str, Any], **change: Any) -> dict[str, Any]:
    own = {"name": "Sales", "sort": 10, "is_main": False, "is_unsorted_on": False}
    return {**own, "_embedded": {"statuses": list(statuses)}, **change}


def problem(answer: Answer, status: int = 400) -> list[tuple[str, str, str]]:
    """The request id, code and path of each fault in a problem."""
    assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM)
    assert answer.json["status"] == status
    assert answer.json["title"]
    assert answer.json["detail"]
    assert answer.json["type"] == f"https://httpstatus.es/{status}"
    groups = answer.json.get("validation-errors", [])
    return [(group["request_id"], error["code"], error["path"]) for group in groups for error in group["errors"]]


def shown(statuses: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(status["name"], status["sort"]) for status in statuses]


def path(pipeline: dict[str, Any], stage: int | None = None) -> str:
    own = f"{BASE}/{pipeline['id']}"
    return own if stage is None else f"{own}/statuses/{pipeline['stages'][stage]['id'].split(':')[1]}"


def leads(kommo: KommoSimulator, stage_id: str) -> int:
    pipeline, status = stage_id.split(":")
    where = f"filter[statuses][0][pipeline_id]={pipeline}&filter[statuses][0][status_id]={status}"
    answer = call(kommo, "GET", f"{LEADS}?{where}")
    return len(answer.json["_embedded"]["leads"]) if answer.status == 200 else 0


# Who may call


@pytest.mark.parametrize("account", [KommoSimulator.demo_account, *KommoSimulator.accounts])
def test_kommo_takes_long_lived_and_access_tokens(kommo: KommoSimulator, account: dict[str, Any]) -> None:
    assert call(kommo, "GET", BASE, headers=kommo.authorization(account)).status == 204


@pytest.mark.parametrize("wrong", ["", "Bearer wrong", "Basic d3Jvbmc6", "kommo-demo-long-lived-token-6b3e"])
def test_kommo_refuses_a_wrong_credential(kommo: KommoSimulator, wrong: str) -> None:
    problem(call(kommo, "POST", BASE, [body()], headers={"Authorization": wrong}), 401)
    assert kommo.pipelines() == []


def test_kommo_lets_only_administrators_write_and_none_who_did_not_pay() -> None:
    with KommoSimulator(admin=False, empty_list="200") as kommo:
        empty = call(kommo, "GET", BASE)
        assert (empty.status, empty.json) == (200, {"_total_items": 0, "_embedded": {"pipelines": []}})
        planted = kommo.seed("Sales", ["New"])
        before = kommo.snapshot()
        for method, where in (("POST", BASE), ("PATCH", path(planted, 0)), ("DELETE", path(planted))):
            problem(call(kommo, method, where, {"name": "x"}), 403)
        assert kommo.snapshot() == before
    with KommoSimulator(paid=False) as kommo:
        problem(call(kommo, "GET", BASE), 402)


@pytest.mark.parametrize("world", [{"blocked": True}, {"rate_limit": 1, "blocks_after": 2}])
def test_kommo_says_in_plain_text_that_it_blocks(world: dict[str, Any]) -> None:
    with KommoSimulator(**world) as kommo:
        *before, last = (call(kommo, "GET", BASE) for _ in range(4))
        assert [answer.status for answer in before] == ([403] * 3 if "blocked" in world else [204, 429, 429])
        assert (last.status, last.headers["content-type"], last.body) == (403, "text/plain", b"403 Forbidden")
        kommo.reset()
        assert call(kommo, "GET", BASE).status == (403 if "blocked" in world else 204)


@pytest.mark.parametrize("where", ["body", "header", "neither"])
def test_kommo_says_how_long_to_wait_here_or_there_or_nowhere(where: str) -> None:
    with KommoSimulator(rate_limit=7, rate_window=1.0, retry_after_in=where) as kommo:
        kommo.clock = lambda: 5.0
        kinds = [call(kommo, "GET", BASE) for _ in range(8)]
        assert [answer.status for answer in kinds] == [204] * 7 + [429]
        kommo.fault(Fault("rate_limit", retry_after=1))
        for answer in (kinds[7], call(kommo, "GET", BASE)):
            assert answer.headers.get("retry-after") == ("1" if where == "header" else None)
            assert answer.headers["content-type"] == ("text/plain" if where == "neither" else PROBLEM)
            if where != "neither":
                assert answer.json.get("retry_after") == (1 if where == "body" else None)
        kommo.fault(Fault("rate_limit", retry_after=None))
        assert b"retry_after" not in call(kommo, "GET", BASE).body


def test_kommo_knows_no_other_path_or_method(kommo: KommoSimulator) -> None:
    planted = kommo.seed("Sales", ["New"])
    for where in (f"{BASE}/", f"{path(planted)}/", "/api/v2/pipelines", "/"):
        problem(call(kommo, "GET", where), 404)
    for method, where in (("PUT", BASE), ("PATCH", BASE), ("POST", path(planted)), ("PUT", path(planted, 0))):
        problem(call(kommo, method, where), 405)


# Pipelines


def test_kommo_creates_a_whole_pipeline_in_one_call_and_numbers_its_stages(kommo: KommoSimulator) -> None:
    late, early = {"name": "Late 🚀", "sort": 900, "color": "#fffeb2"}, {"name": "Early", "sort": 7}
    asked = body(late, {"id": 143, "name": "Gone", "sort": 1, "color": "red"}, early, request_id="mine", extra=1)
    answer = call(kommo, "POST", BASE, [asked, body(name="Other")])
    assert (answer.status, answer.headers["content-type"]) == (200, "application/hal+json")
    assert answer.json["_total_items"] == 2
    made, other = answer.json["_embedded"]["pipelines"]
    assert (made.pop("request_id"), other.pop("request_id")) == ("mine", "1")
    assert made.keys() == PIPELINE
    assert [made[key] for key in FIELDS] == [asked[key] for key in FIELDS]
    statuses = made["_embedded"]["statuses"]
    assert shown(statuses) == [("Early", 20), ("Late ", 30), ("Closed - won", 10000), ("Gone", 11000)]
    assert [(status["id"], status["is_editable"]) for status in statuses[2:]] == [(142, False), (143, False)]
    assert {frozenset(status) for status in statuses} == {frozenset(STATUS)}
    assert {status["pipeline_id"] for status in statuses} == {made["id"]}
    assert call(kommo, "GET", f"{BASE}/{made['id']}").json == made
    listed = call(kommo, "GET", BASE)
    assert (listed.status, listed.json) == (200, {"_total_items": 2, "_embedded": {"pipelines": [made, other]}})
    [first, _] = kommo.pipelines()
    fixed = [(stage["name"], stage["status"], stage.get("fixed")) for stage in first["stages"][1:]]
    assert fixed == [("Late ", "active", None), ("Closed - won", "won", True), ("Gone", "lost", True)]
    assert first["stages"][2]["id"] == f"{made['id']}:142"


def test_kommo_may_store_sorts_as_asked_and_leave_pipeline_ids_out() -> None:
    with KommoSimulator(renumbers=False, pipeline_id_in_statuses=False) as kommo:
        asked = body({"name": "B", "sort": 15}, {"name": "A", "sort": 5}, {"name": "C", "sort": 15})
        [made] = call(kommo, "POST", BASE, [asked]).json["_embedded"]["pipelines"]
        assert shown(made["_embedded"]["statuses"])[:3] == [("A", 5), ("B", 15), ("C", 15)]
        assert not any("pipeline_id" in status for status in made["_embedded"]["statuses"])
        listed = call(kommo, "GET", f"{BASE}/{made['id']}/statuses").json["_embedded"]["statuses"]
        assert all(status["pipeline_id"] == made["id"] for status in listed)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        *[({key: None}, ("InvalidType", key)) for key in FIELDS],
        ({"name": " "}, ("NotBlank", "name")),
        ({"sort": "10"}, ("InvalidType", "sort")),
        ({"sort": True}, ("InvalidType", "sort")),
        ({"is_main": 0}, ("InvalidType", "is_main")),
        ({"_embedded": []}, ("InvalidType", "_embedded.statuses")),
        ({"_embedded": {"statuses": {}}}, ("InvalidType", "_embedded.statuses")),
        (body({"name": "A"}), ("FieldMissing", "_embedded.statuses.0.sort")),
        (body({"sort": 1}), ("FieldMissing", "_embedded.statuses.0.name")),
        (body({"id": 142}), ("FieldMissing", "_embedded.statuses.0.name")),
        (body({"id": 7, "name": "A", "sort": 1}), ("NotSupportedChoice", "_embedded.statuses.0.id")),
        (body({"name": "A", "sort": 1, "color": "#99ccff"}), ("NotSupportedChoice", "_embedded.statuses.0.color")),
    ],
)
def test_kommo_refuses_a_wrong_pipeline_and_all_that_came_with_it(
    kommo: KommoSimulator, change: dict[str, Any], fault: tuple[str, str]
) -> None:
    assert problem(call(kommo, "POST", BASE, [body(), {**body(), **change}])) == [("1", *fault)]
    assert kommo.pipelines() == []


def test_kommo_names_every_missing_field(kommo: KommoSimulator) -> None:
    faults = problem(call(kommo, "POST", BASE, [{"request_id": "mine"}]))
    assert faults == [("mine", "FieldMissing", key) for key in FIELDS]


@pytest.mark.parametrize("wrong", [{}, [], ["x"], b"[", None, body()])
def test_kommo_wants_lists_to_create_and_objects_to_change(kommo: KommoSimulator, wrong: Any) -> None:
    planted = kommo.seed("Sales", ["New"])
    problem(call(kommo, "POST", BASE, wrong))
    problem(call(kommo, "POST", f"{path(planted)}/statuses", wrong))
    problem(call(kommo, "POST", BASE, [body()], headers={"Content-Type": "text/plain"}))
    for where in (path(planted), path(planted, 0)):
        problem(call(kommo, "PATCH", where, {"_embedded": {}} if isinstance(wrong, dict) else wrong))
        problem(call(kommo, "PATCH", where, [{"name": "x"}]))
        assert problem(call(kommo, "PATCH", where, {"name": 5})) == [("0", "InvalidType", "name")]
    assert kommo.pipelines() == [planted]


def test_kommo_holds_fifty_pipelines_of_a_hundred_stages(kommo: KommoSimulator) -> None:
    stages = [{"name": f"S{n}", "sort": n} for n in range(99)]
    problem(call(kommo, "POST", BASE, [body(*stages)]), 422)
    problem(call(kommo, "POST", BASE, [body(*stages[:98], is_unsorted_on=True)]), 422)
    [made] = call(kommo, "POST", BASE, [body(*stages[:98])]).json["_embedded"]["pipelines"]
    problem(call(kommo, "POST", f"{BASE}/{made['id']}/statuses", [stages[98]]), 422)
    assert call(kommo, "POST", BASE, [body()] * 49).status == 200
    problem(call(kommo, "POST", BASE, [body()]), 422)


def test_kommo_changes_a_pipelines_own_fields_and_leaves_its_stages_alone(kommo: KommoSimulator) -> None:
    old = kommo.seed("Old", ["New"], remote={"is_main": True})
    held = kommo.seed("Sales", ["New", {"name": "Odd", "remote": {"sort": 77}}])
    changed = call(kommo, "PATCH", path(held), {**body(name="Fresh", sort=1, is_main=True), "_embedded": 5})
    assert (changed.status, changed.json["name"], changed.json["request_id"]) == (200, "Fresh", "0")
    assert shown(changed.json["_embedded"]["statuses"])[:2] == [("New", 20), ("Odd", 77)]
    assert kommo.pipelines() == [{**held, "name": "Fresh"}, old]
    assert [each["is_main"] for each in kommo.snapshot()["pipelines"]] == [True, False]


def test_kommo_has_incoming_leads_while_they_are_on(kommo: KommoSimulator) -> None:
    held = kommo.seed("Sales", ["New"], remote={"is_unsorted_on": True})
    incoming = held["stages"][0]
    assert (incoming["name"], incoming["status"], incoming["fixed"]) == ("Incoming leads", "active", True)
    read = call(kommo, "GET", path(held, 0)).json
    assert (read["type"], read["sort"], read["is_editable"]) == (1, 10, False)
    problem(call(kommo, "DELETE", path(held, 0)), 404)
    problem(call(kommo, "PATCH", path(held, 0), {"name": "x"}))
    kommo.occupy(incoming["id"], 2)
    off = call(kommo, "PATCH", path(held), {"is_unsorted_on": False}).json["_embedded"]["statuses"]
    assert shown(off)[0] == ("New", 20)
    assert leads(kommo, held["stages"][1]["id"]) == 2
    on = call(kommo, "PATCH", path(held), {"is_unsorted_on": True}).json["_embedded"]["statuses"]
    assert shown(on)[:2] == [("Incoming leads", 10), ("New", 20)]


def test_kommo_deletes_a_pipeline_only_without_leads(kommo: KommoSimulator) -> None:
    held = kommo.seed("Sales", ["New", {"name": "Won", "status": "won", "records": 1}])
    problem(call(kommo, "DELETE", path(held)))
    assert kommo.pipelines() == [held]
    kommo.occupy(held["stages"][1]["id"], 0)
    gone = call(kommo, "DELETE", path(held))
    assert (gone.status, gone.body) == (204, b"")
    assert call(kommo, "GET", BASE).status == 204
    for method, where in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/statuses"), ("POST", "/statuses")):
        problem(call(kommo, method, path(held) + where, {"name": "x"}), 404)


def test_kommo_may_keep_the_last_pipeline() -> None:
    with KommoSimulator(keeps_last=True) as kommo:
        first, second = kommo.seed("First"), kommo.seed("Second")
        assert call(kommo, "DELETE", path(first)).status == 204
        problem(call(kommo, "DELETE", path(second)))


# Statuses


def test_kommo_adds_stages_where_their_sorts_put_them(kommo: KommoSimulator) -> None:
    held = kommo.seed("Sales", ["A", "B"])
    asked = [{"name": "Last", "sort": 200}, {"name": "Middle", "sort": 25, "color": "#d6eaff", "request_id": "mine"}]
    answer = call(kommo, "POST", f"{path(held)}/statuses", asked)
    assert (answer.status, answer.json["_total_items"]) == (200, 2)
    last, middle = answer.json["_embedded"]["statuses"]
    assert last.keys() == {*STATUS, "request_id"}
    assert (last["sort"], last["request_id"]) == (50, "0")
    assert (middle["sort"], middle["request_id"], middle["color"], middle["type"]) == (30, "mine", "#d6eaff", 0)
    read = call(kommo, "GET", f"{path(held)}/statuses").json
    assert read["_total_items"] == 6
    assert shown(read["_embedded"]["statuses"])[:4] == [("A", 20), ("Middle", 30), ("B", 40), ("Last", 50)]
    one = call(kommo, "GET", f"{path(held)}/statuses/{middle['id']}")
    assert one.json == {key: middle[key] for key in STATUS}


def test_kommo_numbers_anew_when_a_sort_changes_and_only_then(kommo: KommoSimulator) -> None:
    held = kommo.seed("Sales", ["A", {"name": "B", "remote": {"sort": 55}}, "C"])
    named = call(kommo, "PATCH", path(held, 0), {"name": "Aye 🎉", "color": "#eb93ff", "descriptions": []})
    assert (named.status, named.json["name"], named.json["color"], named.json["sort"]) == (200, "Aye ", "#eb93ff", 20)
    statuses = call(kommo, "GET", f"{path(held)}/statuses").json["_embedded"]["statuses"]
    assert shown(statuses)[:3] == [("Aye ", 20), ("C", 40), ("B", 55)]
    moved = call(kommo, "PATCH", path(held, 2), {"sort": 20})
    assert moved.json["sort"] == 30  # a tie: the older one stays in front
    assert [stage["name"] for stage in kommo.pipelines()[0]["stages"]][:3] == ["Aye ", "B", "C"]
    assert problem(call(kommo, "PATCH", path(held, 0), {"color": "#99CCFF"})) == [("0", "NotSupportedChoice", "color")]


def test_kommo_keeps_won_and_lost_in_every_pipeline(kommo: KommoSimulator) -> None:
    ends = [{"name": "Lost it", "status": "lost"}, {"name": "Got it", "status": "won"}]
    held, plain = kommo.seed("Sales", [*ends, "New"]), kommo.seed("Plain")
    seen = [[(stage["name"], stage["status"]) for stage in each["stages"]] for each in (held, plain)]
    assert seen[0] == [("New", "active"), ("Got it", "won"), ("Lost it", "lost")]
    assert seen[1] == [("Closed - won", "won"), ("Closed - lost", "lost")]
    for system in ("142", "143"):
        where = f"{path(held)}/statuses/{system}"
        problem(call(kommo, "DELETE", where), 404)
        problem(call(kommo, "PATCH", where, {"name": "Other"}))
    assert kommo.pipelines() == [held, plain]
    for status in ("won", "lost", "closed"):
        with pytest.raises(ValueError, match="one won and one lost"):
            kommo.seed("Wrong", [{"name": name, "status": status} for name in "AB"])
    with pytest.raises(ValueError, match="contact"):
        kommo.seed("Wrong", entity="contact")
    assert kommo.pipelines("contact") == []


def test_kommo_may_let_won_and_lost_be_renamed() -> None:
    with KommoSimulator(rename_system=True) as kommo:
        held = kommo.seed("Sales", ["New"])
        answer = call(kommo, "PATCH", path(held, 1), {"name": "Got it", "sort": 5, "color": "#fffeb2"})
        assert (answer.status, answer.json["name"]) == (200, "Got it")
        assert (answer.json["sort"], answer.json["color"]) == (10000, "#CCFF66")


def test_kommo_moves_the_leads_of_a_deleted_stage_to_the_first_without_a_word(kommo: KommoSimulator) -> None:
    held = kommo.seed("Sales", ["A", {"name": "B", "records": 2}, "C"])
    first, second, third = (stage["id"] for stage in held["stages"][:3])
    gone = call(kommo, "DELETE", path(held, 1))
    assert (gone.status, gone.body) == (204, b"")
    assert [leads(kommo, stage) for stage in (first, second, third)] == [2, 0, 0]
    assert shown(call(kommo, "GET", path(held)).json["_embedded"]["statuses"])[:2] == [("A", 20), ("C", 30)]
    for method in ("GET", "PATCH", "DELETE"):
        problem(call(kommo, method, path(held, 1), {"name": "x"}), 404)
    call(kommo, "DELETE", path(held, 0))
    assert leads(kommo, third) == 2


# Leads


def test_kommo_finds_leads_by_stage_and_by_pipeline(kommo: KommoSimulator) -> None:
    one = kommo.seed("One", [{"name": "New", "records": 3}, {"name": "Won", "status": "won", "records": 1}])
    two = kommo.seed("Two", ["New"])
    kommo.occupy(two["stages"][1]["id"], 2)
    found = call(kommo, "GET", f"{LEADS}?limit=1&filter[pipeline_id][0]={one['id']}")
    assert (found.status, found.json["_page"], found.headers["content-type"]) == (200, 1, "application/hal+json")
    [lead] = found.json["_embedded"]["leads"]
    assert f"{lead['pipeline_id']}:{lead['status_id']}" == one["stages"][0]["id"]
    counts = {
        "": 6,
        "filter[pipeline_id][]=0": 0,
        f"filter%5Bpipeline_id%5D={two['id']}": 2,
        f"filter[pipeline_id][0]={one['id']}&filter[pipeline_id][1]={two['id']}": 6,
        "filter[statuses][0][status_id]=142": 3,
        f"filter[statuses][0][pipeline_id]={two['id']}&filter[statuses][0][status_id]=142": 2,
        f"filter[statuses][][pipeline_id]={two['id']}&filter[statuses][][status_id]=142": 3,
        f"filter[statuses][0]={two['id']}&limit=4": 4,
        "limit=4&page=2": 2,
        "limit=4&page=3": 0,
    }
    for query, count in counts.items():
        answer = call(kommo, "GET", f"{LEADS}?{query}")
        assert answer.status == (200 if count else 204)
        assert not count or len(answer.json["_embedded"]["leads"]) == count
    for wrong in ("limit=251", "limit=0", "limit=x", "page=0"):
        problem(call(kommo, "GET", f"{LEADS}?{wrong}"))
