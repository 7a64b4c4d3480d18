"""A provider that is as simple as one can be: things, each created by a call of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from local.simulators.base import Received, Refused, Simulator, route
from local.simulators.base import Reply as Answer
from unified_crm.accounts import Account
from unified_crm.credentials import Bearer
from unified_crm.deadline import Deadline
from unified_crm.engine import Options
from unified_crm.errors import ProviderError
from unified_crm.mapping import Field, Table, timestamp
from unified_crm.provider import (
    Call,
    Editor,
    Entities,
    Flow,
    Pipelines,
    Provider,
    RateLimit,
    Reply,
    Request,
    bearer,
    segment,
)
from unified_crm.verbs import Result, Verbs

TOKEN = "toy-token-4711"

PART = Table(Field("id", read_only=True), Field("name", required=True))
THING = Table(
    Field("id", read_only=True),
    Field("name", required=True),
    Field("stages", "parts", each=PART),
    Field("created_at", "made", read_only=True, read=timestamp),
)


class ToySimulator(Simulator):
    name = "toy"
    demo_account_id = "0b0e5a6c-0000-4000-8000-00000000000a"
    demo_account: ClassVar[dict[str, Any]] = {
        "provider": "toy",
        "tenant": "demo",
        "credentials": {"type": "bearer", "token": TOKEN},
        "settings": {},
    }
    settings: ClassVar[dict[str, Any]] = {"times": True}

    def fresh(self) -> dict[str, Any]:
        return {"things": []}

    def admit(self, request: Received) -> None:
        if request.bearer != TOKEN:
            raise Refused(Answer(401, {"error": "Who are you?"}))

    def no_route(self, request: Received, allowed: tuple[str, ...]) -> Answer:  # noqa: ARG002
        return Answer(405 if allowed else 404)

    def too_many(self, retry_after: int | None) -> Answer:
        return Answer(429, {"error": "Slow"}, {} if retry_after is None else {"Retry-After": str(retry_after)})

    def view(self, entity: str | None) -> list[dict[str, Any]]:  # noqa: ARG002
        return [{"id": each["id"], "name": each["name"], "stages": []} for each in self.state["things"]]

    def plant(self, name: str, stages: list[dict[str, Any]], entity: str | None, remote: dict[str, Any]) -> str:  # noqa: ARG002
        self.state["things"].append({**self._thing({"name": name}), **remote})
        return str(self.state["things"][-1]["id"])

    def fill(self, stage_id: str, records: int, pipeline_id: str, entity: str | None) -> None:  # noqa: ARG002
        raise LookupError("things have no stages")

    @property
    def names(self) -> list[str]:
        return [each["name"] for each in self.snapshot()["things"]]

    @property
    def calls(self) -> list[str]:
        """Method and path of all requests, things by name where a name was sent."""
        return [f"{each.method} {each.json['name'] if each.json else each.path}" for each in self.received]

    def _thing(self, body: Mapping[str, Any]) -> dict[str, Any]:
        made = self.now().isoformat() if self.world["times"] else None
        return {**body, "id": f"t{next(self.numbers)}", "made": made}

    @route("POST", "/v1/things")
    def make(self, request: Received) -> Answer:
        body = request.json[0] if isinstance(request.json, list) else request.json
        self.state["things"].append(self._thing(body))
        return Answer(201, self.state["things"][-1])

    @route("GET", "/v1/things")
    def all(self, request: Received) -> Answer:  # noqa: ARG002
        return Answer(200, {"things": self.state["things"]})

    @route("GET", "/v1/things/{id_}")
    def one(self, request: Received, id_: str) -> Answer:  # noqa: ARG002
        found = [each for each in self.state["things"] if each["id"] == id_]
        return Answer(200, found[0]) if found else Answer(404, {"error": "No such thing"})

    @route("DELETE", "/v1/things/{id_}")
    def drop(self, request: Received, id_: str) -> Answer:
        answer = self.one(request, id_)
        self.state["things"] = [each for each in self.state["things"] if each["id"] != id_]
        return Answer(204) if answer.status == 200 else answer


def delete(id_: str) -> Flow:
    yield Request("DELETE", f"/things/{segment(id_)}")


def get(_: Call, id_: str) -> Flow:
    return (yield Request("GET", f"/things/{segment(id_)}", main=True)).object()


def _never(*_: Any) -> Request:
    raise AssertionError("no part is written by itself")


EDITOR = Editor(insert=_never, change=_never, remove=_never, delete=lambda _, id_: next(delete(id_)))


def make(name: str, **more: Any) -> Request:
    return Request("POST", "/things", json={"name": name}, **{"creates": Reply.object, **more})


def create(call: Call) -> Flow:
    """Three creates, where there are two stages, and a read that may fail."""
    thing = (yield make(call.values["name"])._replace(main=True)).object()
    parts = []
    for stage in call.values.get("stages") or []:
        parts.append((yield make(stage["name"])).object())  # noqa: PERF401 - a comprehension cannot yield
    whole = {**thing, "parts": parts}
    try:
        return (yield Request("GET", f"/things/{thing['id']}")).object()
    except ProviderError:  # everything is written
        return whole


def list_(_: Call) -> Flow:
    return (yield Request("GET", "/things")).records("things")


def provider(flow: Callable[[Call], Flow] | None = create, **more: Any) -> Provider:
    resource = Pipelines(table=lambda _: THING, create=flow, get=get, editor=EDITOR, list=more.pop("list", list_))
    given = {
        "name": "toy",
        "label": "Toy",
        "docs": ("https://toy.example/docs",),
        "base_url": "https://toy.example/v1",
        "auth": {"bearer": bearer},
        "entities": Entities({"opportunity": "thing"}),
        "pipelines": resource,
        "errors": (),
        "rate_limit": RateLimit(limit=10),
    }
    return Provider(**{**given, **more})


VALUES: dict[str, Any] = {"name": "whole", "stages": [{"name": "one"}, {"name": "two"}]}


@dataclass
class Toy:
    """The toy's simulator, and a way to create there."""

    simulator: ToySimulator

    def create(
        self,
        flow: Callable[[Call], Flow] | None = create,
        values: Mapping[str, Any] | None = None,
        *,
        seconds: float = 10,
        declared: Provider | None = None,
        **options: Any,
    ) -> Result:
        account = Account("a", "demo", declared or provider(flow), Bearer(type="bearer", token=SecretStr(TOKEN)), {})
        given = dict(values or VALUES)
        verbs = Verbs(account, Options(**options), Deadline(seconds), entity=given.pop("entity", None), creates=True)
        return verbs.create_pipeline(given)


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch, **world: Any) -> Iterator[Toy]:
    with ToySimulator(**world) as simulator:
        monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({"toy": simulator.url}))
        yield Toy(simulator)
