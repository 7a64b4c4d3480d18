"""Listing, getting, updating and deleting pipelines and stages, for each provider.

The handler is called with the events that API Gateway makes, and over HTTP where the way there matters.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any
from urllib.parse import quote, unquote

import pytest

from local.world import World
from tests.conftest import CLOSE, SECRETS, Answer, Http
from tests.functions.conftest import Event, Place, an_event
from unified_crm import lists

RESOURCES = ("pipelines", "stages")
VERBS = {"get": "GET", "update": "PATCH", "delete": "DELETE"}
ENVELOPE = ["result", "next_cursor", "prev_cursor", "result_count"]
PIPELINE_FIELDS = ["id", "name", "entity", "stages", "created_at", "updated_at"]
NESTED_FIELDS = ["id", "name", "position", "status", "pipeline", "created_at", "updated_at"]
STAGE_FIELDS = NESTED_FIELDS
Api = Callable[..., Answer]
Held = dict[str, Any]

resources = pytest.mark.parametrize("resource", RESOURCES)
verbs = pytest.mark.parametrize("verb", VERBS)


class Direct(Http):
    """The handler itself, as an HTTP client: a call takes a tenth of the time that it takes through the gateway."""

    def __init__(self, api: Api) -> None:
        super().__init__("")
        self._api = api

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        token: str | None = "",  # noqa: ARG002 - there is no authorizer on this way
    ) -> Answer:
        path, _, query = path.partition("?")
        sent = {"content-type": "application/json"} if body is not None else {}
        if not isinstance(body, bytes | None):
            body = json.dumps(body)
        event = an_event(body, query, method=method, path=unquote(path), headers={**sent, **(headers or {})})
        answer = self._api(event)
        assert not [secret for secret in SECRETS if secret in answer.text], "an answer shows a credential"
        return answer


@pytest.fixture
def http(api: Api) -> Http:
    return Direct(api)


@pytest.fixture
def over_http(place: Place, world: World) -> Iterator[Place]:
    """The same place, reached over HTTP."""
    client = Http(world.url)
    yield replace(place, http=client)
    client.close()


def _call(place: Place, method: str, path: str, query: str = "", body: Any = None, **options: Any) -> Answer:
    """`path` below `/unified/crm/`."""
    return place.http(method, f"/unified/crm/{path}?integrated_account_id={place.account}{query}", body, **options)


@dataclass
class Thing:
    """A pipeline, or a stage of it, beside another pipeline."""

    place: Place
    resource: str
    pipeline: Held
    id: str

    @property
    def fields(self) -> list[str]:
        """Every field of it."""
        return PIPELINE_FIELDS if self.resource == "pipelines" else STAGE_FIELDS

    @property
    def shown(self) -> list[str]:
        """Every field that the provider has: Close's statuses have no times."""
        timeless = self.place.name == "close" and self.resource == "stages"
        return [name for name in self.fields if not (timeless and name.endswith("_at"))]

    @property
    def record(self) -> Held:
        """What the provider itself answers for it."""
        pipeline = _record(self.place, self.pipeline["id"])
        if self.resource == "pipelines":
            return pipeline
        return next(each for each in pipeline[self.place.wire["stages"]] if each["id"] == self.id)

    def list(self, query: str = "", **options: Any) -> Answer:
        return _call(self.place, "GET", self.resource, query, **options)

    def do(self, verb: str, query: str = "", body: Any = None, id_: str | None = None, **options: Any) -> Answer:
        if verb == "update" and body is None:
            body = {"name": "New"}
        path = f"{self.resource}/{quote(self.id, safe='') if id_ is None else id_}"
        return _call(self.place, VERBS[verb], path, query, body, **options)


def _record(place: Place, pipeline_id: str, object_type: str = "deals") -> Held:
    credentials = place.simulator.demo_account["credentials"]
    asked = Http(place.simulator.url, credentials.get("token"))
    headers = {"accept": "application/json"}
    path = f"/crm/v3/pipelines/{object_type}/{pipeline_id}"
    if place.name == "close":
        headers |= {"authorization": "Basic YXBpX2RlbW8uY2xvc2UuNGY5ZDJiN2MxZTo="}
        path = f"/api/v1/pipeline/{pipeline_id}/"
    record: Held = asked("GET", path, headers=headers).json
    asked.close()
    return record


def _thing(place: Place, resource: str, entity: str | None = None) -> Thing:
    last = "closed" if entity == "tickets" else "won"
    place.simulator.seed("Other", [{"name": "Else"}, {"name": "Over", "status": last}], entity=entity)
    stages = [{"name": "One"}, {"name": "Two"}, {"name": "Three", "status": last}]
    held = place.simulator.seed("Sales", stages, entity=entity)
    return Thing(place, resource, held, held["id"] if resource == "pipelines" else held["stages"][1]["id"])


@pytest.fixture(params=RESOURCES)
def thing(request: pytest.FixtureRequest, place: Place) -> Thing:
    return _thing(place, request.param)


@pytest.fixture
def thing_over_http(thing: Thing, over_http: Place) -> Thing:
    return replace(thing, place=over_http)


def _refused(answer: Answer, place: Place, word: str, code: str = "invalid_request") -> None:
    """It was refused by name, and nothing was sent."""
    assert (answer.status, answer.json["code"]) == (400, code), answer.text
    assert answer.json["message"].startswith(word), answer.json["message"]
    assert place.simulator.received == []


def _changes(place: Place) -> list[Any]:
    return [each for each in place.simulator.received if each.method != "GET"]


# Envelopes


def test_a_list_is_an_envelope_of_whole_items(thing: Thing) -> None:
    answer = thing.list()
    body = answer.json
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert list(body) == ENVELOPE
    assert (body["next_cursor"], body["prev_cursor"], body["result_count"]) == (None, None, len(body["result"]))
    assert all(list(item) == [*thing.shown, "remote_data"] for item in body["result"])
    assert thing.id in [item["id"] for item in body["result"]]


@resources
def test_an_empty_list_is_an_empty_page(place: Place, resource: str) -> None:
    assert _call(place, "GET", resource).json == dict(zip(ENVELOPE, ([], None, None, 0), strict=True))


def test_get_answers_what_the_list_holds_bare(thing: Thing) -> None:
    item = next(each for each in thing.list().json["result"] if each["id"] == thing.id)
    assert thing.do("get").json == item


def test_update_answers_the_changed_thing_bare(thing: Thing) -> None:
    answer = thing.do("update")
    assert (answer.status, list(answer.json)) == (200, [*thing.shown, "remote_data"])
    assert (answer.json["id"], answer.json["name"]) == (thing.id, "New")
    assert answer.json == thing.do("get").json
    assert "truto-outcome" not in answer.headers


