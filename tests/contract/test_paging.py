"""Providers that answer a list page by page: a toy of each kind, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from local.simulators.base import Account as Secret
from local.simulators.base import Received, Refused, Simulator, route
from local.simulators.base import Reply as Answer
from unified_crm.accounts import Account
from unified_crm.credentials import Bearer
from unified_crm.deadline import Deadline
from unified_crm.engine import Options
from unified_crm.errors import ProviderBadReply
from unified_crm.lists import Cursor, ListOptions
from unified_crm.mapping import Field, Table
from unified_crm.paging import ByCursor, ByNumber, ByOffset, every
from unified_crm.provider import Call, Entities, Flow, Pipelines, Provider, RateLimit, Request, bearer
from unified_crm.verbs import Verbs

TOKEN = "paged-demo-token-31"
PAGINGS: dict[str, ByCursor | ByOffset | ByNumber] = {
    "cursor": ByCursor("data.items", next="paging.next.after", parameter="after", limit=("limit", 3)),
    "offset-total": ByOffset("data.items", total="meta.total", limit=("limit", 3)),
    "offset-more": ByOffset("data.items", "_skip", more="has_more", limit=("_limit", 3), bare_first=True),
    "offset-to-the-empty-page": ByOffset("data.items", limit=("limit", 3)),
    "number": ByNumber("data.items", limit=("per_page", 3)),
}


class PagedSimulator(Simulator):
    """Answers at most three at a time, in each of the ways that there are. `wrong`: there is always one more page."""

    name = "paged"
    demo_account_id = "00000000-0000-4000-8000-000000000909"
    demo_account: ClassVar[Secret] = {
        "provider": "paged",
        "tenant": "demo",
        "credentials": {"type": "bearer", "token": TOKEN},
        "settings": {},
    }
    settings: ClassVar[dict[str, Any]] = {"wrong": False}

    def fresh(self) -> dict[str, Any]:
        return {"items": []}

    def admit(self, request: Received) -> None:
        if request.bearer != TOKEN:
            raise Refused(Answer(401, {"message": "Who are you?"}))

    def no_route(self, request: Received, allowed: tuple[str, ...]) -> Answer:  # noqa: ARG002
        return Answer(404, {"message": "No."})

    def too_many(self, retry_after: int | None) -> Answer:  # noqa: ARG002
        return Answer(429, {"message": "Slow."})

    def plant(self, name: str, stages: list[dict[str, Any]], entity: str | None, remote: dict[str, Any]) -> str:  # noqa: ARG002
        self.state["items"].append({"id": name, "name": name, "stages": []})
        return name

    def view(self, entity: str | None) -> list[dict[str, Any]]:  # noqa: ARG002
        return [dict(each) for each in self.state["items"]]

    def fill(self, stage_id: str, records: int, pipeline_id: str, entity: str | None) -> None:  # noqa: ARG002
        raise LookupError("items have no stages")

    @route("GET", "/v1/items")
    def items(self, request: Received) -> Answer:
        query = dict(request.query)
        assert len(query) == len(request.query), "a parameter was sent twice"
        size = 3
        if "page" in query:
            start = (int(query["page"]) - 1) * size
        else:
            start = int(query.get("after") or query.get("offset") or query.get("_skip") or 0)
        end = start + size
        items = self.state["items"]
        more = self.world["wrong"] or end < len(items)
        return Answer(
            200,
            {
                "data": {"items": items[start:end]},
                "paging": {"next": {"after": "3" if self.world["wrong"] else str(end)}} if more else {},
                "meta": {"total": str(len(items))},
                "has_more": more,
            },
        )


ITEM = Table(
    Field("id", read_only=True),
    Field("name", required=True),
    Field("stages", each=Table(Field("id", read_only=True), Field("name", required=True))),
)


def _provider(kind: str) -> Provider:
    def list_(_: Call) -> Flow:
        return (yield from every(Request("GET", "/items", main=True), PAGINGS[kind]))

    return Provider(
        name="paged",
        label="Paged",
        docs=("https://paged.example",),
        base_url="https://paged.example/v1",
        auth={"bearer": bearer},
        entities=Entities({"opportunity": "item"}),
        pipelines=Pipelines(table=lambda _: ITEM, list=list_),
        errors=(),
        rate_limit=RateLimit(limit=1),
    )


@pytest.fixture
def simulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[PagedSimulator]:
    with PagedSimulator(**getattr(request, "param", {})) as running:
        monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({"paged": running.url}))
        yield running


def _verbs(kind: str, **options: Any) -> Verbs:
    account = Account("a", "demo", _provider(kind), Bearer(type="bearer", token=SecretStr(TOKEN)), {})
    return Verbs(account, Options(**options), Deadline(10))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 9])
@pytest.mark.parametrize("kind", PAGINGS)
def test_every_page_is_read_once_and_in_order(simulator: PagedSimulator, kind: str, count: int) -> None:
    names = [simulator.seed(f"Item {index}")["name"] for index in range(count)]
    page = _verbs(kind).list_pipelines(ListOptions(1000))
    assert [unified["name"] for unified, _ in page.items] == names
    queries = [tuple(request.query) for request in simulator.received]
    assert len(queries) == len(set(queries)) <= count // 3 + 2


@pytest.mark.parametrize("kind", PAGINGS)
def test_our_pages_do_not_show_the_providers(simulator: PagedSimulator, kind: str) -> None:
    names = [simulator.seed(f"Item {index}")["name"] for index in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = _verbs(kind).list_pipelines(ListOptions(2, Cursor.decode(cursor) if cursor else None))
        assert page.items
        seen += [unified["name"] for unified, _ in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == names


@pytest.mark.parametrize("kind", PAGINGS)
def test_the_callers_remote_query_goes_with_every_page_and_wins(simulator: PagedSimulator, kind: str) -> None:
    for index in range(4):
        simulator.seed(f"Item {index}")
    _verbs(kind, remote_query=(("filter[x]", "1"),)).list_pipelines(ListOptions())
    assert len(simulator.received) >= 2
    assert all(("filter[x]", "1") in request.query for request in simulator.received)


@pytest.mark.parametrize("simulator", [{"wrong": True}], indirect=True)
@pytest.mark.parametrize("kind", ["cursor"])
def test_a_cursor_that_repeats_is_refused(simulator: PagedSimulator, kind: str) -> None:
    for index in range(9):
        simulator.seed(f"Item {index}")
    with pytest.raises(ProviderBadReply, match="do not come to an end"):
        _verbs(kind).list_pipelines(ListOptions())
    assert len(simulator.received) == 2


@pytest.mark.parametrize("simulator", [{"wrong": True}], indirect=True)
def test_pages_without_end_are_refused(simulator: PagedSimulator) -> None:
    """Always more, and never an empty page: a caller's own parameter keeps the provider at its first page."""
    for index in range(9):
        simulator.seed(f"Item {index}")
    with pytest.raises(ProviderBadReply, match="do not come to an end"):
        _verbs("offset-more", remote_query=(("_skip", "0"),)).list_pipelines(ListOptions())
    assert len(simulator.received) <= 201
