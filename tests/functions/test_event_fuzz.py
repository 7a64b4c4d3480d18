"""Events that API Gateway could make of anything that a client sends, and events that nothing could make."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from local.world import World
from tests.conftest import CLOSE, HUBSPOT, Answer
from tests.functions.conftest import PIPELINE, an_event
from tests.unit.strategies import any_text, bounded, json_values, texts

Event = dict[str, Any]
EVENTS = [json.loads(path.read_text()) for path in sorted(Path(__file__).parents[2].glob("events/*.json"))]
STAGE = {"name": "New", "pipeline": {"id": "1"}, "position": 0, "status": "active"}

many = settings(bounded, max_examples=350)
fewer = settings(bounded, max_examples=150)
"""A thousand in all, and the same in every run: derandomized, as all are."""

# What a client can choose. Header values and paths reach the function as Unicode text, never as half a surrogate pair.
_sendable = st.text(st.characters(codec="utf-8"), max_size=30)
_names = st.sampled_from(
    [
        "content-type",
        "authorization",
        "idempotency-key",
        "content-length",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-amzn-trace-id",
        "host",
        "cookie",
        "accept",
    ]
)
_values = st.sampled_from(
    ["application/json", "application/json; charset=utf-16", "text/plain", "*/*", "", "key-1", "0", "a,b", "Bearer x"]
)
_headers = st.dictionaries(_names | st.text(min_size=1, max_size=12), _values | _sendable, max_size=6)
_ids = st.sampled_from(["1", "default", "a:b", "meta", "create", "%2F", "..", "0", "é"]) | st.text(
    st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=8
)
_paths = st.one_of(
    st.sampled_from(["/unified/crm/pipelines", "/unified/crm/stages", "/openapi.json", "/docs", "/", "", "//"]),
    st.builds("/unified/crm/{}/{}".format, st.sampled_from(["pipelines", "stages", "contacts"]), _ids),
    st.builds("/unified/crm/{}/meta/{}".format, st.sampled_from(["pipelines", "stages"]), _ids),
    _sendable.map("/".__add__),
)
_parameters = st.sampled_from(
    [
        "limit=1",
        "limit=99999999999999999999",
        "next_cursor=",
        "next_cursor=WzAsbnVsbF0",
        "truto_dry_run=true",
        "truto_explain=1",
        "truto_response_format=raw",
        "truto_response_format=normalized",
        "truto_unsupported=skip",
        "truto_force_delete=true",
        "prune_stages=true",
        "truto_exclude_fields[]=id",
        "truto_exclude_fields[x]=id",
        "entity=contact",
        "entity=%2e%2e",
        "pipeline[id]=1",
        "pipeline%5Bid%5D=%00",
        "remote_query[a][b][]=1",
        "remote_query[a]=%0d%0a",
        "created_at[gt]=2026-01-01T00:00:00Z",
        "updated_at[lte]=9999-12-31T23:59:59-14:00",
        "created_at[ne]=x",
    ]
)
_queries = st.builds(
    lambda account, rest: "&".join([*account, *rest]),
    st.sampled_from([[f"integrated_account_id={CLOSE}"], [f"integrated_account_id={HUBSPOT}"]] * 3 + [[]]),
    st.lists(_parameters | _sendable | st.builds("{}={}".format, _sendable, _sendable), max_size=4),
)
_objects = st.sampled_from([PIPELINE, STAGE, {"name": "New"}, {"remote_data": {"name": None}}, {}])
_contents = st.one_of(
    _objects.map(json.dumps),
    st.builds(lambda whole, more: json.dumps({**whole, **more}), _objects, st.dictionaries(texts, json_values)),
    json_values.map(json.dumps),
    st.builds(lambda text, cut: text[: len(text) - cut], _objects.map(json.dumps), st.integers(1, 20)),
    _sendable,
)
_bodies = st.one_of(
    st.just({}),
    _contents.map(lambda text: {"body": text}),
    (_contents.map(str.encode) | st.binary(max_size=40)).map(
        lambda content: {"body": b64encode(content).decode(), "isBase64Encoded": True}
    ),
)
_methods = st.sampled_from(["GET", "POST", "PATCH", "DELETE"] * 3 + ["PUT", "HEAD", "OPTIONS", "get", "PROPFIND", "X"])
_contexts = st.sampled_from(
    [{"tenant": "demo", "accounts": "*"}] * 4
    + [
        {"tenant": "demo", "accounts": CLOSE},
        {"tenant": "demo", "accounts": ""},
        {"tenant": "other", "accounts": "*"},
        {"tenant": "", "accounts": "*"},
        {"tenant": "demo", "accounts": ",,"},
        {"error": "x"},
        {},
    ]
)


@st.composite
def _possible(draw: st.DrawFn) -> Event:
    """An event that API Gateway could hand on, of any request that gets past it."""
    path, query = draw(_paths), draw(_queries)
    event = an_event(None, query, method=draw(_methods), path=path, headers=draw(_headers), context=draw(_contexts))
    if draw(st.integers(0, 9)) == 0:
        del event["requestContext"]["authorizer"]
    optional: dict[str, Any] = {
        "cookies": draw(st.lists(_sendable, max_size=2)),
        "queryStringParameters": {"a": "1,2"} if query else None,
        "pathParameters": {"proxy": path} if path else None,
        "stageVariables": None,
    }
    wanted = draw(st.sets(st.sampled_from(sorted(optional)), max_size=2))
    return {**event, **{name: optional[name] for name in sorted(wanted)}, **draw(_bodies)}


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each part of a JSON value is, as keys and indexes from its root."""
    yield place
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _places(each, (*place, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _places(each, (*place, index))


_anything = st.one_of(
    st.none(), json_values, any_text, st.just({}), st.just([]), st.integers(), st.booleans(), st.floats(allow_nan=False)
)


@st.composite
def _impossible(draw: st.DrawFn, valid: st.SearchStrategy[Event]) -> Any:
    """A valid event with parts taken out, or replaced by anything; the whole of it now and then."""
    event = deepcopy(draw(valid))
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(event))
        *above, last = draw(st.sampled_from(places[1:])) if len(places) > 1 else (None,)
        if last is None or draw(st.integers(0, 49)) == 0:
            return draw(_anything)
        part: Any = event
        for key in above:
            part = part[key]
        if draw(st.booleans()):
            part[last] = draw(_anything)
        else:
            del part[last]
    return event


@many
@given(_possible())
def test_whatever_a_client_sends_is_answered_and_is_no_fault_of_ours(
    api: Callable[..., Answer], world: World, event: Event
) -> None:
    for name in ("close", "hubspot"):
        world.simulators[name].reset()  # type: ignore[attr-defined]
    answer = api(event)
    assert 200 <= answer.status < 500, answer.text
    if answer.status >= 400:
        assert answer.json["statusCode"] == answer.status
        assert {"error", "message", "code", "request_id"} <= answer.json.keys()


@many
@given(_impossible(st.sampled_from(EVENTS) | _possible()))
def test_what_is_no_event_is_refused_and_nothing_breaks(api: Callable[..., Answer], world: World, event: Any) -> None:
    for name in ("close", "hubspot"):
        world.simulators[name].reset()  # type: ignore[attr-defined]
    answer = api(event)
    assert 200 <= answer.status < 500, answer.text
    assert answer.headers["content-type"]


_tokens = st.sampled_from(
    ["Bearer demo-token", "Bearer ", "Bearer x", "bearer demo-token", "Basic eA==", "Bearer \x00"]
)


@st.composite
def _questions(draw: st.DrawFn) -> Event:
    """What API Gateway asks an authorizer, of any request."""
    event: Event = deepcopy(draw(_possible()))
    for absent in ("body", "isBase64Encoded"):
        event.pop(absent, None)
    event["requestContext"].pop("authorizer", None)
    token = draw(_tokens | _sendable | _sendable.map("Bearer ".__add__))
    event["headers"] = {**event["headers"], draw(st.sampled_from(["authorization", "Authorization"])): token}
    return {
        **event,
        "type": "REQUEST",
        "routeArn": "arn:aws:execute-api:us-east-1:1:a/$default/GET/",
        "identitySource": [token],
    }


def _let_in(event: Any) -> bool:
    """Whether some header of the event holds a good token: who comes in must have sent one."""
    headers = event.get("headers") if isinstance(event, dict) else None
    values = headers.values() if isinstance(headers, dict) else ()
    return any(
        isinstance(each, str) and each.split() in (["Bearer", "demo-token"], ["bearer", "demo-token"])
        for each in values
    )


def _is_an_answer(answer: Any, event: Any) -> None:
    if answer["isAuthorized"] is True:
        assert answer == {"isAuthorized": True, "context": {"tenant": "demo", "accounts": "*"}}
        assert _let_in(event)
    else:
        assert answer == {"isAuthorized": False}


@fewer
@given(_questions())
def test_the_authorizer_answers_whatever_a_client_sends(authorize: Callable[[Any], Any], event: Event) -> None:
    _is_an_answer(authorize(event), event)


@fewer
@given(_impossible(_questions()))
def test_the_authorizer_answers_what_is_no_event(authorize: Callable[[Any], Any], event: Any) -> None:
    _is_an_answer(authorize(event), event)