@pytest.mark.parametrize("format_", ["unified", "raw", "normalized"])
def test_delete_answers_the_id_with_200_in_every_format(thing: Thing, format_: str) -> None:
    answer = thing.do("delete", f"&truto_response_format={format_}")
    assert (answer.status, answer.json) == (200, {"id": thing.id})
    assert answer.headers["content-type"] == "application/json"
    assert thing.do("get").status == 404


def test_every_verb_is_the_same_over_http(thing: Thing, thing_over_http: Thing) -> None:
    query = "&truto_exclude_fields%5B%5D=updated_at&limit=2"
    assert thing_over_http.list(query).json == thing.list(query).json
    assert thing_over_http.do("get", query).json == thing.do("get", query).json
    assert thing_over_http.do("update").json == thing.do("get").json
    for status in (200, 404):
        answer = thing_over_http.do("delete")
        assert (answer.status, answer.headers["content-type"]) == (status, "application/json")


def test_a_created_stage_says_so(place: Place) -> None:
    held = place.simulator.seed("Sales", ["One"])
    for index, format_ in enumerate(("unified", "raw", "normalized"), start=1):
        body = {"name": f"New {index}", "pipeline": {"id": held["id"]}}
        answer = _call(place, "POST", "stages", f"&truto_response_format={format_}", body)
        assert (answer.status, answer.headers["truto-outcome"]) == (200, "created")
        assert answer.json.get("truto_outcome") == ("created" if format_ == "unified" else None)
        if format_ != "raw":
            assert (answer.json["name"], answer.json["position"]) == (f"New {index}", index)


# truto_response_format


@pytest.mark.parametrize("more", ["", "&truto_ignore_remote_data=true", "&truto_exclude_fields=id,name,label,statuses"])
def test_raw_is_the_providers_own_untouched(thing: Thing, more: str) -> None:
    raw = f"&truto_response_format=raw{more}"
    found = thing.list(raw).json
    assert list(found) == ENVELOPE
    assert thing.record in found["result"]
    assert thing.do("get", raw).json == thing.record
    assert thing.do("update", raw).json == thing.record


def test_normalized_has_every_field_null_where_there_is_none_and_no_remote_data(thing: Thing) -> None:
    normalized = "&truto_response_format=normalized"
    for item in [*thing.list(normalized).json["result"], thing.do("get", normalized).json]:
        assert list(item) == thing.fields
        assert all(list(stage) == NESTED_FIELDS for stage in item.get("stages", []))
        assert [name for name, value in item.items() if value is None] == [
            name for name in thing.fields if name not in thing.shown
        ]
    assert list(thing.do("update", normalized).json) == thing.fields


@pytest.mark.parametrize("value", ["", "json", "Raw"])
def test_another_format_is_refused_by_name_on_every_verb(thing: Thing, value: str) -> None:
    query = f"&truto_response_format={value}"
    for answer in [thing.list(query), *(thing.do(verb, query) for verb in VERBS)]:
        _refused(answer, thing.place, "truto_response_format")


# truto_ignore_remote_data, truto_exclude_fields


@pytest.mark.parametrize(("value", "shown"), [("true", False), ("1", False), ("false", True), ("0", True)])
def test_remote_data_can_be_left_out(thing: Thing, value: str, shown: bool) -> None:
    query = f"&truto_ignore_remote_data={value}"
    for item in [*thing.list(query).json["result"], thing.do("get", query).json, thing.do("update", query).json]:
        assert list(item) == thing.shown + ["remote_data"] * shown


@pytest.mark.parametrize(
    "query",
    [
        "truto_exclude_fields[]=id&truto_exclude_fields[]=name&truto_exclude_fields[]=remote_data",
        "truto_exclude_fields%5B%5D=id&truto_exclude_fields%5B%5D=name&truto_exclude_fields%5B%5D=remote_data",
        "truto_exclude_fields[0]=id&truto_exclude_fields[1]=name&truto_exclude_fields[2]=remote_data",
        "truto_exclude_fields%5B2%5D=id&truto_exclude_fields%5B0%5D=name&truto_exclude_fields%5B1%5D=remote_data",
        "truto_exclude_fields=id,name,remote_data",
        "truto_exclude_fields=id%2Cname%2C+remote_data,no_such_field",
        "truto_exclude_fields=id&truto_exclude_fields=name&truto_exclude_fields[]=remote_data",
    ],
)
def test_fields_can_be_left_out_in_every_spelling(thing: Thing, query: str) -> None:
    rest = [name for name in thing.shown if name not in ("id", "name")]
    for item in [*thing.list("&" + query).json["result"], thing.do("get", "&" + query).json]:
        assert list(item) == rest
    assert list(thing.do("update", "&" + query).json) == rest


def test_only_top_level_fields_are_left_out(place: Place) -> None:
    held = place.simulator.seed("Sales", ["One"])
    query = "&truto_response_format=normalized&truto_exclude_fields=id,status,pipeline.id,stages.name"
    (pipeline,) = _call(place, "GET", "pipelines", query).json["result"]
    assert list(pipeline) == PIPELINE_FIELDS[1:]
    assert list(pipeline["stages"][0]) == NESTED_FIELDS
    (stage,) = _call(place, "GET", "stages", query).json["result"]
    assert stage["pipeline"] == {"id": held["id"], "name": "Sales"}


def test_cursors_do_not_need_the_id_in_the_answer(thing: Thing) -> None:
    first = thing.list("&limit=1&truto_exclude_fields=id").json
    second = thing.list(f"&limit=1&truto_exclude_fields=id&next_cursor={first['next_cursor']}").json
    assert first["result"] != second["result"]


# remote_query

PAIRS = [("foo", "bar"), ("a[b][]", "c d"), ("a[b][]", "é&="), ("list[0]", "x"), ("empty", "")]


def _remote_query(encoded: bool) -> str:
    raw = "".join(
        f"&remote_query[{key.replace('[', '][', 1).removesuffix(']') if '[' in key else key}]={quote(value)}"
        for key, value in PAIRS
    )
    return raw.replace("[", "%5B").replace("]", "%5D").replace("%20", "+") if encoded else raw


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("verb", ["list", "get"])
def test_remote_query_goes_with_a_read_untouched(thing: Thing, verb: str, encoded: bool) -> None:
    query = _remote_query(encoded)
    answer = thing.list(query) if verb == "list" else thing.do(verb, query)
    assert answer.status == 200
    assert thing.place.sent.query == PAIRS


@pytest.mark.parametrize("verb", ["update", "delete"])
def test_remote_query_goes_with_the_first_write_and_with_no_read(thing: Thing, verb: str) -> None:
    assert thing.do(verb, _remote_query(True)).status == 200
    forwarded = [each for each in thing.place.simulator.received if ("foo", "bar") in each.query]
    assert [each.method for each in forwarded] == [
        {"update": {"close": "PUT", "hubspot": "PATCH"}[thing.place.name], "delete": "DELETE"}[verb]
    ]
    assert forwarded[0].query[-len(PAIRS) :] == PAIRS


