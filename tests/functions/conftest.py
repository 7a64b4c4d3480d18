"""The functions, called with whole events or over HTTP, in front of each provider's simulator."""

from __future__ import annotations

import importlib
import io
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.gateway import LambdaContext
from local.simulators.base import Received
from local.simulators.base import Simulator as Simulated
from local.world import World
from tests.conftest import CLOSE, HUBSPOT, Answer, Http

ACCOUNTS = {"close": CLOSE, "hubspot": HUBSPOT}
PATH = "/unified/crm/pipelines"
STAGES = [
    {"name": "Qualified", "status": "active"},
    {"name": "Signed", "status": "won"},
    {"name": "Gone", "status": "lost"},
]
PIPELINE = {"name": "Sales", "stages": STAGES}
Event = dict[str, Any]


@dataclass
class Place:
    """A provider with its demo account."""

    name: str
    simulator: Simulated
    http: Http

    @property
    def account(self) -> str:
        return ACCOUNTS[self.name]

    @property
    def sent(self) -> Received:
        """The one request that came here."""
        (received,) = self.simulator.received
        return received

    @property
    def wire(self) -> dict[str, str]:
        """The provider's own words."""
        if self.name == "close":
            return {"name": "name", "stages": "statuses", "stage_name": "label", "path": "/api/v1/pipeline/"}
        return {"name": "label", "stages": "stages", "stage_name": "label", "path": "/crm/v3/pipelines/deals"}

    def create(self, body: Any = PIPELINE, query: str = "", **options: Any) -> Answer:
        return self.http.create(self.account, body, query, **options)


@pytest.fixture(params=ACCOUNTS)
def place(request: pytest.FixtureRequest, world: World, http: Http) -> Place:
    return Place(request.param, world.simulators[request.param], http)  # type: ignore[arg-type]


@pytest.fixture
def close(world: World, http: Http) -> Place:
    return Place("close", world.simulators["close"], http)  # type: ignore[arg-type]


@pytest.fixture
def hubspot(world: World, http: Http) -> Place:
    return Place("hubspot", world.simulators["hubspot"], http)  # type: ignore[arg-type]


@pytest.fixture
def api(world: World) -> Callable[..., Answer]:  # noqa: ARG001 - the environment is the world's
    """The API function, called directly: an event to its answer."""
    handler = importlib.import_module("api.app").handler

    def call(event: Event, seconds: float = 29) -> Answer:
        found = handler(event, LambdaContext("unified-crm-api", seconds))
        assert isinstance(found["body"], str)
        json.dumps(found)
        return Answer(found["statusCode"], {k.lower(): v for k, v in found["headers"].items()}, found["body"])

    return call


@pytest.fixture
def authorize(world: World) -> Callable[..., Any]:  # noqa: ARG001 - the environment is the world's
    """The authorizer, called directly."""
    handler = importlib.import_module("authorizer.app").handler
    return lambda event: handler(event, LambdaContext("unified-crm-authorizer", 10))


class Log:
    """What the functions logged."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def line(self, message: str) -> dict[str, Any]:
        (found,) = [line for line in self.lines if line["message"] == message]
        return found


@pytest.fixture
def log(world: World) -> Iterator[Log]:  # noqa: ARG001 - a function may read its environment when it is imported
    handlers = [
        importlib.import_module(name).logger.registered_handler for name in ("api.telemetry", "authorizer.tokens")
    ]
    stream = io.StringIO()
    before = [handler.setStream(stream) for handler in handlers]
    yield Log(stream)
    for handler, old in reversed(list(zip(handlers, before, strict=True))):
        if old is not None:
            handler.setStream(old)


def an_event(
    body: Any = PIPELINE,
    query: str = f"integrated_account_id={CLOSE}",
    *,
    method: str = "POST",
    path: str = PATH,
    headers: dict[str, str] | None = None,
    context: Any = None,
    encode: bool = False,
    **more: Any,
) -> Event:
    """A request as API Gateway hands it on (HTTP API, payload 2.0). `body` as JSON, text and bytes as they are."""
    if isinstance(body, bytes):
        body, encode = b64encode(body).decode(), True
    elif body is not None and not isinstance(body, str):
        body = json.dumps(body)
    if encode:
        more["isBase64Encoded"] = True
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"content-type": "application/json", "authorization": "Bearer demo-token"}
        if headers is None
        else headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3d4e5",
            "authorizer": {"lambda": {"tenant": "demo", "accounts": "*"} if context is None else context},
            "domainName": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "",
            },
            "requestId": "zWLGlF+z3Nhu2zE=",
            "routeKey": "$default",
            "stage": "$default",
            "time": "12/Nov/2025:14:03:28 +0000",
            "timeEpoch": 1762956208131,
        },
        "isBase64Encoded": False,
        **({} if body is None else {"body": body}),
        **more,
    }
