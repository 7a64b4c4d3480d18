"""Toy, a CRM that exists only here. https://toy.example/api/boards"""

from __future__ import annotations

from unified_crm.mapping import Field, Table
from unified_crm.provider import (
    Call,
    Entities,
    Flow,
    Provider,
    RateLimit,
    Reply,
    Request,
    Resource,
    Rule,
    Undo,
    bearer,
    segment,
)

COLUMN = Table(
    Field("id", read_only=True),
    Field("name", "title", required=True),
    Field("status", "kind", values={"active": "open", "closed": "shut"}, absent="active"),
)
BOARD = Table(
    Field("id", read_only=True),
    Field("name", "title", required=True),
    Field("stages", "columns", each=COLUMN),
    Field("created_at", "born", read_only=True),
)


def create(call: Call) -> Flow:
    """One call."""
    reply = yield Request("POST", "/boards", json=BOARD.to_remote(call.values), main=True, undo=_delete_made)
    return reply.object()


def list_(_: Call) -> Flow:
    """Everything at once."""
    return (yield Request("GET", "/boards", main=True)).records("boards")


def _delete_made(reply: Reply) -> Undo:
    board = reply.object()
    return Undo("pipeline", board["id"], board["title"], lambda: _delete(board["id"]))


def _delete(id_: str) -> Flow:
    yield Request("DELETE", f"/boards/{segment(id_)}")


PROVIDER = Provider(
    name="toy",
    label="Toy",
    docs=("https://toy.example/api/boards",),
    base_url="https://toy.example/api",
    auth={"bearer": bearer},
    entities=Entities({"opportunity": "opportunity"}),
    pipelines=Resource(table=lambda _: BOARD, create=create, list=list_),
    errors=(Rule("duplicate", 409),),
    rate_limit=RateLimit(limit=10, window=1),
)