def test_remote_query_has_the_last_word_over_our_own(hubspot: Place) -> None:
    thing = _thing(hubspot, "pipelines")
    thing.do("delete", "&remote_query[validateReferencesBeforeDelete]=false")
    (sent,) = _changes(hubspot)
    assert sorted(sent.query) == [
        ("validateDealStageUsagesBeforeDelete", "true"),
        ("validateReferencesBeforeDelete", "false"),
    ]


@resources
@pytest.mark.parametrize("key", ["hapikey", "HapiKey", "hapikey][x"])
def test_a_credential_in_remote_query_is_refused_on_every_verb(hubspot: Place, resource: str, key: str) -> None:
    thing, query = _thing(hubspot, resource), f"&remote_query[{key}]=x"
    for answer in [thing.list(query), *(thing.do(verb, query) for verb in VERBS)]:
        _refused(answer, hubspot, "remote_query[hapikey".replace("hapikey", key[:7]))


# entity

OBJECT_TYPES = {"tickets": "tickets", "contact": "contacts", "account": "companies", "2-1234567": "2-1234567"}


@resources
@pytest.mark.parametrize(("entity", "object_type"), OBJECT_TYPES.items())
def test_every_verb_takes_hubspots_object_types(hubspot: Place, resource: str, entity: str, object_type: str) -> None:
    thing, query = _thing(hubspot, resource, entity), f"&entity={entity}"
    listed = thing.list(query).json["result"]
    assert thing.id in [item["id"] for item in listed]
    if resource == "pipelines":
        assert {item["entity"] for item in listed} == {entity}
    for verb in VERBS:
        answer = thing.do(verb, query)
        assert (answer.status, answer.json["id"]) == (200, thing.id), answer.text
    prefix = f"/crm/v3/pipelines/{object_type}"
    assert all(each.path == prefix or each.path.startswith(prefix + "/") for each in hubspot.simulator.received)


@resources
def test_another_object_types_pipelines_are_not_seen(hubspot: Place, resource: str) -> None:
    thing = _thing(hubspot, resource, "tickets")
    assert thing.list().json["result_count"] == 0
    assert {thing.do(verb).status for verb in VERBS} == {404}
    assert thing.do("get", "&entity=tickets").status == 200


@pytest.mark.parametrize("entity", ["contact", "account", "tickets", "2-1234567"])
def test_close_refuses_others_on_every_verb(close: Place, entity: str) -> None:
    for resource in RESOURCES:
        thing = _thing(close, resource)
        for answer in [thing.list(f"&entity={entity}"), *(thing.do(verb, f"&entity={entity}") for verb in VERBS)]:
            _refused(answer, close, "entity: Close ", "unsupported")


def test_an_entity_is_left_out_of_a_create_only(close: Place) -> None:
    thing, query = _thing(close, "pipelines"), "&entity=contact&truto_unsupported=skip"
    for answer in [thing.list(query), *(thing.do(verb, query) for verb in VERBS)]:
        _refused(answer, close, "entity: Close ", "unsupported")
    answer = _call(close, "POST", "pipelines", query, {"name": "Fresh"})
    assert [each["field"] for each in answer.json["truto_warnings"]] == ["entity"]


@pytest.mark.parametrize("entity", ["", "..", "a/b", "a?b", "%2e%2e", "a\n"])
def test_an_entity_that_is_no_path_segment_is_refused_on_every_verb(thing: Thing, entity: str) -> None:
    query = f"&entity={quote(entity, safe='')}"
    for answer in [thing.list(query), *(thing.do(verb, query) for verb in VERBS)]:
        _refused(answer, thing.place, "entity")


def test_entities_in_query_and_body_of_an_update_must_be_equal(place: Place) -> None:
    thing = _thing(place, "pipelines")
    answer = thing.do("update", "&entity=contact", {"name": "New", "entity": "opportunity"})
    _refused(answer, place, "entity is 'contact' in the query and 'opportunity' in the body")
    assert thing.do("update", "&entity=opportunity", {"name": "New", "entity": "opportunity"}).status == 200


def test_the_entity_may_stand_in_the_body_of_an_update_alone(hubspot: Place) -> None:
    thing = _thing(hubspot, "pipelines", "tickets")
    answer = thing.do("update", "", {"name": "New", "entity": "tickets"})
    assert (answer.status, answer.json["entity"], answer.json["name"]) == (200, "tickets", "New")


# The pipeline of a stage


@pytest.mark.parametrize("key", ["pipeline[id]", "pipeline%5Bid%5D", "pipeline%5bid%5d"])
def test_pipeline_id_narrows_a_list_and_saves_a_look_elsewhere(place: Place, key: str) -> None:
    thing = _thing(place, "stages")
    query = f"&{key}={thing.pipeline['id']}"
    listed = thing.list(query).json["result"]
    assert [item["name"] for item in listed] == ["One", "Two", "Three"]
    for verb in VERBS:
        assert thing.do(verb, query).status == 200
    reads = {each.path for each in place.simulator.received if each.method == "GET"}
    assert len(reads) == 1
    assert thing.pipeline["id"] in reads.pop()


@pytest.mark.parametrize(
    "query",
    [
        *("pipeline[id]=", "pipeline[id]=a%2Fb", "pipeline[id]=..", "pipeline[id]=%00", "pipeline[id]=a%252Fb"),
        *("pipeline=x", "pipeline[]=x", "pipeline[name]=x", "pipeline[id][]=x", "pipeline[id]=x&pipeline[id]=y"),
    ],
)
def test_a_bad_pipeline_id_is_refused_by_name(place: Place, query: str) -> None:
    thing = _thing(place, "stages")
    for answer in [thing.list("&" + query), *(thing.do(verb, "&" + query) for verb in VERBS)]:
        _refused(answer, place, "pipeline")


def test_a_stage_of_another_pipeline_is_not_found_and_left_alone(place: Place) -> None:
    thing = _thing(place, "stages")
    other = next(each for each in place.simulator.pipelines() if each["name"] == "Other")
    for verb in VERBS:
        answer = thing.do(verb, f"&pipeline[id]={other['id']}")
        assert (answer.status, answer.json["code"]) == (404, "not_found")
        assert "truto_is_remote_error" not in answer.json
    assert _changes(place) == []


def test_pipelines_in_query_and_body_of_a_stage_must_be_equal(place: Place) -> None:
    thing = _thing(place, "stages")
    answer = thing.do("update", "&pipeline[id]=x", {"name": "New", "pipeline": {"id": "y"}})
    _refused(answer, place, "pipeline[id] is 'x' in the query and 'y' in the body")
    own = thing.pipeline["id"]
    created = _call(place, "POST", "stages", "&pipeline[id]=x", {"name": "New", "pipeline": {"id": own}})
    _refused(created, place, f"pipeline[id] is 'x' in the query and {own!r} in the body")
    assert thing.do("update", f"&pipeline[id]={own}", {"name": "New", "pipeline": {"id": own}}).status == 200


