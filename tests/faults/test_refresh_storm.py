"""A hundred calls in eight processes, all of an account whose token has run out: it is renewed once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import pytest
from moto.dynamodb.models.table import Table

from local.simulators.base import Fault, Received, Simulator
from local.world import World

ROOT = Path(__file__).resolve().parents[2]
CALLS = (13, 12) * 4
LEASE_SECONDS = 4


class Caller:
    """A process that calls."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rw")
        self.pid = int(self._lines.readline())

    def start(self, account: str, calls: int) -> None:
        print(json.dumps({"account": account, "calls": calls}), file=self._lines, flush=True)

    def answers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._lines.readline())
        return found

    def kill(self) -> None:
        """At once, with nothing put in order."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._lines.readline() == ""
        self.close()

    def close(self) -> None:
        self._lines.close()
        self._connection.close()


@pytest.fixture(scope="module")
def tables_of_one_mind() -> Iterator[None]:
    """Moto looks at a condition and writes in two steps, which DynamoDB does in one."""
    lock, put_item = Lock(), Table.put_item

    def put(self: Table, *args: Any, **options: Any) -> Any:
        with lock:
            return put_item(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "put_item", put)
        yield


@pytest.fixture(scope="module")
def processes(running_world: World, tables_of_one_mind: None) -> Iterator[list[Caller]]:  # noqa: ARG001 - its environment
    """Eight to call, and one for each provider that will not live."""
    path = os.pathsep.join(str(ROOT / each) for each in ("functions", "layers/crm", "."))
    environment = {**os.environ, "PYTHONPATH": path, "OAUTH_LEASE_SECONDS": str(LEASE_SECONDS)}
    pairs = [socket.socketpair() for _ in range(len(CALLS) + 2)]
    theirs = [their.fileno() for _, their in pairs]
    command = [sys.executable, str(Path(__file__).with_name("caller.py")), *map(str, theirs)]
    with subprocess.Popen(command, env=environment, pass_fds=theirs):
        for _, their in pairs:
            their.close()
        callers = [Caller(ours) for ours, _ in pairs]
        yield callers
        for each in callers:
            each.close()


@pytest.fixture(params=["close", "hubspot"])
def simulator(request: pytest.FixtureRequest, world: World) -> Simulator:
    found = world.simulators[request.param]
    assert isinstance(found, Simulator)
    found.seed("Sales", ["New"])
    return found


@pytest.fixture
def account(simulator: Simulator, world: World) -> str:
    """An account whose token has run out."""
    (stored,) = [each for each in simulator.accounts if each["credentials"]["type"] == "oauth2"]
    ended = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    account_id = str(uuid4())
    world.add_account(account_id, {**stored, "credentials": {**stored["credentials"], "expires_at": ended}})
    simulator.expire_tokens()
    return account_id


def _asked(simulator: Simulator) -> list[Received]:
    assert simulator.tokens
    return [each for each in simulator.received if each.path == simulator.tokens.path]


def _await_answers(callers: list[Caller]) -> None:
    """A hundred, all by one token, and all good."""
    answers = [each for caller in callers for each in caller.answers()]
    assert [each["error"] for each in answers if "error" in each] == []
    assert len(answers) == 100
    assert {tuple(each["pipelines"]) for each in answers} == {("Sales",)}
    assert len({each["token"] for each in answers}) == 1


def test_a_hundred_calls_at_once_renew_the_token_once(
    simulator: Simulator, account: str, processes: list[Caller]
) -> None:
    callers = processes[: len(CALLS)]
    for caller, calls in zip(callers, CALLS, strict=True):
        caller.start(account, calls)
    _await_answers(callers)
    assert simulator.refreshes == 1
    assert len(_asked(simulator)) == 1


def test_when_who_renews_is_killed_another_does_once(
    simulator: Simulator, account: str, processes: list[Caller]
) -> None:
    assert simulator.tokens
    simulator.fault(Fault("hang", path=simulator.tokens.path, seconds=5))
    callers, victim = processes[: len(CALLS)], processes.pop()
    victim.start(account, 1)
    while not _asked(simulator):
        time.sleep(0.01)
    for caller, calls in zip(callers, CALLS, strict=True):
        caller.start(account, calls)
    victim.kill()
    _await_answers(callers)
    assert simulator.refreshes == 1
    assert len(_asked(simulator)) == 2
