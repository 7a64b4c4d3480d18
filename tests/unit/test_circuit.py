"""When a provider's circuit opens, what it lets through, and when it closes again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import sleep

import pytest
from pydantic import SecretStr

from local.simulators.base import Fault, closed_port
from tests.unit import toy
from tests.unit.servers import Exchange, Server, at_most, serving
from unified_crm import circuit
from unified_crm.accounts import Account
from unified_crm.circuit import Circuits
from unified_crm.credentials import Bearer
from unified_crm.deadline import Deadline
from unified_crm.errors import (
    CircuitOpen,
    ProviderBadReply,
    ProviderError,
    ProviderTimeout,
    ProviderUnreachable,
    RemoteError,
)
from unified_crm.provider import Call, Flow, Reply, Request
from unified_crm.sender import Sender
from unified_crm.transport import Exchange as Seen

POST = Request("POST", "/things", json={"name": "x"})


class Place:
    """A provider whose answers have the status `status`; 0 is none."""

    def __init__(self) -> None:
        self.status = 200
        self.pause = 0.0
        self.seen: list[Seen] = []
        self.server: Server

    def talk(self, exchange: Exchange) -> bool:
        sleep(self.pause)
        if not self.status:
            exchange.hang()
            return False
        exchange.send(f"HTTP/1.1 {self.status} X\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        return True

    def send(self, circuits: Circuits, *, seconds: float = 5, always: bool = False) -> Reply:
        credentials = Bearer(type="bearer", token=SecretStr(toy.TOKEN))
        sender = Sender(Account("a", "demo", toy.provider(), credentials, {}), self.seen.append, circuits)
        return sender.send(POST, Deadline(seconds), always=always)

    def fail(self, circuits: Circuits, times: int, status: int = 503, *, seconds: float = 5) -> None:
        before, self.status = self.status, status
        for _ in range(times):
            with pytest.raises(ProviderError) as caught:
                self.send(circuits, seconds=seconds)
            assert not isinstance(caught.value, CircuitOpen)
        self.status = before

    @property
    def count(self) -> int:
        return len(self.server.requests)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    made = Place()
    with serving(made.talk) as made.server:
        monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({"toy": made.server.url}))
        yield made


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_run_of_failures_opens_it(place: Place, status: int) -> None:
    circuits = Circuits()
    place.fail(circuits, 8, status)
    with at_most(0), pytest.raises(CircuitOpen) as caught:
        place.send(circuits)
    assert place.count == 8
    assert len(place.seen) == 8, "what was not sent is no call"
    error = caught.value
    assert (error.status, error.code, error.may_have_acted, error.retryable) == (503, "circuit_open", False, True)
    assert 1 <= int(error.headers["retry-after"]) <= 10
    assert "Toy" in error.message


def test_seven_do_not(place: Place) -> None:
    circuits = Circuits()
    place.fail(circuits, 7)
    assert place.send(circuits).status == 200


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
def test_any_other_answer_ends_the_run(place: Place, status: int) -> None:
    circuits = Circuits(3)
    for _ in range(2):
        place.fail(circuits, 2)
        place.status = status
        with suppress(RemoteError):
            place.send(circuits, seconds=1)
    place.status = 200
    assert place.send(circuits).status == 200


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500])
def test_what_is_not_an_outage_never_opens_it(place: Place, status: int) -> None:
    circuits = Circuits(2)
    place.fail(circuits, 5, status, seconds=1)
    assert place.send(circuits).status == 200


def test_timeouts_open_it(place: Place) -> None:
    circuits = Circuits(2)
    place.fail(circuits, 2, 0, seconds=0.2)
    with pytest.raises(CircuitOpen):
        place.send(circuits)


def test_calls_for_which_there_was_no_time_do_not(place: Place) -> None:
    circuits = Circuits(2)
    for _ in range(4):
        with pytest.raises(ProviderTimeout):
            place.send(circuits, seconds=0)
    assert place.send(circuits).status == 200


def test_a_provider_that_cannot_be_reached_opens_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    circuits = Circuits(4)
    monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({"toy": closed_port()}))
    for _ in range(2):  # each is tried twice
        with pytest.raises(ProviderUnreachable):
            place.send(circuits)
    with pytest.raises(CircuitOpen):
        place.send(circuits)


def test_each_address_has_its_own(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    circuits = Circuits(2)
    place.fail(circuits, 2)
    other = Place()
    with serving(other.talk) as other.server:
        monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({"toy": other.server.url}))
        assert other.send(circuits).status == 200
        monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({"toy": place.server.url}))
        with pytest.raises(CircuitOpen):
            place.send(circuits)


def test_what_must_be_sent_is_sent_all_the_same(place: Place) -> None:
    circuits = Circuits(2)
    place.fail(circuits, 2)
    assert place.send(circuits, always=True).status == 200
    with pytest.raises(CircuitOpen):
        place.send(circuits)


# Closing


def _open_until(place: Place, circuits: Circuits) -> int:
    """Calls until one is sent: its place in the row."""
    for attempt in range(60):
        try:
            place.send(circuits)
        except CircuitOpen:
            sleep(0.05)
        else:
            return attempt
    raise AssertionError("it stays open")


def test_one_call_that_succeeds_afterwards_closes_it(place: Place) -> None:
    circuits = Circuits(2, 1)
    place.fail(circuits, 2)
    assert _open_until(place, circuits) > 0
    assert place.send(circuits).status == 200
    place.fail(circuits, 1)
    assert place.send(circuits).status == 200, "the run begins anew"


def test_one_that_is_refused_closes_it_too(place: Place) -> None:
    circuits = Circuits(2, 1)
    place.fail(circuits, 2)
    place.status = 404
    with pytest.raises(RemoteError) as caught:
        _open_until(place, circuits)
    assert caught.value.status == 404
    place.status = 200
    assert place.send(circuits).status == 200


def test_one_that_fails_opens_it_again_at_once(place: Place) -> None:
    circuits = Circuits(3, 1)
    place.fail(circuits, 3)
    place.status = 503
    with pytest.raises(RemoteError):
        _open_until(place, circuits)
    with pytest.raises(CircuitOpen):
        place.send(circuits)
    assert place.count == 4
    place.status = 200
    assert _open_until(place, circuits) > 0


def test_of_many_at_once_one_tries(place: Place) -> None:
    circuits = Circuits(2, 1)
    place.fail(circuits, 2)
    sleep(1.1)
    place.pause = 0.3
    start = threading.Barrier(8)
    ends: list[str] = []

    def call() -> None:
        start.wait()
        try:
            place.send(circuits)
            ends.append("sent")
        except CircuitOpen:
            ends.append("refused")

    threads = [threading.Thread(target=call) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(ends) == ["refused"] * 7 + ["sent"]
    assert place.count == 3


def test_a_trial_that_never_ended_is_followed_by_another() -> None:
    """Its thread may be gone: after as long as it was open, the next call tries."""
    circuits, name = Circuits(1, 1), "a trial that never ended"
    gone, reply = ProviderUnreachable("gone"), Reply(200, {}, b"{}")

    def send(error: BaseException | None = None) -> Callable[[], Reply]:
        def send() -> Reply:
            if error:
                raise error
            return reply

        return send

    with pytest.raises(ProviderUnreachable):
        circuits.call(name, "Toy", send(gone))

    def trial() -> None:
        with suppress(SystemError):
            circuits.call(name, "Toy", send(SystemError()))

    sleep(1.1)
    thread = threading.Thread(target=trial)
    thread.start()
    thread.join()
    with pytest.raises(CircuitOpen):
        circuits.call(name, "Toy", send())
    sleep(2.1)
    assert circuits.call(name, "Toy", send()) is reply


# What it is told


def _raises(error: ProviderError) -> Callable[[], Reply]:
    def send() -> Reply:
        raise error

    return send


def _fine(sent: list[str] | None = None) -> Reply:
    if sent is not None:
        sent.append("it")
    return Reply(200, {}, b"{}")


@pytest.mark.parametrize("other", [ProviderBadReply("cut"), ProviderTimeout("no time", may_have_acted=False)])
def test_success_ends_a_run_whatever_was_between(other: ProviderError) -> None:
    """An end that counts neither way once stopped success from being counted."""
    circuits, name = Circuits(2), f"between {other}"
    for _ in range(3):
        with pytest.raises(ProviderUnreachable):
            circuits.call(name, "Toy", _raises(ProviderUnreachable("gone")))
        with pytest.raises(type(other)):
            circuits.call(name, "Toy", _raises(other))
        circuits.call(name, "Toy", _fine)


def test_what_was_sent_before_it_opened_tells_its_own_end() -> None:
    circuits, name = Circuits(2), "sent before it opened"

    def send() -> Reply:
        for _ in range(2):
            with pytest.raises(ProviderUnreachable):
                circuits.call(name, "Toy", _raises(ProviderUnreachable("gone")))
        raise ProviderTimeout("late")

    with pytest.raises(ProviderTimeout):
        circuits.call(name, "Toy", send)
    with pytest.raises(CircuitOpen):
        circuits.call(name, "Toy", _fine)


def test_while_one_tries_no_other_is_sent() -> None:
    """Also if the try ended with an answer that counts neither way."""
    circuits, name = Circuits(1, 1), "while one tries"
    sent: list[str] = []

    def other() -> None:
        with suppress(CircuitOpen):
            circuits.call(name, "Toy", lambda: _fine(sent))

    with pytest.raises(ProviderUnreachable):
        circuits.call(name, "Toy", _raises(ProviderUnreachable("gone")))
    sleep(1.1)
    with pytest.raises(ProviderBadReply):
        circuits.call(name, "Toy", _raises(ProviderBadReply("cut")))
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert not sent
    circuits.call(name, "Toy", _fine)
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert sent


# In flows


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[toy.Toy]:
    with toy.running(monkeypatch) as running:
        yield running


def _almost_open(tool: toy.Toy) -> None:
    """One failure more opens it."""
    for _ in range(circuit.FAILURES - 1):
        tool.simulator.fault(Fault("status", method="POST", status=503, body={"error": "down"}))
        with pytest.raises(ProviderError):
            _sender().send(POST, Deadline(5))


def _sender() -> Sender:
    return Sender(Account("a", "demo", toy.provider(), Bearer(type="bearer", token=SecretStr(toy.TOKEN)), {}))


def test_an_open_circuit_does_not_stand_in_the_way_of_taking_back(tool: toy.Toy) -> None:
    def flow(_: Call) -> Flow:
        yield toy.make("whole")._replace(main=True)
        _almost_open(tool)
        yield toy.make("one")

    tool.simulator.fault(Fault("status", at=2 + circuit.FAILURES - 1, status=503, body={"error": "down"}))
    with pytest.raises(ProviderError) as caught:
        tool.create(flow)
    assert "Nothing is left behind" in caught.value.message
    assert tool.simulator.names == []
    with pytest.raises(CircuitOpen):
        _sender().send(POST, Deadline(5))


def test_nor_of_looking_for_a_create_whose_answer_was_lost(tool: toy.Toy) -> None:
    _almost_open(tool)
    tool.simulator.fault(Fault("status", status=503, body={"error": "down"}, after=True))
    assert tool.create(values={"name": "whole"}).outcome == "adopted"
    assert tool.simulator.names == ["whole"]