# Ids in paths


@pytest.mark.parametrize(
    "id_",
    ["%2e", "%2E%2e", "a%2Fb", "a%252Fb", "a%25252Fb", "a%5Cb", "a%23b", "%00", "a%0A", "%7F", "%C2%85", "a/b", "a/"],
)
def test_an_id_that_is_no_path_segment_is_refused_and_nothing_sent(thing_over_http: Thing, id_: str) -> None:
    for verb in ("get", "delete"):
        _refused(thing_over_http.do(verb, id_=id_), thing_over_http.place, "id must")


@pytest.mark.parametrize(
    "id_", ["a?b", "?", "a#b", "..", ".", "a/b", "a\\b", "a\n", "\n", "\x00", "a%2Fb", "a%2fb", "%41", "\x85", "\ud800"]
)
def test_an_id_as_the_function_gets_it_is_refused_and_nothing_sent(thing: Thing, api: Api, id_: str) -> None:
    for method in VERBS.values():
        event = _event(method, f"/unified/crm/{thing.resource}/{id_}", thing.place)
        _refused(api(event), thing.place, "id must")


def _event(method: str, path: str, place: Place) -> Event:
    body = {"name": "New"} if method == "PATCH" else None
    return an_event(body, f"integrated_account_id={place.account}", method=method, path=path)


@pytest.mark.parametrize(
    "id_", ["a b", " ", "é", "日本 😀", "a+b", "a:b;c,d@e!f", "'\"<>&=", "~", "...", "meta", "100%", "%zz", "-._"]
)
def test_any_other_id_is_sent_percent_encoded(thing: Thing, api: Api, id_: str) -> None:
    query = f"integrated_account_id={thing.place.account}&pipeline[id]={quote(id_, safe='')}"
    answer = api(an_event(None, query, method="GET", path=f"/unified/crm/{thing.resource}/{id_}"))
    assert answer.status == 404
    assert thing.place.sent.path == f"{thing.place.wire['path'].rstrip('/')}/{quote(id_, safe='')}" + "/" * (
        thing.place.name == "close"
    )


@pytest.mark.parametrize("id_", ["a b", "é-1", "日本", "a+b", "a:b"])
def test_an_odd_id_works_on_every_verb(over_http: Place, id_: str) -> None:
    place = over_http
    place.simulator.seed("Other", ["Else"])
    held = place.simulator.seed("Sales", ["One", {"name": "Two", "remote": {"id": id_ + "2"}}], remote={"id": id_})
    thing = Thing(place, "pipelines", held, id_)
    stage = Thing(place, "stages", held, id_ + "2")
    for each in (stage, thing):
        for verb in VERBS:
            answer = each.do(verb)
            assert (answer.status, answer.json["id"]) == (200, each.id), answer.text


# Pages


@pytest.mark.parametrize(("limit", "count"), [("1", 1), ("2", 2), ("01", 1), ("1000", 2)])
def test_a_page_has_at_most_limit_items(place: Place, limit: str, count: int) -> None:
    page = _call(_thing(place, "pipelines").place, "GET", "pipelines", f"&limit={limit}").json
    assert (len(page["result"]), page["result_count"]) == (count, count)
    assert (page["next_cursor"] is None) is (count == 2)


def test_fifty_items_come_without_a_limit(place: Place) -> None:
    place.simulator.seed("Sales", [f"S{index}" for index in range(51)])
    page = _call(place, "GET", "stages").json
    assert page["result_count"] == 50
    assert _call(place, "GET", "stages", f"&next_cursor={page['next_cursor']}").json["result_count"] == 1


@pytest.mark.parametrize(
    "limit", ["0", "-1", "1001", "abc", "", "1.5", "1e2", "+1", "%2B1", "%201", "0x1", "%D9%A3", "99999999999999999999"]
)
def test_a_bad_limit_is_refused_by_name(thing: Thing, limit: str) -> None:
    _refused(thing.list(f"&limit={limit}"), thing.place, "limit must be a whole number from 1 to 1000")


@pytest.mark.parametrize("query", ["limit=1&limit=2", "limit[]=1", "next_cursor=&next_cursor=", "next_cursor[]=x"])
def test_a_parameter_of_lists_is_given_once(thing: Thing, query: str) -> None:
    _refused(thing.list("&" + query), thing.place, f"{query.partition('=')[0].removesuffix('[]')} must be given once")


def test_an_empty_next_cursor_means_none(thing: Thing) -> None:
    assert thing.list("&next_cursor=&limit=1").json == thing.list("&limit=1").json


@pytest.mark.parametrize(
    "cursor", ["x", "null", "0", "bnVsbA", "%20", "W10", "..", "%00", "é", "WzEsICJhIl0%3D", "WzEsICJhIl0x"]
)
def test_a_bad_next_cursor_is_refused_by_name(thing: Thing, cursor: str) -> None:
    _refused(thing.list(f"&next_cursor={cursor}"), thing.place, "next_cursor")


@resources
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
def test_pages_join_to_the_whole_and_lead_back_again(place: Place, resource: str, limit: int) -> None:
    for index in range(5):
        place.simulator.seed(f"Pipeline {index}", ["One"])
    whole = _call(place, "GET", resource).json["result"]
    pages = [_call(place, "GET", resource, f"&limit={limit}&next_cursor=").json]
    while (cursor := pages[-1]["next_cursor"]) is not None:
        pages.append(_call(place, "GET", resource, f"&limit={limit}&next_cursor={cursor}").json)
    assert [item for page in pages for item in page["result"]] == whole
    assert all(page["result"] for page in pages)
    assert pages[0]["prev_cursor"] is None
    for before, page in pairwise(pages):
        assert _call(place, "GET", resource, f"&limit={limit}&next_cursor={page['prev_cursor']}").json == before


# created_at, updated_at

NOON = "2026-01-02T12:00:00"
MOMENTS = {"Early": "2026-01-01T00:00:00", "Noon": NOON, "Late": "2026-01-03T00:00:00"}


def _seed_times(place: Place) -> None:
    for name, moment in MOMENTS.items():
        if place.name == "close":
            remote = {"date_created": f"{moment}.000000", "date_updated": f"{moment}.000000"}
        else:
            remote = {"createdAt": f"{moment}Z", "updatedAt": f"{moment}.000Z"}
        stage = {"name": name, "remote": remote if place.name == "hubspot" else {}}
        place.simulator.seed(name, [stage], remote=remote)


