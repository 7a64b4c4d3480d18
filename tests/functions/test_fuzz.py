"""Whole events that nobody would send: each gets an answer, and none is a fault of ours."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from local.world import World
from tests.conftest import CLOSE, HUBSPOT, Answer
from tests.functions.conftest import ACCOUNTS, PATH, an_event
from tests.unit.strategies import any_text, bounded, json_values, texts

_names = st.sampled_from(
    [
        "integrated_account_id",
        "truto_response_format",
        "truto_ignore_remote_data",
        "truto_exclude_fields",
        "truto_exclude_fields[]",
        "truto_exclude_fields[0]",
        "remote_query",
        "remote_query[a]",
        "remote_query[a][b][]",
        "remote_query[hapikey]",
        "remote_query%5Ba%5D",
        "entity",
        "truto_unsupported",
        "limit",
    ]
)
_words = st.sampled_from(["unified", "raw", "normalized", "true", "skip", "contact", "tickets", "..", "%2F", "%00", ""])
_queries = st.lists(st.tuples(_names | texts, _words | texts), max_size=6).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)
_stages = st.fixed_dictionaries(
    {},
    optional={
        "name": texts | st.none(),
        "status": st.sampled_from(["active", "won", "lost", "closed", None, "x"]),
        "remote_data": st.dictionaries(
            texts | st.sampled_from(["label", "metadata", "type", "id"]), json_values, max_size=3
        ),
        "x": json_values,
    },
)
_bodies = st.fixed_dictionaries(
    {},
    optional={
        "name": texts | json_values,
        "entity": st.sampled_from(["contact", "opportunity", "tickets", "../x", None]) | texts,
        "stages": st.lists(_stages, max_size=4) | json_values,
        "remote_data": st.dictionaries(
            texts | st.sampled_from(["name", "label", "statuses", "stages", "id"]), json_values, max_size=3
        )
        | json_values,
    },
)
_events = st.builds(
    an_event,
    _bodies | json_values | any_text | st.binary(max_size=60) | _bodies.map(lambda each: json.dumps(each).encode()),
    st.builds(
        lambda account, rest: f"{account}&{rest}",
        st.sampled_from([f"integrated_account_id={CLOSE}", f"integrated_account_id={HUBSPOT}", "", "x=1"]),
        _queries | texts,
    ),
    method=st.sampled_from(["POST"] * 6 + ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "ODD"]),
    path=st.sampled_from([PATH] * 6 + ["", "/", f"{PATH}/", f"{PATH}/1", "/a/../b", "/%00"])
    | any_text.map("/".__add__),
    headers=st.dictionaries(st.sampled_from(["content-type", "Content-Type", "accept"]) | texts, texts, max_size=3)
    | st.just({"content-type": "application/json"}),
    context=st.just(None) | st.fixed_dictionaries({}, optional={"tenant": texts, "accounts": texts}),
    cookies=st.lists(texts, max_size=2),
)


@bounded
@given(_events)
def test_whatever_the_event_the_answer_is_no_fault_of_ours(
    api: Callable[..., Answer], world: World, event: dict[str, Any]
) -> None:
    for simulator in world.simulators.values():
        simulator.reset()  # type: ignore[attr-defined]
    answer = api(event)
    assert 200 <= answer.status < 500, answer.text
    assert answer.headers["content-type"] == "application/json"
    if answer.status >= 400:
        assert answer.json["statusCode"] == answer.status
        assert {"error", "message", "code", "request_id"} <= answer.json.keys()


@bounded
@given(_bodies, st.sampled_from(sorted(ACCOUNTS)), st.booleans(), st.sampled_from(["fail", "skip"]))
def test_whatever_the_body_what_stands_there_is_what_the_answer_says(
    api: Callable[..., Answer], world: World, body: dict[str, Any], name: str, inline: bool, unsupported: str
) -> None:
    simulator: Any = world.simulators[name]
    simulator.reset()
    if name == "close":
        simulator.world["inline_statuses"] = inline
    try:
        query = f"integrated_account_id={ACCOUNTS[name]}&truto_unsupported={unsupported}"
        answer = api(an_event(b64encode(json.dumps(body).encode()).decode(), query, encode=True))
    finally:
        simulator.world |= {"inline_statuses": True} if name == "close" else {}
    state = simulator.snapshot()["pipelines"]
    held = state if name == "close" else [each for every in state.values() for each in every]
    if answer.status == 200:
        (only,) = held
        assert answer.json["id"] == only["id"]
        assert len(answer.json["stages"]) == len(only["statuses" if name == "close" else "stages"])
    else:
        assert answer.status < 500, answer.text
        assert held == []
