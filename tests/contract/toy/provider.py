"""Toy, a CRM that exists only here. https://toy.example/api/boards"""

from __future__ import annotations

from unified_crm.mapping import Field, Table
from unified_crm.provider import (
    Call,
    Editor,
    Entities,
    Flow,
    Pipelines,
    Provider,
    RateLimit,
    Record,
    Reply,
    Request,
    Rule,
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


def list_(_: Call) -> Flow:
    """Everything at once."""
    return (yield Request("GET", "/boards", main=True)).records("boards")


def get(_: Call, id_: str) -> Flow:
    """One board with its columns."""
    return (yield Request("GET", _board(id_), main=True)).object()


def create(call: Call) -> Flow:
    """One call."""
    body = BOARD.to_remote(call.values)
    return (yield Request("POST", "/boards", json=body, main=True, creates=Reply.object)).object()


def _board(id_: str) -> str:
    return f"/boards/{segment(id_)}"


def _column(board: Record, column: Record) -> str:
    return f"{_board(board['id'])}/columns/{segment(column['id'])}"


EDITOR = Editor(
    write=lambda _, board, body: Request("PATCH", _board(board["id"]), json=body),
    insert=lambda _, board, body: Request("POST", f"{_board(board['id'])}/columns", json=body),
    change=lambda _, board, column, body: Request("PATCH", _column(board, column), json=body),
    remove=lambda _, board, column: Request("DELETE", _column(board, column)),
    delete=lambda _, id_: Request("DELETE", _board(id_)),
    again=lambda column: {"title": column["title"], "kind": column["kind"]},
)


PROVIDER = Provider(
    name="toy",
    label="Toy",
    docs=("https://toy.example/api/boards",),
    base_url="https://toy.example/api",
    auth={"bearer": bearer},
    entities=Entities({"opportunity": "opportunity"}),
    pipelines=Pipelines(table=lambda _: BOARD, list=list_, get=get, create=create, editor=EDITOR),
    errors=(Rule("in_use", 409, r"in_use"),),
    rate_limit=RateLimit(limit=10),
)