def _named(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.text
    return [item["name"] for item in answer.json["result"]]


@pytest.mark.parametrize(
    ("operator", "names"),
    [("gt", ["Late"]), ("gte", ["Noon", "Late"]), ("lt", ["Early"]), ("lte", ["Early", "Noon"])],
)
@pytest.mark.parametrize("field", ["created_at", "updated_at"])
def test_a_list_is_filtered_by_time_however_it_is_written(
    place: Place, field: str, operator: str, names: list[str]
) -> None:
    _seed_times(place)
    for index, time_ in enumerate(
        (
            f"{NOON}Z",
            "2026-01-02T14:00:00%2B02:00",
            "2026-01-02T07:00:00-05:00",
            "2026-01-02T17%3A30%3A00%2b05%3A30",
            f"{NOON}.000000Z",
            f"{NOON}%2B00:00",
        )
    ):
        key = (f"{field}[{operator}]", f"{field}%5B{operator}%5D")[index % 2]
        assert _named(_call(place, "GET", "pipelines", f"&{key}={time_}")) == names, time_
    stages = _call(place, "GET", "stages", f"&{field}[{operator}]={NOON}Z")
    if place.name == "hubspot":
        assert _named(stages) == names
    else:
        assert (stages.status, stages.json["code"]) == (400, "unsupported")
        assert stages.json["message"].startswith(f"{field}[{operator}]: Close ")


@pytest.mark.parametrize(
    ("filter_", "names"),
    [
        ("[gt]=0001-01-01T00:00:00%2B23:59", [*MOMENTS]),
        ("[lt]=9999-12-31T23:59:59-23:59", [*MOMENTS]),
        ("[gt]=9999-12-31T23:59:59.999999-14:00", []),
        ("[lt]=0001-01-01", []),
    ],
)
def test_the_ends_of_time_are_times_too(place: Place, filter_: str, names: list[str]) -> None:
    _seed_times(place)
    assert _named(_call(place, "GET", "pipelines", f"&created_at{filter_}")) == names


def test_filters_are_joined_by_and(place: Place) -> None:
    _seed_times(place)
    query = "&created_at[gte]=2026-01-02&created_at[lt]=2026-01-03&updated_at[lte]=2027-01-01T00:00:00Z"
    assert _named(_call(place, "GET", "pipelines", query)) == ["Noon"]


@pytest.mark.parametrize("operator", ["gt", "gte", "lt", "lte"])
@pytest.mark.parametrize("limit", [1, 2])
def test_a_filtered_list_has_no_empty_page_with_a_cursor(place: Place, operator: str, limit: int) -> None:
    _seed_times(place)
    query = f"&limit={limit}&created_at[{operator}]={NOON}Z"
    whole = _named(_call(place, "GET", "pipelines", f"&created_at[{operator}]={NOON}Z"))
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = _call(place, "GET", "pipelines", f"{query}&next_cursor={cursor}").json
        assert page["result"] or page["next_cursor"] is None
        names += [item["name"] for item in page["result"]]
        cursor = page["next_cursor"]
    assert names == whole


@pytest.mark.parametrize(
    "value",
    ["", "yesterday", "2026-13-01", "2026-01-01T25:00:00Z", "1767225600", "2026-01-02T14:00:00+02:00", "null", "%00"],
)
@pytest.mark.parametrize("key", ["created_at[gt]", "updated_at%5Blte%5D"])
def test_what_is_no_time_is_refused_by_name(thing: Thing, key: str, value: str) -> None:
    name = key.replace("%5B", "[").replace("%5D", "]")
    _refused(thing.list(f"&{key}={value}"), thing.place, f"{name} must be an RFC 3339 time")


@pytest.mark.parametrize("rest", ["[ne]", "[GT]", "[eq]", "", "[]", "[0]", "[gt][x]", "[gt][]", "[gt", "[ gt]"])
def test_an_unknown_operator_is_refused_by_name(thing: Thing, rest: str) -> None:
    for field in ("created_at", "updated_at"):
        _refused(thing.list(f"&{field}{rest}=2026-01-01"), thing.place, field)


@resources
def test_a_cursor_belongs_to_its_list_and_filters(hubspot: Place, resource: str) -> None:
    thing = _thing(hubspot, resource)
    filters = "&created_at[gt]=2020-01-01&created_at[lt]=2999-01-01"
    cursor = thing.list(f"&limit=1{filters}").json["next_cursor"]
    assert thing.list(f"{filters}&next_cursor={cursor}").status == 200
    other = {"pipelines": "stages", "stages": "pipelines"}[resource]
    for answer in (
        thing.list(f"&next_cursor={cursor}"),
        thing.list(f"{filters}&entity=tickets&next_cursor={cursor}"),
        _call(hubspot, "GET", other, f"{filters}&next_cursor={cursor}"),
    ):
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")
        assert answer.json["message"].startswith("next_cursor")


def test_filters_may_be_written_in_another_order_or_offset_on_the_next_page(hubspot: Place) -> None:
    thing = _thing(hubspot, "pipelines")
    cursor = thing.list("&limit=1&created_at[gt]=2020-01-01&created_at[lt]=2999-01-01T00:00:00Z").json["next_cursor"]
    for filters in (
        "&created_at[lt]=2999-01-01T00:00:00Z&created_at[gt]=2020-01-01",
        "&created_at[gt]=2020-01-01T00:00:00Z&created_at[lt]=2999-01-01T02:00:00%2B02:00",
    ):
        answer = thing.list(f"{filters}&next_cursor={cursor}")
        assert (answer.status, answer.json["result_count"]) == (200, 1), answer.text


def test_an_operator_is_given_once(thing: Thing) -> None:
    _refused(thing.list("&created_at[gt]=2026-01-01&created_at[gt]=2026-01-02"), thing.place, "created_at")


# What is written

WRONG: dict[str, list[tuple[Any, str]]] = {
    "pipelines": [
        ({"nmae": "x"}, "nmae is not a known field"),
        ({"id": "x"}, "id is not a known field"),
        ({"created_at": None}, "created_at is not a known field"),
        ({"name": 1}, "name: "),
        ({"stages": {}}, "stages: "),
        ({"stages": ["One"]}, "stages[0] must be a JSON object"),
        ({"stages": [{"id": 1}]}, "stages[0].id: "),
        ({"stages": [{"name": "x"}, {"id": "a/b"}]}, "stages[1].id: "),
        ({"stages": [{"id": "x", "position": 1}]}, "stages[0].position is not a known field"),
        ({"stages": [{"id": "x", "status": "open"}]}, "stages[0].status: "),
        ({"remote_data": []}, "remote_data: "),
        ({"entity": "a/b"}, "entity: "),
        ([], "The body must be a JSON object"),
    ],
    "stages": [
        ({"nmae": "x"}, "nmae is not a known field"),
        ({"id": "x"}, "id is not a known field"),
        ({"entity": "contact"}, "entity is not a known field"),
        ({"name": ["x"]}, "name: "),
        ({"position": -1}, "position: "),
        ({"position": "1"}, "position: "),
        ({"position": True}, "position: "),
        ({"position": 1.5}, "position: "),
        ({"position": 2**31}, "position: "),
        ({"status": "Won"}, "status: "),
        ({"pipeline": "x"}, "pipeline must be a JSON object"),
        ({"pipeline": {}}, "pipeline.id: "),
        ({"pipeline": {"id": "a/b"}}, "pipeline.id: "),
        ({"pipeline": {"id": "x", "name": "y"}}, "pipeline.name is not a known field"),
        ("x", "The body must be a JSON object"),
    ],
}


@pytest.mark.parametrize(
    ("resource", "body", "word"), [(resource, *case) for resource, cases in WRONG.items() for case in cases]
)
def test_a_change_of_another_form_is_refused_naming_the_field(
    place: Place, resource: str, body: Any, word: str
) -> None:
    _refused(_thing(place, resource).do("update", "", body), place, word)


@pytest.mark.parametrize("body", [b"{", b"nonsense", b'{"name": "a", "name": "b"}', b'{"name": NaN}'])
def test_a_change_that_is_no_json_is_refused(thing: Thing, body: bytes) -> None:
    answer = thing.do("update", "", body)
    assert (answer.status, answer.json["code"]) == (400, "invalid_json")
    assert thing.place.simulator.received == []


@pytest.mark.parametrize("body", [b"", {}, {"name": None}, {"remote_data": {}}])
def test_a_change_of_nothing_changes_nothing(thing: Thing, body: Any) -> None:
    before = thing.record
    answer = thing.do("update", "", body)
    assert (answer.status, answer.json["remote_data"]) == (200, before)
    assert _changes(thing.place) == []


def test_remote_data_of_a_change_has_the_last_word(thing: Thing) -> None:
    key = thing.place.wire["name" if thing.resource == "pipelines" else "stage_name"]
    answer = thing.do("update", "", {"name": "Ours", "remote_data": {key: "Theirs", "x": {"y": [1]}}})
    assert answer.json["name"] == "Theirs"
    (sent,) = _changes(thing.place)
    assert (sent.json[key], sent.json["x"]) == ("Theirs", {"y": [1]})
    alone = thing.do("update", "", {"remote_data": {key: "Alone"}})
    assert alone.json["name"] == "Alone"


def test_stages_with_ids_are_changed_those_without_are_new_and_the_rest_is_left_alone(place: Place) -> None:
    thing = _thing(place, "pipelines")
    one, two, three = (stage["id"] for stage in thing.pipeline["stages"])
    answer = thing.do("update", "", {"stages": [{"id": two, "name": "Zwei"}, {"name": "Four", "status": "active"}]})
    assert [stage["name"] for stage in answer.json["stages"]] == ["One", "Zwei", "Three", "Four"]
    assert [stage["id"] for stage in answer.json["stages"]][:3] == [one, two, three]
    assert [stage["position"] for stage in answer.json["stages"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("id_", ["12345", "é", " "])
def test_a_stage_that_the_pipeline_does_not_have_is_refused_by_its_place(place: Place, id_: str) -> None:
    thing = _thing(place, "pipelines")
    answer = thing.do("update", "", {"name": "New", "stages": [{"name": "x"}, {"id": id_}]})
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert answer.json["message"].startswith("stages[1].id")
    assert _changes(place) == []


@pytest.mark.parametrize(("value", "left"), [("true", 1), ("1", 1), ("false", 3), ("0", 3)])
def test_prune_stages_deletes_those_not_named(place: Place, value: str, left: int) -> None:
    thing = _thing(place, "pipelines")
    stages = [{"id": thing.pipeline["stages"][2]["id"]}]
    answer = thing.do("update", f"&prune_stages={value}", {"stages": stages})
    assert (answer.status, len(answer.json["stages"])) == (200, left)


@pytest.mark.parametrize("body", [{"name": "New"}, {"stages": None}, {}])
def test_prune_stages_without_stages_deletes_none(place: Place, body: Held) -> None:
    assert len(_thing(place, "pipelines").do("update", "&prune_stages=true", body).json["stages"]) == 3


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("update", "prune_stages"),
        ("delete", "truto_force_delete"),
        ("delete", "truto_dry_run"),
        ("get", "truto_explain"),
    ],
)
def test_what_is_no_boolean_is_refused_by_name(thing: Thing, verb: str, name: str) -> None:
    for value in ("", "yes", "True", "2", "null"):
        _refused(thing.do(verb, f"&{name}={value}"), thing.place, f"{name} must be one of")


# Deleting

VALIDATE = ["validateDealStageUsagesBeforeDelete", "validateReferencesBeforeDelete"]


@pytest.mark.parametrize(
    ("query", "said"),
    [("", "true"), ("&truto_force_delete=false", "true"), ("&truto_force_delete=true", "false")],
)
@resources
def test_hubspot_is_told_to_look_for_uses_unless_forced(hubspot: Place, resource: str, query: str, said: str) -> None:
    assert _thing(hubspot, resource).do("delete", query).status == 200
    (sent,) = _changes(hubspot)
    assert sorted(sent.query) == [(name, said) for name in VALIDATE if resource == "pipelines" or name == VALIDATE[1]]


def test_what_is_in_use_is_refused_with_the_providers_own_words(thing: Thing) -> None:
    thing.place.simulator.occupy(thing.pipeline["stages"][1]["id"], 2)
    answer = thing.do("delete")
    assert (answer.status, answer.json["code"]) == (400, "in_use")
    assert answer.json["truto_is_remote_error"] is True
    assert answer.json["raw_response"].keys() & {"errors", "subCategory"}
    assert thing.do("get").status == 200


@resources
def test_force_deletes_what_is_in_use_at_hubspot(hubspot: Place, resource: str) -> None:
    thing = _thing(hubspot, resource)
    hubspot.simulator.occupy(thing.pipeline["stages"][1]["id"], 2)
    assert thing.do("delete", "&truto_force_delete=true").json == {"id": thing.id}


def test_a_deleted_thing_is_gone_for_a_second_delete(thing: Thing) -> None:
    assert [thing.do("delete").status for _ in range(2)] == [200, 404]


# 404 and 405


@verbs
def test_a_pipeline_that_is_not_there_is_the_providers_404(place: Place, verb: str) -> None:
    answer = _thing(place, "pipelines").do(verb, id_="12345")
    assert (answer.status, answer.json["code"], answer.json["truto_is_remote_error"]) == (404, "not_found", True)
    assert answer.json["raw_response"] == ({"error": "Object not found."} if place.name == "close" else "")


@verbs
def test_a_stage_that_no_pipeline_has_is_our_404(place: Place, verb: str) -> None:
    answer = _thing(place, "stages").do(verb, id_="12345")
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert not answer.json.keys() & {"truto_is_remote_error", "raw_response"}


@verbs
def test_a_stage_of_a_pipeline_that_is_not_there_is_the_providers_404(place: Place, verb: str) -> None:
    answer = _thing(place, "stages").do(verb, "&pipeline[id]=12345")
    assert (answer.status, answer.json["truto_is_remote_error"]) == (404, True)
    listed = _call(place, "GET", "stages", "&pipeline[id]=12345")
    assert (listed.status, listed.json["truto_is_remote_error"]) == (404, True)


def test_an_account_that_is_not_there_is_our_404_on_every_verb(thing: Thing) -> None:
    account = "&integrated_account_id=".join(("", "00000000-0000-4000-8000-000000000000"))
    for method, path in (("GET", ""), *((method, "/x") for method in VERBS.values())):
        answer = thing.place.http(method, f"/unified/crm/{thing.resource}{path}?{account[1:]}")
        assert (answer.status, answer.json["code"]) == (404, "not_found")
        assert "truto_is_remote_error" not in answer.json


ALLOWED = {
    "/unified/crm/pipelines": "GET, POST",
    "/unified/crm/stages": "GET, POST",
    "/unified/crm/pipelines/x": "GET, PATCH, DELETE",
    "/unified/crm/stages/x": "GET, PATCH, DELETE",
    "/unified/crm/pipelines/meta/list": "GET",
    "/unified/crm/stages/meta/create": "GET",
    "/openapi.json": "GET",
    "/docs": "GET",
}


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]


