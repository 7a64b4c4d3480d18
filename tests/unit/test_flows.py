"""The built-in providers' flows, driven by hand: they need no network."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import bounded, json_values
from unified_crm import providers
from unified_crm.errors import ProviderBadReply
from unified_crm.provider import Call, Flow, Reply, Request
from unified_crm.settle import Settle

CLOSE, HUBSPOT = providers.load("close"), providers.load("hubspot")
VALUES = {"name": "Sales", "stages": [{"name": "One", "status": "active"}, {"name": "Won", "status": "won"}]}


def _reply(body: Any, status: int = 200, created: dict[str, Any] | None = None) -> Reply:
    return Reply(status, {}, json.dumps(body).encode(), created)


def _start(provider: Any, entity: str, values: dict[str, Any] = VALUES) -> tuple[Flow, Request]:
    flow = provider.pipelines.create(Call(entity, values))
    return flow, next(flow)


def _shown(flow: Flow, *replies: Any) -> list[tuple[str, str]]:
    """The requests of a whole flow, given the reply to each."""
    shown = []
    request = next(flow)
    for reply in replies:
        shown.append((request.method, request.path))
        try:
            request = flow.send(_reply(reply))
        except StopIteration:
            return shown
    return [*shown, (request.method, request.path)]


@pytest.mark.parametrize(
    ("entity", "path"),
    [("deals", "/crm/v3/pipelines/deals"), ("p_a b", "/crm/v3/pipelines/p_a%20b")],
)
def test_hubspots_create_is_one_call_and_tells_what_it_made(entity: str, path: str) -> None:
    flow, request = _start(HUBSPOT, entity, {"name": "Sales", "stages": [{"name": "One"}]})
    assert (request.method, request.path, request.main) == ("POST", path, True)
    assert request.creates is not None
    assert request.creates(_reply({"id": "7", "label": "Sales"}, 201)) == {"id": "7", "label": "Sales"}
    with pytest.raises(StopIteration) as stop:
        flow.send(_reply({}, 201, created={"id": "7"}))
    assert stop.value.value == {"id": "7"}


@pytest.mark.parametrize(
    ("statuses", "requests"),
    [
        ([{"id": "a", "label": "One", "type": "active"}, {"id": "b", "label": "Won", "type": "won"}], []),
        ([{"id": "a", "label": "One"}, {"id": "b", "label": "Won", "type": "won"}], []),
        ([], ["POST One", "POST Won", "GET"]),
        ([{"id": "a", "label": "One", "type": "active"}], ["POST Won", "GET", "PUT a new1"]),
        ([{"id": "x", "label": "New", "type": "active"}], ["RENAME x", "POST Won", "GET", "PUT x new1"]),
        ([{"id": "x", "label": "New", "type": "lost"}], ["POST One", "POST Won", "DELETE x", "GET"]),
        ([{"id": "b", "label": "Won", "type": "active"}], ["RENAME b", "POST Won", "GET", "PUT b new1"]),
        ([{"id": "b", "label": "Won", "type": "lost"}], ["DELETE b", "POST One", "POST Won", "GET"]),
        (
            [{"id": "b", "label": "Won", "type": "won"}, {"id": "a", "label": "One", "type": "active"}],
            ["GET", "PUT a b"],
        ),
    ],
)
def test_close_is_asked_for_what_is_not_there_yet(statuses: list[dict[str, str]], requests: list[str]) -> None:
    """A small Close of two lists: what it holds, and what it was asked for."""
    call = Call("opportunity", {"name": "Sales", "stages": [{"name": "One"}, {"name": "Won", "status": "won"}]})
    held, asked = [dict(each) for each in statuses], []
    flow = Settle(CLOSE, call, {"id": "p", "name": "Sales", "statuses": [dict(each) for each in held]}, []).settle()
    reply: Any = None
    try:
        while True:
            request = next(flow) if reply is None else flow.send(_reply(reply))
            if request.method == "POST":
                held.append({"id": f"new{len(held)}", "label": request.json["label"], "type": request.json["type"]})
                reply = held[-1]
                asked.append(f"POST {reply['label']}")
            elif request.method == "DELETE":
                id_ = request.path.split("/")[-2]
                held[:] = [each for each in held if each["id"] != id_]
                asked.append(f"DELETE {id_}")
                reply = {}
            else:
                if "/status/" in request.path:
                    (found,) = [each for each in held if each["id"] == request.path.split("/")[-2]]
                    found |= request.json
                    asked.append(f"RENAME {found['id']}")
                elif request.method == "PUT":
                    order = [each["id"] for each in request.json["statuses"]]
                    assert request.json["name"] == "Sales"
                    held.sort(key=lambda each: order.index(each["id"]))
                    asked.append(" ".join(["PUT", *order]))
                else:
                    asked.append("GET")
                reply = {"id": "p", "name": "Sales", "statuses": held}
    except StopIteration as stop:
        result = stop.value
    assert asked == requests
    assert [each["label"] for each in result["statuses"]] == ["One", "Won"]


@pytest.mark.parametrize("provider", [CLOSE, HUBSPOT], ids=lambda each: each.name)
def test_a_list_is_the_providers_records(provider: Any) -> None:
    flow = provider.pipelines.list(Call("deals"))
    assert next(flow).method == "GET"
    with pytest.raises(StopIteration) as stop:
        flow.send(_reply({"data": [{"id": "1"}], "results": [{"id": "1"}]}))
    assert stop.value.value == [{"id": "1"}]


@bounded
@given(json_values, st.sampled_from([CLOSE, HUBSPOT]))
def test_whatever_a_create_is_answered_a_flow_fails_in_a_way_that_the_engine_knows(body: Any, provider: Any) -> None:
    known = suppress(StopIteration, ProviderBadReply, LookupError, TypeError, ValueError, AttributeError)
    flow, request = _start(provider, "deals")
    assert request.creates is not None
    with known:
        request.creates(_reply(body))
    with known:
        flow.send(_reply(body))


# What a stage's status says, at HubSpot

DEALS = HUBSPOT.pipelines.table("deals")["stages"].each
TICKETS = HUBSPOT.pipelines.table("tickets")["stages"].each
OTHERS = HUBSPOT.pipelines.table("2-1234567")["stages"].each


@pytest.mark.parametrize(
    ("table", "metadata", "status"),
    [
        (DEALS, {"probability": "1.0"}, "won"),
        (DEALS, {"probability": "1"}, "won"),
        (DEALS, {"probability": 1}, "won"),
        (DEALS, {"probability": "0.0"}, "lost"),
        (DEALS, {"probability": 0}, "lost"),
        (DEALS, {"probability": "0.1", "isClosed": "false"}, "active"),
        (DEALS, {"probability": "0.999"}, "active"),
        (DEALS, {"isClosed": "true"}, "closed"),
        (DEALS, {"probability": "much", "isClosed": "false"}, "active"),
        (DEALS, {}, None),
        (DEALS, None, None),
        (DEALS, "odd", None),
        (TICKETS, {"ticketState": "OPEN"}, "active"),
        (TICKETS, {"ticketState": "CLOSED"}, "closed"),
        (TICKETS, {"ticketState": "OPEN", "isClosed": "false"}, "active"),
        (TICKETS, {"isClosed": "true"}, "closed"),
        (TICKETS, {}, None),
        (OTHERS, {"state": "CLOSED"}, "closed"),
        (OTHERS, {"state": "OPEN"}, "active"),
        (OTHERS, {}, None),
        (OTHERS, [], None),
    ],
)
def test_hubspots_metadata_is_read_as_a_status(table: Any, metadata: Any, status: str | None) -> None:
    stage = table.to_unified({"id": "1", "label": "Closed Lost", "metadata": metadata})
    assert stage["status"] == status


@bounded
@given(json_values)
def test_no_metadata_makes_reading_a_stage_fail(metadata: Any) -> None:
    for table in (DEALS, TICKETS, OTHERS):
        assert table is not None
        read = table.to_unified({"metadata": metadata, "displayOrder": metadata, "createdAt": metadata})
        assert read["status"] in ("active", "won", "lost", "closed", None)
        table.list_to_unified([{"displayOrder": metadata}, {"displayOrder": 1}, {}])
