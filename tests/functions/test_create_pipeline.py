"""Every parameter and every field of creating a pipeline, over HTTP, for each provider."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import pytest

from local.simulators.base import Fault
from tests.conftest import CLOSE, HUBSPOT
from tests.functions.conftest import PIPELINE, STAGES, Place

UNIFIED = ["id", "name", "entity", "stages", "created_at", "updated_at"]
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z"


def _without(pipeline: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in pipeline.items() if key not in names}


# What arrives at the provider


def test_close_is_sent_exactly_its_own_request(close: Place) -> None:
    assert close.create().status == 200
    sent = close.sent
    assert (sent.method, sent.path, sent.raw_query) == ("POST", "/api/v1/pipeline/", "")
    key = close.simulator.demo_account["credentials"]["api_key"]
    assert sent.headers == {
        "host": close.simulator.url.removeprefix("http://"),
        "authorization": "Basic " + b64encode(f"{key}:".encode()).decode(),
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "unified-crm",
        "content-type": "application/json",
        "content-length": str(len(sent.body)),
    }
    assert sent.json == {
        "name": "Sales",
        "statuses": [
            {"label": "Qualified", "type": "active"},
            {"label": "Signed", "type": "won"},
            {"label": "Gone", "type": "lost"},
        ],
    }


def test_hubspot_is_sent_exactly_its_own_request(hubspot: Place) -> None:
    assert hubspot.create().status == 200
    sent = hubspot.sent
    assert (sent.method, sent.path, sent.raw_query) == ("POST", "/crm/v3/pipelines/deals", "")
    assert sent.headers["authorization"] == f"Bearer {hubspot.simulator.demo_account['credentials']['token']}"
    assert sent.headers["content-type"] == sent.headers["accept"] == "application/json"
    assert sent.json == {
        "label": "Sales",
        "displayOrder": 0,
        "stages": [
            {"label": "Qualified", "displayOrder": 0, "metadata": {"probability": "0.5"}},
            {"label": "Signed", "displayOrder": 1, "metadata": {"probability": "1.0"}},
            {"label": "Gone", "displayOrder": 2, "metadata": {"probability": "0.0"}},
        ],
    }


def test_close_that_ignores_inline_statuses_is_sent_one_call_for_each(
    close: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(close.simulator.world, "inline_statuses", False)
    answer = close.create()
    assert answer.status == 200
    id_ = answer.json["id"]
    assert [(each.method, each.path) for each in close.simulator.received] == [
        ("POST", "/api/v1/pipeline/"),
        *[("POST", "/api/v1/status/opportunity/")] * 3,
        ("GET", f"/api/v1/pipeline/{id_}/"),
    ]
    assert [each.json for each in close.simulator.received[1:4]] == [
        {"label": "Qualified", "type": "active", "pipeline_id": id_},
        {"label": "Signed", "type": "won", "pipeline_id": id_},
        {"label": "Gone", "type": "lost", "pipeline_id": id_},
    ]
    assert answer.json["remote_data"] == close.simulator.snapshot()["pipelines"][0]


@pytest.mark.parametrize("index", [0, 1])
def test_oauth_accounts_send_a_bearer_token(place: Place, index: int, running_world: Any) -> None:
    secret = (place.simulator.demo_account, *place.simulator.accounts)[index]
    account = f"0b0e5a6c-0000-4000-8000-00000000000{index}"
    running_world.add_account(account, secret)
    assert place.http.create(account, PIPELINE).status == 200
    credentials = secret["credentials"]
    if credentials["type"] != "api_key":
        token = credentials.get("token") or credentials["access_token"]
        assert place.sent.headers["authorization"] == f"Bearer {token}"


# What comes back


def test_the_answer_is_the_unified_pipeline_with_the_providers_reply(place: Place) -> None:
    answer = place.create()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["truto-outcome"] == "created"
    pipeline = answer.json
    (held,) = place.simulator.pipelines()
    assert list(pipeline) == [*UNIFIED, "remote_data", "truto_outcome"]
    assert (pipeline["id"], pipeline["name"], pipeline["entity"]) == (held["id"], "Sales", "opportunity")
    assert pipeline["truto_outcome"] == "created"
    assert [_without(stage, "created_at", "updated_at") for stage in pipeline["stages"]] == [
        {**stage, "position": index, "pipeline": {"id": held["id"]}} for index, stage in enumerate(held["stages"])
    ]


def test_every_field_of_the_reply_reaches_the_caller(place: Place) -> None:
    pipeline = place.create().json
    held = place.simulator.snapshot()["pipelines"]
    (stored,) = held if place.name == "close" else held["deals"]
    assert pipeline["remote_data"] == stored


def test_times_are_rfc_3339_in_utc(place: Place) -> None:
    pipeline = place.create().json
    times = [pipeline["created_at"], pipeline["updated_at"]]
    if place.name == "hubspot":
        times += [stage[key] for stage in pipeline["stages"] for key in ("created_at", "updated_at")]
    assert all(re.fullmatch(TIME, time) for time in times), times


@pytest.mark.parametrize("order", [[2, 0, 1], [9, 5, 7]])
def test_hubspots_stages_come_back_in_their_order_whatever_theirs_is(hubspot: Place, order: list[int]) -> None:
    stages = [
        {"name": f"S{each}", "remote_data": {"displayOrder": each, "metadata": {"probability": "0.5"}}}
        for each in order
    ]
    pipeline = hubspot.create({"name": "Sales", "stages": stages}).json
    assert [(stage["name"], stage["position"]) for stage in pipeline["stages"]] == [
        (f"S{each}", index) for index, each in enumerate(sorted(order))
    ]


# truto_response_format


def test_the_unified_format_is_the_default(place: Place) -> None:
    plain = place.create().json
    place.simulator.reset()
    unified = place.create(query="&truto_response_format=unified").json
    assert list(unified) == list(plain)


def test_raw_is_the_providers_reply_as_it_came(place: Place) -> None:
    answer = place.create(query="&truto_response_format=raw")
    held = place.simulator.snapshot()["pipelines"]
    assert answer.json == (held if place.name == "close" else held["deals"])[0]
    assert answer.headers["truto-outcome"] == "created"


@pytest.mark.parametrize("more", ["&truto_ignore_remote_data=true", "&truto_exclude_fields=id,name,label", ""])
def test_nothing_touches_raw(place: Place, more: str) -> None:
    raw = place.create(query=f"&truto_response_format=raw{more}").json
    assert {"id", place.wire["name"], place.wire["stages"]} <= raw.keys()
    assert "truto_outcome" not in raw


def test_raw_of_several_calls_shows_what_stands_there(close: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(close.simulator.world, "inline_statuses", False)
    raw = close.create(query="&truto_response_format=raw").json
    assert raw == close.simulator.snapshot()["pipelines"][0]
    assert len(raw["statuses"]) == 3


def test_raw_of_several_calls_shows_the_pipeline_even_if_the_last_read_fails(
    close: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(close.simulator.world, "inline_statuses", False)
    close.simulator.fault(Fault("status", method="GET", status=500))
    answer = close.create(query="&truto_response_format=raw")
    (held,) = close.simulator.pipelines()
    assert answer.status == 200
    assert answer.json["id"] == held["id"]


def test_normalized_has_every_field_and_null_where_the_provider_has_none(place: Place) -> None:
    answer = place.create(query="&truto_response_format=normalized")
    assert list(answer.json) == UNIFIED
    assert answer.headers["truto-outcome"] == "created"
    for stage in answer.json["stages"]:
        assert list(stage) == ["id", "name", "position", "status", "pipeline", "created_at", "updated_at"]
        assert (stage["created_at"] is None) is (place.name == "close")


@pytest.mark.parametrize("value", ["", "Unified", "json", "unified,raw", "unified%20"])
def test_another_format_is_refused_by_name(place: Place, value: str) -> None:
    answer = place.create(query=f"&truto_response_format={value}")
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert answer.json["message"].startswith("truto_response_format must be one of unified, raw, normalized")
    assert place.simulator.received == []


# truto_ignore_remote_data


@pytest.mark.parametrize(("value", "shown"), [("true", False), ("1", False), ("false", True), ("0", True)])
def test_remote_data_can_be_left_out(place: Place, value: str, shown: bool) -> None:
    pipeline = place.create(query=f"&truto_ignore_remote_data={value}").json
    assert ("remote_data" in pipeline) is shown
    assert list(_without(pipeline, "remote_data")) == [*UNIFIED, "truto_outcome"]


@pytest.mark.parametrize("value", ["", "yes", "TRUE", "2"])
def test_what_is_no_boolean_is_refused_by_name(place: Place, value: str) -> None:
    answer = place.create(query=f"&truto_ignore_remote_data={value}")
    assert answer.status == 400
    assert "truto_ignore_remote_data" in answer.json["message"]


# truto_exclude_fields


@pytest.mark.parametrize(
    "query",
    [
        "truto_exclude_fields[]=id&truto_exclude_fields[]=name&truto_exclude_fields[]=remote_data",
        "truto_exclude_fields%5B%5D=id&truto_exclude_fields%5B%5D=name&truto_exclude_fields%5B%5D=remote_data",
        "truto_exclude_fields[0]=id&truto_exclude_fields[1]=name&truto_exclude_fields[2]=remote_data",
        "truto_exclude_fields%5B2%5D=id&truto_exclude_fields%5B0%5D=name&truto_exclude_fields%5B1%5D=remote_data",
        "truto_exclude_fields=id,name,remote_data",
        "truto_exclude_fields=id%2Cname%2C%20remote_data,",
        "truto_exclude_fields=id&truto_exclude_fields=name&truto_exclude_fields=remote_data",
        "truto_exclude_fields[]=no_such_field&truto_exclude_fields=id,name&truto_exclude_fields[7]=remote_data",
    ],
)
def test_fields_can_be_left_out_in_every_spelling(place: Place, query: str) -> None:
    answer = place.create(query="&" + query)
    assert list(answer.json) == ["entity", "stages", "created_at", "updated_at", "truto_outcome"]


@pytest.mark.parametrize("format_", ["unified", "normalized"])
def test_only_top_level_fields_are_left_out(place: Place, format_: str) -> None:
    pipeline = place.create(query=f"&truto_exclude_fields=status,id,stages.name&truto_response_format={format_}").json
    assert "id" not in pipeline
    assert all({"id", "name", "status"} <= stage.keys() for stage in pipeline["stages"])


@pytest.mark.parametrize("query", ["truto_exclude_fields=", "truto_exclude_fields=nothing,like,this"])
def test_leaving_out_what_does_not_exist_is_no_error(place: Place, query: str) -> None:
    assert list(place.create(query="&" + query).json) == [*UNIFIED, "remote_data", "truto_outcome"]


@pytest.mark.parametrize("query", ["truto_exclude_fields[a]=id", "truto_exclude_fields[][]=id"])
def test_an_object_of_fields_is_refused_by_name(place: Place, query: str) -> None:
    answer = place.create(query="&" + query)
    assert answer.status == 400
    assert answer.json["message"].startswith("truto_exclude_fields")


# remote_query


@pytest.mark.parametrize("encoded", [False, True])
def test_remote_query_goes_to_the_main_call_untouched(place: Place, encoded: bool, monkeypatch: Any) -> None:
    if place.name == "close":
        monkeypatch.setitem(place.simulator.world, "inline_statuses", False)
    pairs = [("foo", "bar"), ("a[b][]", "c d"), ("a[b][]", "é&="), ("list[0]", "x"), ("empty", ""), ("_limit", "5")]
    keys = [key.partition("[") for key, _ in pairs]
    raw = [
        f"remote_query[{name}]{mark}{rest}={quote(value)}"
        for (name, mark, rest), (_, value) in zip(keys, pairs, strict=True)
    ]
    query = "&".join(raw)
    if encoded:
        query = query.replace("[", "%5B").replace("]", "%5D").replace("%20", "+")
    assert place.create(query="&" + query).status == 200
    main, *others = place.simulator.received
    assert main.query == pairs
    assert all(each.query == [] for each in others)


@pytest.mark.parametrize(
    "query", ["remote_query=x", "remote_query[]=x", "remote_query[a=x", "remote_query[a]=x%0D%0AHost:%20evil"]
)
def test_a_malformed_remote_query_is_refused_by_name(place: Place, query: str) -> None:
    answer = place.create(query="&" + query)
    assert answer.status == 400
    assert answer.json["message"].startswith("remote_query")
    assert place.simulator.received == []


@pytest.mark.parametrize("key", ["hapikey", "HAPIKEY", "hapikey][", "hapikey][a"])
def test_a_credential_in_remote_query_is_refused(hubspot: Place, key: str) -> None:
    answer = hubspot.create(query=f"&remote_query[{key}]=x")
    assert answer.status == 400
    assert "credential" in answer.json["message"]
    assert hubspot.simulator.received == []


@pytest.mark.parametrize(
    "query", ["host=evil.example", "remote_query[host]=evil.example", "base_url=http://evil.example"]
)
def test_no_parameter_chooses_a_host(place: Place, query: str) -> None:
    assert place.create(query="&" + query).status == 200
    assert place.sent.headers["host"] == place.simulator.url.removeprefix("http://")


# entity


@pytest.mark.parametrize("body", [{}, {"entity": None}, {"entity": "opportunity"}])
@pytest.mark.parametrize("query", ["", "&entity=opportunity"])
def test_the_entity_is_an_opportunity_by_default_and_may_be_said_twice(
    place: Place, body: dict[str, Any], query: str
) -> None:
    answer = place.create({**PIPELINE, **body}, query)
    assert (answer.status, answer.json["entity"]) == (200, "opportunity")
    assert place.sent.path == place.wire["path"]


@pytest.mark.parametrize(
    ("entity", "object_type", "read"),
    [
        ("opportunity", "deals", "opportunity"),
        ("contact", "contacts", "contact"),
        ("account", "companies", "account"),
        ("deals", "deals", "opportunity"),
        ("tickets", "tickets", "tickets"),
        ("leads", "leads", "leads"),
        ("orders", "orders", "orders"),
        ("2-1234567", "2-1234567", "2-1234567"),
        ("p_boats", "p_boats", "p_boats"),
        ("p12_big boats", "p12_big%20boats", "p12_big boats"),
    ],
)
@pytest.mark.parametrize("where", ["query", "body"])
def test_hubspot_has_pipelines_for_every_object_type(
    hubspot: Place, entity: str, object_type: str, read: str, where: str
) -> None:
    body: dict[str, Any] = {"name": "Sales", "stages": [{"name": "One", "status": "active"}]}
    if entity == "tickets":
        body["stages"].append({"name": "Done", "status": "closed"})
    if where == "query":
        answer = hubspot.create(body, f"&entity={quote(entity)}")
    else:
        answer = hubspot.create({**body, "entity": entity})
    assert hubspot.sent.path == f"/crm/v3/pipelines/{object_type}"
    if " " not in entity:
        assert (answer.status, answer.json["entity"]) == (200, read)


@pytest.mark.parametrize("entity", ["contact", "account", "tickets", "2-1234567"])
def test_close_has_pipelines_for_opportunities_only(close: Place, entity: str) -> None:
    answer = close.create(query=f"&entity={entity}")
    assert (answer.status, answer.json["code"]) == (400, "unsupported")
    assert answer.json["message"].startswith("entity: Close ")
    assert close.simulator.received == []


def test_an_entity_that_cannot_be_expressed_may_be_left_out(close: Place) -> None:
    answer = close.create({**PIPELINE, "entity": "contact"}, "&truto_unsupported=skip")
    assert (answer.status, answer.json["entity"]) == (200, "opportunity")
    assert [each["field"] for each in answer.json["truto_warnings"]] == ["entity"]


def test_entities_in_query_and_body_must_be_equal(place: Place) -> None:
    answer = place.create({**PIPELINE, "entity": "opportunity"}, "&entity=contact")
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert "'contact'" in answer.json["message"]
    assert "'opportunity'" in answer.json["message"]
    assert place.simulator.received == []


@pytest.mark.parametrize(
    "entity",
    ["", ".", "..", "a/b", "../deals", "a?b", "a#b", "a\\b", "%2e%2e", "a%2Fb", "%", "a\nb", "\x00", "\x7f"],
)
@pytest.mark.parametrize("where", ["query", "body"])
def test_an_entity_that_is_no_path_segment_is_refused(place: Place, entity: str, where: str) -> None:
    if where == "query":
        answer = place.create(query=f"&entity={quote(entity, safe='')}")
    else:
        answer = place.create({**PIPELINE, "entity": entity})
    if entity == "%":  # a segment, if an odd one
        assert answer.status == 400
        return
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert answer.json["message"].startswith("entity")
    assert place.simulator.received == []


# truto_unsupported


def test_what_the_provider_cannot_express_is_refused_by_default(place: Place) -> None:
    body = {"name": "Sales", "stages": [*STAGES, {"name": "Over", "status": "closed"}]}
    for query in ("", "&truto_unsupported=fail"):
        answer = place.create(body, query)
        assert (answer.status, answer.json["code"]) == (400, "unsupported")
        assert answer.json["message"].startswith("stages[3].status: ")
        assert {"close": "Close", "hubspot": "HubSpot"}[place.name] in answer.json["message"]
    assert place.simulator.received == []


@pytest.mark.parametrize("format_", ["unified", "normalized"])
def test_what_the_provider_cannot_express_may_be_left_out_with_a_warning(place: Place, format_: str) -> None:
    body = {"name": "Sales", "stages": [*STAGES, {"name": "Over", "status": "closed"}]}
    answer = place.create(body, f"&truto_unsupported=skip&truto_response_format={format_}")
    assert answer.status == 200
    (warning,) = answer.json["truto_warnings"]
    assert warning["field"] == "stages[3].status"
    assert "left out" in warning["message"]
    assert answer.json["stages"][3]["name"] == "Over"


def test_without_a_warning_there_is_no_list_of_them(place: Place) -> None:
    assert "truto_warnings" not in place.create(query="&truto_unsupported=skip").json


def test_what_is_required_is_never_skipped(place: Place) -> None:
    answer = place.create({"stages": STAGES}, "&truto_unsupported=skip")
    assert answer.status == 400
    assert answer.json["truto_error_insight"]["missing_required_body_fields"]["value"] == ["name"]


@pytest.mark.parametrize("value", ["", "ignore", "Skip"])
def test_another_way_with_the_unsupported_is_refused_by_name(place: Place, value: str) -> None:
    answer = place.create(query=f"&truto_unsupported={value}")
    assert answer.status == 400
    assert "truto_unsupported" in answer.json["message"]


# name


@pytest.mark.parametrize("name", ["Sales", "Ventes à l'étranger", "販売 😀", 'a "quoted" \\ name', " spaced "])
def test_a_name_arrives_as_it_was_written(place: Place, name: str) -> None:
    answer = place.create({**PIPELINE, "name": name})
    assert (answer.status, answer.json["name"]) == (200, name)
    assert place.sent.json[place.wire["name"]] == name


@pytest.mark.parametrize("body", [{"stages": STAGES}, {"name": None, "stages": STAGES}])
def test_a_name_is_required(place: Place, body: dict[str, Any]) -> None:
    answer = place.create(body)
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert answer.json["message"].startswith("name is required by ")
    assert answer.json["truto_error_insight"]["missing_required_body_fields"]["value"] == ["name"]
    assert place.simulator.received == []


def test_a_name_that_the_provider_might_refuse_is_left_to_it(place: Place) -> None:
    answer = place.create({**PIPELINE, "name": " "})
    assert (answer.status, answer.json["truto_is_remote_error"]) == (400, True)
    assert len(place.simulator.received) == 1


# stages


@pytest.mark.parametrize("status", ["active", "won", "lost", None])
def test_a_stage_of_each_status_reads_as_it_was_written(place: Place, status: str | None) -> None:
    stage = {"name": "One"} if status is None else {"name": "One", "status": status}
    answer = place.create({"name": "Sales", "stages": [stage]})
    assert [(each["name"], each["status"]) for each in answer.json["stages"]] == [("One", status or "active")]
    remote = place.sent.json[place.wire["stages"]][0]
    if place.name == "close":
        assert remote == {"label": "One", "type": status or "active"}
    else:
        probability = {"won": "1.0", "lost": "0.0"}.get(status or "", "0.5")
        assert remote == {"label": "One", "displayOrder": 0, "metadata": {"probability": probability}}


@pytest.mark.parametrize(
    ("status", "state", "read"),
    [
        ("active", "OPEN", "active"),
        ("closed", "CLOSED", "closed"),
        ("won", "CLOSED", "closed"),
        ("lost", "CLOSED", "closed"),
    ],
)
def test_a_ticket_is_open_or_closed(hubspot: Place, status: str, state: str, read: str) -> None:
    stages = [{"name": "One", "status": status}, {"name": "Done", "status": "closed"}]
    answer = hubspot.create({"name": "Help", "stages": stages, "entity": "tickets"})
    assert hubspot.sent.json["stages"][0]["metadata"] == {"ticketState": state}
    assert [stage["status"] for stage in answer.json["stages"]] == [read, "closed"]


@pytest.mark.parametrize("entity", ["contact", "2-1234567"])
def test_the_stage_of_an_object_without_states_has_none(hubspot: Place, entity: str) -> None:
    body = {"name": "Life", "stages": [{"name": "Lead"}, {"name": "Customer", "status": "active"}], "entity": entity}
    answer = hubspot.create(body)
    assert [stage["metadata"] for stage in hubspot.sent.json["stages"]] == [{}, {}]
    assert [stage["status"] for stage in answer.json["stages"]] == [None, None]


@pytest.mark.parametrize("status", ["won", "lost", "closed"])
def test_an_object_without_states_cannot_be_told_one(hubspot: Place, status: str) -> None:
    answer = hubspot.create({"name": "Life", "stages": [{"name": "Lead", "status": status}]}, "&entity=contact")
    assert (answer.status, answer.json["code"]) == (400, "unsupported")
    assert answer.json["message"].startswith("stages[0].status: HubSpot cannot express")


@pytest.mark.parametrize(
    ("count", "probabilities"),
    [
        (1, ["0.5"]),
        (2, ["0.3", "0.7"]),
        (3, ["0.2", "0.5", "0.8"]),
        (4, ["0.2", "0.4", "0.6", "0.8"]),
        (9, ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"]),
    ],
)
def test_probabilities_of_active_stages_are_spread(hubspot: Place, count: int, probabilities: list[str]) -> None:
    stages = [{"name": f"S{index}"} for index in range(count)]
    hubspot.create({"name": "Sales", "stages": [{"name": "Lost", "status": "lost"}, *stages, STAGES[1]]})
    sent = [stage["metadata"]["probability"] for stage in hubspot.sent.json["stages"]]
    assert sent == ["0.0", *probabilities, "1.0"]


@pytest.mark.parametrize("count", [10, 25, 100])
def test_probabilities_never_fall_and_stay_strictly_between(hubspot: Place, count: int) -> None:
    hubspot.create({"name": "Sales", "stages": [{"name": f"S{index}"} for index in range(count)]})
    sent = [float(stage["metadata"]["probability"]) for stage in hubspot.sent.json["stages"]]
    assert sent == sorted(sent)
    assert (min(sent), max(sent)) == (0.1, 0.9)


def test_the_place_in_the_list_is_hubspots_display_order(hubspot: Place) -> None:
    hubspot.create({"name": "Sales", "stages": [{"name": f"S{index}"} for index in range(12)]})
    assert [stage["displayOrder"] for stage in hubspot.sent.json["stages"]] == list(range(12))


@pytest.mark.parametrize(
    "body", [{"name": "Sales"}, {"name": "Sales", "stages": []}, {"name": "Sales", "stages": None}]
)
def test_a_pipeline_without_stages_is_closes_business_and_not_hubspots(place: Place, body: dict[str, Any]) -> None:
    answer = place.create(body)
    if place.name == "close":
        assert (answer.status, answer.json["stages"]) == (200, [])
    else:
        assert (answer.status, place.simulator.received) == (400, [])
        assert answer.json["truto_error_insight"]["missing_required_body_fields"]["value"] == ["stages"]


def test_a_stages_name_is_required_and_its_place_told(place: Place) -> None:
    answer = place.create({"stages": [{"name": "One"}, {}, {"status": "won"}]})
    assert answer.status == 400
    assert set(answer.json["truto_error_insight"]["missing_required_body_fields"]["value"]) == {
        "name",
        "stages[1].name",
        "stages[2].name",
    }
    assert place.simulator.received == []


def test_two_stages_of_one_name_are_left_to_the_provider(place: Place) -> None:
    answer = place.create({"name": "Sales", "stages": [{"name": "One"}, {"name": "One"}]})
    if place.name == "close":
        assert [stage["name"] for stage in answer.json["stages"]] == ["One", "One"]
    else:
        assert (answer.status, answer.json["code"]) == (400, "duplicate")


# remote_data


def test_remote_data_is_merged_into_the_providers_body_last(place: Place) -> None:
    name, extra = place.wire["name"], {"x": {"deep": [1, {"y": None}]}, "n": 1.5}
    answer = place.create({**PIPELINE, "remote_data": {name: "Theirs", **extra}})
    assert (answer.status, answer.json["name"]) == (200, "Theirs")
    assert place.sent.json.items() >= {name: "Theirs", **extra}.items()
    assert len(place.sent.json[place.wire["stages"]]) == 3


@pytest.mark.parametrize("inline", [True, False])
def test_a_list_in_remote_data_replaces_ours(place: Place, inline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if place.name == "close":
        monkeypatch.setitem(place.simulator.world, "inline_statuses", inline)
        own: list[dict[str, Any]] = [{"label": "Theirs", "type": "won"}]
    else:
        own = [{"label": "Theirs", "displayOrder": 0, "metadata": {"probability": "1.0"}}]
    answer = place.create({**PIPELINE, "remote_data": {place.wire["stages"]: own}})
    (held,) = place.simulator.pipelines()
    assert answer.status == 200
    assert place.simulator.received[0].json[place.wire["stages"]] == own
    assert [(stage["name"], stage["status"]) for stage in held["stages"]] == [("Theirs", "won")]
    assert [stage["name"] for stage in answer.json["stages"]] == ["Theirs"]


def test_remote_data_may_stand_for_what_is_required(place: Place) -> None:
    answer = place.create({"stages": STAGES, "remote_data": {place.wire["name"]: "Theirs"}})
    assert (answer.status, answer.json["name"]) == (200, "Theirs")


@pytest.mark.parametrize("value", [None, {}])
def test_empty_remote_data_changes_nothing(place: Place, value: Any) -> None:
    assert place.create({**PIPELINE, "remote_data": value}).status == 200
    assert place.sent.json.keys() <= {"name", "statuses", "label", "displayOrder", "stages"}


def test_remote_data_sets_no_header(place: Place) -> None:
    body = {**PIPELINE, "remote_data": {"headers": {"authorization": "Bearer other"}, "authorization": "Bearer other"}}
    place.create(body)
    assert "other" not in str(place.sent.headers)


def test_hubspots_display_order_is_zero_unless_remote_data_says_otherwise(hubspot: Place) -> None:
    hubspot.create({**PIPELINE, "remote_data": {"displayOrder": 7, "pipelineId": "mine"}})
    assert (hubspot.sent.json["displayOrder"], hubspot.sent.json["pipelineId"]) == (7, "mine")


def test_a_stages_remote_data_is_merged_into_that_stage(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    if place.name == "close":
        monkeypatch.setitem(place.simulator.world, "inline_statuses", True)
    stages = [{"name": "One", "remote_data": {"extra": {"x": [1]}}}, {"name": "Two"}]
    assert place.create({"name": "Sales", "stages": stages}).status == 200
    first, second = place.sent.json[place.wire["stages"]]
    assert (first["extra"], "extra" in second) == ({"x": [1]}, False)


def test_a_stages_remote_data_reaches_close_call_by_call(close: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(close.simulator.world, "inline_statuses", False)
    close.create({"name": "Sales", "stages": [{"name": "One", "remote_data": {"extra": 1, "label": "Theirs"}}]})
    assert close.simulator.received[1].json.items() >= {"extra": 1, "label": "Theirs", "type": "active"}.items()


@pytest.mark.parametrize(
    ("remote", "sent", "status"),
    [
        ({"metadata": {"probability": "0.35"}}, {"probability": "0.35"}, "active"),
        ({"metadata": {"probability": 0.35}}, {"probability": 0.35}, "active"),
        ({"metadata": {"probability": "1.0"}}, {"probability": "1.0"}, "won"),
        ({"metadata": {"probability": "0"}}, {"probability": "0"}, "lost"),
        ({"metadata": {"isClosed": "false"}}, {"probability": "0.5", "isClosed": "false"}, "active"),
    ],
)
def test_a_hubspot_stage_gets_its_exact_metadata(
    hubspot: Place, remote: dict[str, Any], sent: dict[str, Any], status: str
) -> None:
    answer = hubspot.create({"name": "Sales", "stages": [{"name": "One", "remote_data": remote}]})
    assert hubspot.sent.json["stages"][0]["metadata"] == sent
    assert answer.json["stages"][0]["status"] == status


def test_a_stage_with_its_own_probability_bounds_the_spread(hubspot: Place) -> None:
    own = {"name": "Own", "status": "active", "remote_data": {"metadata": {"probability": "0.9"}}}
    hubspot.create({"name": "Sales", "stages": [{"name": "One"}, {"name": "Two"}, own]})
    sent = [stage["metadata"]["probability"] for stage in hubspot.sent.json["stages"]]
    assert sent == ["0.3", "0.6", "0.9"]


def test_a_won_stage_with_a_probability_of_its_own_keeps_it(hubspot: Place) -> None:
    stage = {"name": "One", "status": "won", "remote_data": {"metadata": {"probability": "0.99"}}}
    answer = hubspot.create({"name": "Sales", "stages": [stage]})
    assert hubspot.sent.json["stages"][0]["metadata"] == {"probability": "0.99"}
    assert answer.json["stages"][0]["status"] == "active", "the answer is what stands there"


# An answer that was lost


def test_an_adopted_pipeline_says_so_in_every_format(place: Place) -> None:
    for format_ in ("unified", "normalized", "raw"):
        place.simulator.reset()
        place.simulator.fault(Fault("html", after=True))
        answer = place.create(query=f"&truto_response_format={format_}")
        assert (answer.status, answer.headers["truto-outcome"]) == (200, "adopted")
        assert answer.json.get("truto_outcome") == ("adopted" if format_ == "unified" else None)
        assert len(place.simulator.pipelines()) == 1


# integrated_account_id


@pytest.mark.parametrize(("account", "path"), [(CLOSE, "/api/v1/"), (HUBSPOT, "/crm/v3/")])
def test_the_account_decides_the_provider(close: Place, hubspot: Place, account: str, path: str) -> None:
    for spelling in (account, account.upper()):
        close.http.create(spelling, {**PIPELINE, "name": spelling})
    paths = [each.path for place in (close, hubspot) for each in place.simulator.received]
    assert len(paths) == 2
    assert all(each.startswith(path) for each in paths)


def test_unknown_parameters_are_ignored(place: Place) -> None:
    assert place.create(query="&utm_source=x&x[=1&limit=nonsense&next_cursor=").status == 200
    assert place.sent.raw_query == ""