@pytest.mark.parametrize(("path", "allowed"), ALLOWED.items())
def test_a_method_that_an_address_does_not_have_is_405_with_those_it_has(api: Api, path: str, allowed: str) -> None:
    for method in METHODS:
        if method not in allowed.split(", "):
            answer = api(an_event(None, f"integrated_account_id={CLOSE}", method=method, path=path))
            assert (answer.status, answer.headers.get("allow")) == (405, allowed), method
            assert answer.json["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/unified/crm/pipelines", "/unified/crm/pipelines/x"])
def test_a_method_that_nobody_knows_is_405_too(api: Api, path: str) -> None:
    answer = api(an_event(None, f"integrated_account_id={CLOSE}", method="PROPFIND", path=path))
    assert (answer.status, answer.headers.get("allow")) == (405, ALLOWED[path]), answer.text


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8", "text/plain"])
def test_a_content_type_without_a_body_is_no_body(thing_over_http: Thing, method: str, media_type: str) -> None:
    thing = thing_over_http
    headers = {"content-type": media_type}
    assert thing.list(headers=headers).status == 200
    verb = next(verb for verb, each in VERBS.items() if each == method)
    assert thing.do(verb, headers=headers).status == 200


# meta


@resources
@pytest.mark.parametrize("method", ["list", "get", "create", "update", "delete"])
def test_meta_tells_of_each_method(place: Place, resource: str, method: str) -> None:
    answer = _call(place, "GET", f"{resource}/meta/{method}")
    body = answer.json
    assert (answer.status, place.simulator.received) == (200, [])
    assert {name: body[name] for name in ("provider", "resource", "method", "supported", "entity")} == {
        "provider": place.name,
        "resource": resource,
        "method": method,
        "supported": True,
        "entity": "opportunity",
    }
    fields = PIPELINE_FIELDS if resource == "pipelines" else STAGE_FIELDS
    assert body["fields"].keys() >= set(fields)
    assert all(
        {"supported", "required", "read_only", "remote_field"} <= each.keys() for each in body["fields"].values()
    )


