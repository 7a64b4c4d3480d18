"""What every test has: a guard against leaks, and the local world."""

from __future__ import annotations

import json
import signal
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import urllib3

from local import simulators
from local.world import World

CLOSE = "62f44730-dd91-461e-bd6a-aedd9e0ad79d"
HUBSPOT = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
SECRETS = simulators.demo_secrets()

# Where a script runs the tests in its background, SIGINT is ignored, and would be by what tests start and end with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """No test passes in whose output, log or failure text a demo credential can be read."""
    report = yield
    text = report.longreprtext + "".join(content for _, content in report.sections)
    found = [secret for secret in SECRETS if secret in text]
    if found and "shows_secrets" not in item.keywords:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {len(found)} demo credential(s) in the captured output of {report.when}"
    return report


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `headers` have lower-case names."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Http:
    """A plain HTTP client of one origin. It checks of every answer that it shows no credential."""

    def __init__(self, url: str, token: str | None = "demo-token") -> None:
        self.url, self.token = url, token
        self._pool = urllib3.PoolManager(retries=False)

    def __call__(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, token: str | None = ""
    ) -> Answer:
        """`body` is sent as JSON, bytes as they are; `token` None sends none."""
        token = self.token if token == "" else token
        sent = {"content-type": "application/json"} if body is not None else {}
        sent |= {"authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        reply = self._pool.request(method, self.url + path, body=data, headers={**sent, **(headers or {})})
        answer = Answer(reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.data.decode())
        shown = answer.text + str(answer.headers)
        assert not [secret for secret in SECRETS if secret in shown], "an answer shows a credential"
        return answer

    def create(self, account: str, body: Any, query: str = "", **options: Any) -> Answer:
        return self("POST", f"/unified/crm/pipelines?integrated_account_id={account}{query}", body, **options)

    def close(self) -> None:
        self._pool.clear()


@pytest.fixture(scope="session")
def running_world() -> Iterator[World]:
    with World(port=0) as world:
        yield world


@pytest.fixture
def world(running_world: World) -> World:
    """The local world, its simulators as on the first day."""
    for simulator in running_world.simulators.values():
        simulator.reset()  # type: ignore[attr-defined]  # World asks less of a simulator than these are
    return running_world


@pytest.fixture
def http(world: World) -> Iterator[Http]:
    client = Http(world.url)
    yield client
    client.close()