def test_meta_is_of_the_object_type(hubspot: Place) -> None:
    found = {
        entity: _call(hubspot, "GET", "stages/meta/create", f"&entity={entity}").json["fields"]["status"]["values"]
        for entity in ("opportunity", "tickets", "contact")
    }
    assert found["opportunity"] == ["active", "won", "lost"]
    assert "closed" in found["tickets"]
    assert found["contact"] == ["active"]


def test_meta_of_an_object_type_that_close_has_not_is_refused(close: Place) -> None:
    _refused(_call(close, "GET", "stages/meta/list", "&entity=tickets"), close, "entity: Close ", "unsupported")


@pytest.mark.parametrize(
    "path", ["pipelines/meta/nothing", "stages/meta/List", "deals/meta/list", "pipelines/meta/", "pipelines/meta/a/b"]
)
def test_meta_of_what_does_not_exist_is_404(place: Place, path: str) -> None:
    answer = _call(place, "GET", path)
    assert (answer.status, answer.json["code"]) == (404, "not_found")


def test_meta_needs_an_account_of_the_caller(over_http: Place) -> None:
    path = "/unified/crm/pipelines/meta/list"
    assert over_http.http("GET", path).status == 400
    path += f"?integrated_account_id={over_http.account}"
    answers = [over_http.http("GET", path, token=token).status for token in ("", "other-token", None)]
    assert answers == [200, 404, 401]


# Dry run


def _writes(thing: Thing, query: str) -> dict[str, Answer]:
    owner = {} if thing.resource == "pipelines" else {"pipeline": {"id": thing.pipeline["id"]}}
    stages = {"stages": [{"name": "One"}]} if thing.resource == "pipelines" else {}
    created = _call(thing.place, "POST", thing.resource, query, {"name": "Fresh", **owner, **stages})
    return {"create": created, "update": thing.do("update", query), "delete": thing.do("delete", query)}


@pytest.mark.parametrize("format_", ["unified", "raw", "normalized"])
def test_a_dry_run_sends_no_write_and_shows_no_credential(thing: Thing, format_: str) -> None:
    before = thing.place.simulator.snapshot()
    for answer in _writes(thing, f"&truto_dry_run=true&truto_response_format={format_}").values():
        assert (answer.status, answer.json["dry_run"]) == (200, True)
        for request in answer.json["requests"]:
            assert request["headers"]["authorization"] == "[redacted]"
            assert request["url"].startswith(thing.place.simulator.url)
    assert thing.place.simulator.snapshot() == before
    assert _changes(thing.place) == []


def test_a_dry_run_tells_exactly_what_would_be_sent(thing: Thing) -> None:
    query = "&remote_query[a][b]=c+d"
    for verb in ("update", "delete"):
        planned = [each for each in thing.do(verb, f"{query}&truto_dry_run=1").json["requests"] if not each["sent"]]
        seen = len(thing.place.simulator.received)
        assert thing.do(verb, query).status == 200
        sent = [each for each in thing.place.simulator.received[seen:] if each.method != "GET"]
        assert [(each["method"], each["url"], each["body"]) for each in planned] == [
            (
                each.method,
                thing.place.simulator.url + each.path + f"?{each.raw_query}" * bool(each.raw_query),
                each.json,
            )
            for each in sent
        ]
        names = {name for each in sent for name in each.headers} - {"host", "accept-encoding", "content-length"}
        assert {name for each in planned for name in each["headers"]} == names


def test_a_dry_run_refuses_what_the_call_would(thing: Thing) -> None:
    _refused(thing.do("update", "&truto_dry_run=true", {"nmae": "x"}), thing.place, "nmae")
    assert thing.do("delete", "&truto_dry_run=true", id_="12345").status == 404


def test_a_dry_run_of_a_read_is_the_read(thing: Thing) -> None:
    assert thing.list("&truto_dry_run=true").json == thing.list().json
    assert thing.do("get", "&truto_dry_run=true").json == thing.do("get").json


# Explain


@pytest.mark.parametrize("format_", ["unified", "normalized"])
@pytest.mark.parametrize("verb", ["get", "update"])
def test_explain_tells_where_each_field_came_from(thing: Thing, verb: str, format_: str) -> None:
    query = f"&truto_explain=true&truto_response_format={format_}"
    explained = thing.do(verb, query).json["explain"]
    assert explained["name"]["how"] == "copied"
    assert explained["name"]["request"].startswith("GET /")
    for name, each in explained.items():
        if not name.endswith("[]"):
            assert each.keys() == {"remote_field", "request", "how"}
            assert each["how"] in ("copied", "converted", "defaulted")


@pytest.mark.parametrize("format_", ["unified", "normalized"])
def test_explain_leaves_no_field_out(thing: Thing, format_: str) -> None:
    query = f"&truto_explain=true&truto_response_format={format_}"
    for item in [thing.do("get", query).json, *thing.list(query).json["result"]]:
        assert item["explain"].keys() >= set(thing.shown)


def test_explain_touches_neither_raw_nor_what_did_not_ask(thing: Thing) -> None:
    assert thing.do("get", "&truto_explain=true&truto_response_format=raw").json == thing.record
    for query in ("", "&truto_explain=false"):
        assert "explain" not in thing.do("get", query).json


# Long lists


def _many(place: Place, count: int, stages: int = 100) -> None:
    """Copies of one pipeline, put there at once."""
    place.simulator.seed("Pipeline", [f"Stage {index:03}" for index in range(stages)])
    state = place.simulator.state["pipelines"]
    held = state if place.name == "close" else state["deals"]
    wire, prefix = place.wire, "stat_5uhmbpTQ1ZgL9RWPU" if place.name == "close" else "10"
    (one,) = held
    held[:] = [
        {
            **one,
            "id": f"{one['id']}{index:04}",
            wire["name"]: f"Pipeline {index:04}",
            **({} if place.name == "close" else {"displayOrder": index}),
            wire["stages"]: [
                {**each, "id": f"{prefix}{index:04}{at:03}"} for at, each in enumerate(one[wire["stages"]])
            ],
        }
        for index in range(count)
    ]


def test_a_thousand_pipelines_of_a_hundred_stages_take_one_call_and_a_few_seconds(over_http: Place) -> None:
    _many(over_http, 1000)
    began = time.process_time()
    answer = _call(over_http, "GET", "pipelines", "&limit=1000")
    seconds = time.process_time() - began  # of this process, however much else the machine has to do
    assert answer.status == 200, answer.text[:300]
    assert len(over_http.simulator.received) == 1
    assert len(answer.text) < 6_000_000
    assert answer.json["result"][0]["name"] == "Pipeline 0000"
    assert answer.json["next_cursor"] is not None
    assert seconds < 15, "some seconds, on whatever machine this is"


def test_a_hundred_thousand_stages_take_one_call_too(close: Place) -> None:
    _many(close, 1000)
    page = _call(close, "GET", "stages", "&limit=1000").json
    assert (len(close.simulator.received), page["result_count"]) == (1, 1000)
    assert page["result"][-1]["pipeline"]["name"] == "Pipeline 0009"


@resources
def test_a_long_list_is_cut_and_its_pages_join_to_the_whole(
    place: Place, resource: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "MAX_PAGE_BYTES", 100_000)
    _many(place, 12)
    ids: list[str] = []
    sizes: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = _call(place, "GET", resource, f"&limit=1000&next_cursor={cursor}")
        sizes.append(len(answer.text))
        ids += [item["id"] for item in answer.json["result"]]
        cursor = answer.json["next_cursor"]
    held = place.simulator.pipelines()
    whole = held if resource == "pipelines" else [stage for each in held for stage in each["stages"]]
    assert ids == [each["id"] for each in whole]
    assert len(sizes) > 1
    assert max(sizes) < 100_000 + 1000


@pytest.mark.parametrize("letter", ['"', "\\", "é"])
def test_a_page_of_odd_letters_still_fits_into_an_answer(over_http: Place, letter: str) -> None:
    for index in range(3):
        over_http.simulator.seed(f"{index}{letter * 200_000}", ["One"])
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = _call(over_http, "GET", "pipelines", f"&next_cursor={cursor}")
        assert answer.status == 200, answer.text[:300]
        names += [item["name"][0] for item in answer.json["result"]]
        cursor = answer.json["next_cursor"]
    assert names == ["0", "1", "2"]


def test_one_pipeline_of_odd_letters_still_fits_into_an_answer(over_http: Place) -> None:
    held = over_http.simulator.seed('"' * 1_800_000, ["One"])
    answer = _call(over_http, "GET", f"pipelines/{held['id']}")
    assert answer.status in (200, 502), "Lambda itself would refuse to carry it"


# What HubSpot really answers


def test_equal_orders_stand_by_their_labels(hubspot: Place) -> None:
    for name in ("Beta", "Alpha", "Gamma"):
        stages = [{"name": label, "remote": {"displayOrder": 3}} for label in ("Y", "Z", "X")]
        hubspot.simulator.seed(name, stages, remote={"displayOrder": 1})
    assert _named(_call(hubspot, "GET", "pipelines")) == ["Alpha", "Beta", "Gamma"]
    assert _named(_call(hubspot, "GET", "stages")) == ["X", "Y", "Z"] * 3
    pages = [_call(hubspot, "GET", "stages", "&limit=4").json]
    pages.append(_call(hubspot, "GET", "stages", f"&limit=4&next_cursor={pages[0]['next_cursor']}").json)
    assert [item["name"] for page in pages for item in page["result"]] == [*"XYZX", *"YZXY"]


def test_the_epochs_zero_is_no_time(hubspot: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hubspot.simulator.world, "default_pipeline", True)
    hubspot.simulator.reset()
    (pipeline,) = _call(hubspot, "GET", "pipelines").json["result"]
    assert (pipeline["id"], pipeline["created_at"], pipeline["updated_at"]) == ("default", None, None)
    stages = _call(hubspot, "GET", "stages").json["result"]
    assert {(each["created_at"], each["updated_at"]) for each in stages} == {(None, None)}
    assert [each["status"] for each in stages] == ["active"] * 5 + ["won", "lost"]
    for operator in ("gt", "lt"):
        assert _named(_call(hubspot, "GET", "pipelines", f"&created_at[{operator}]=2026-01-01")) == []
    monkeypatch.undo()
    hubspot.simulator.reset()
