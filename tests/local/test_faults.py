"""Each fault goes wrong in the way it promises, at the request it promises, before or after the provider acted."""

import json
import socket
import time
from collections.abc import Iterator
from http.client import IncompleteRead, RemoteDisconnected
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.simulators import load, names
from local.simulators.base import Fault, Kind, Simulator, closed_port
from local.simulators.close import CloseSimulator
from local.simulators.hubspot import HubSpotSimulator
from tests.local.client import Answer, call

LIST = "/api/v1/pipeline/"
ANSWERED: tuple[Kind, ...] = ("status", "html", "empty", "wrong_type", "huge", "redirect", "rate_limit")


@pytest.fixture
def close() -> Iterator[CloseSimulator]:
    with CloseSimulator() as simulator:
        yield simulator


def create(simulator: Simulator, **more: Any) -> Answer:
    return call(simulator, "POST", LIST, {"name": "Sales"}, **more)


# Which request is hit


def test_a_fault_hits_the_asked_for_request_as_often_as_asked_counted_from_now(close: CloseSimulator) -> None:
    call(close, "GET", LIST)
    fault = Fault("status", at=2, repeat=2, status=503)
    close.fault(fault)
    statuses = []
    for left in ([fault], [fault], [], []):
        statuses.append(call(close, "GET", LIST).status)
        assert close.pending == left
    assert statuses == [200, 503, 503, 200]


def test_a_fault_counts_only_the_requests_that_match(close: CloseSimulator) -> None:
    close.fault(Fault("status", at=2, method="POST", path="/api/v1/pipe*", status=418))
    assert create(close).status == 201
    assert call(close, "GET", LIST).status == 200
    assert call(close, "POST", "/api/v1/status/opportunity/", {}).status == 400
    assert create(close).status == 418


def test_faults_count_side_by_side_and_the_first_in_the_queue_wins(close: CloseSimulator) -> None:
    close.fault(Fault("status", status=501), Fault("status", at=2, status=502), Fault("status", status=503))
    assert [call(close, "GET", LIST).status for _ in range(3)] == [501, 502, 200]


@pytest.mark.parametrize("forget", ["reset", "clear_faults"])
def test_faults_can_be_called_off(close: CloseSimulator, forget: str) -> None:
    close.fault(Fault("status", repeat=9))
    getattr(close, forget)()
    assert call(close, "GET", LIST).status == 200
    assert close.pending == []


@pytest.mark.parametrize("kind", ANSWERED)
@pytest.mark.parametrize("after", [False, True])
def test_a_fault_answers_in_place_of_the_provider_or_after_it_acted(
    close: CloseSimulator, kind: Kind, after: bool
) -> None:
    close.fault(Fault(kind, after=after))
    assert create(close).status != 201
    assert len(close.pipelines()) == after
    assert len(close.received) == 1


# What goes wrong


def test_status_answers_with_the_given_status_headers_and_body(close: CloseSimulator) -> None:
    bodies = [{"error": "x"}, "<oops>", b"\x00", None]
    close.fault(
        *(Fault("status", at=n, status=477, headers={"Retry-After": "3"}, body=b) for n, b in enumerate(bodies, 1))
    )
    answers = [call(close, "GET", LIST) for _ in bodies]
    assert {(answer.status, answer.headers["retry-after"]) for answer in answers} == {(477, "3")}
    assert [answer.body for answer in answers] == [b'{"error":"x"}', b"<oops>", b"\x00", b""]


@pytest.mark.parametrize("after", [False, True])
def test_reset_breaks_the_connection_without_an_answer(close: CloseSimulator, after: bool) -> None:
    close.fault(Fault("reset", after=after))
    with pytest.raises(ConnectionResetError) as raised:
        create(close)
    assert not isinstance(raised.value, RemoteDisconnected)
    assert len(close.pipelines()) == after


def test_cut_closes_the_connection_in_the_middle_of_the_real_answer(close: CloseSimulator) -> None:
    close.fault(Fault("cut"))
    with pytest.raises(IncompleteRead) as raised:
        create(close)
    assert raised.value.partial.startswith(b'{"id":"pipe_')
    assert raised.value.expected
    assert len(close.pipelines()) == 1


def test_cut_reaches_an_answer_without_a_body_too(close: CloseSimulator) -> None:
    pipeline = close.seed("Sales")
    close.fault(Fault("cut"))
    with raw(close, "DELETE", f"{LIST}{pipeline['id']}/") as connection:
        assert b"\r\n\r\n" not in read_all(connection)
    assert close.pipelines() == []


@pytest.mark.parametrize("after", [False, True])
def test_hang_never_answers(close: CloseSimulator, after: bool) -> None:
    close.fault(Fault("hang", after=after))
    with pytest.raises(TimeoutError):
        create(close, timeout=0.1)
    assert len(close.pipelines()) == after


def test_hang_ends_without_an_answer_after_its_time_or_with_the_simulator(close: CloseSimulator) -> None:
    close.fault(Fault("hang", seconds=0.05), Fault("hang", at=2, seconds=60))
    with raw(close, "GET", LIST) as connection:
        assert read_all(connection) == b""
    with raw(close, "GET", LIST) as connection:
        while len(close.received) < 2:
            time.sleep(0.001)
        start = time.monotonic()
        close.stop()
        assert time.monotonic() - start < 2
        assert read_all(connection) == b""


def test_drip_sends_the_real_answer_byte_by_byte(close: CloseSimulator) -> None:
    close.fault(Fault("drip", every=0.0))
    assert create(close).json["id"] == close.pipelines()[0]["id"]


def test_drip_is_slow_and_bounded(close: CloseSimulator) -> None:
    close.fault(Fault("drip", every=0.02, seconds=0.1))
    start = time.monotonic()
    with raw(close, "GET", LIST) as connection:
        got = read_all(connection)
    assert b"HTTP/1.1 200 OK".startswith(got)
    assert 2 <= len(got) <= 6
    assert time.monotonic() - start >= 0.1


def test_html_is_a_page_with_status_200(close: CloseSimulator) -> None:
    close.fault(Fault("html"))
    answer = call(close, "GET", LIST)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.body.startswith(b"<!DOCTYPE html>")


def test_empty_has_no_body_and_says_so(close: CloseSimulator) -> None:
    close.fault(Fault("empty"))
    answer = call(close, "GET", LIST)
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "0", b"")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_truncated_is_a_complete_answer_with_half_a_json(close: CloseSimulator, method: str) -> None:
    pipeline = close.seed("Sales")
    close.fault(Fault("truncated"))
    answer = create(close) if method == "POST" else call(close, method, f"{LIST}{pipeline['id']}/")
    assert len(answer.body) == int(answer.headers["content-length"])
    assert answer.headers["content-type"] == "application/json"
    with pytest.raises(json.JSONDecodeError):
        _ = answer.json
    assert len(close.pipelines()) == {"POST": 2, "DELETE": 0}[method]


@pytest.mark.parametrize(
    ("body", "seen"), [(None, [1, "two", None]), (7, 7), ("text", "text"), ({"data": 1}, {"data": 1})]
)
def test_wrong_type_is_json_of_another_type(close: CloseSimulator, body: Any, seen: Any) -> None:
    close.fault(Fault("wrong_type", body=body))
    answer = call(close, "GET", LIST)
    assert (answer.status, answer.json) == (200, seen)


def test_huge_is_json_of_the_given_size(close: CloseSimulator) -> None:
    close.fault(Fault("huge", size=1_000_000))
    answer = call(close, "GET", LIST)
    assert len(answer.body) == 1_000_000
    assert set(answer.json["data"]) == {"x"}


def test_a_client_may_leave_in_the_middle_of_a_huge_answer(close: CloseSimulator) -> None:
    close.fault(Fault("huge"))
    with raw(close, "GET", LIST) as connection:
        assert connection.recv(4).startswith(b"H")
    assert call(close, "GET", LIST).status == 200


def test_redirect_points_to_the_given_location(close: CloseSimulator) -> None:
    close.fault(Fault("redirect", location="http://127.0.0.1:9/stolen"))
    answer = call(close, "GET", LIST)
    assert (answer.status, answer.headers["location"], answer.body) == (302, "http://127.0.0.1:9/stolen", b"")


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("retry_after", [None, 7])
def test_rate_limit_is_a_429_of_the_providers_own(name: str, retry_after: int | None) -> None:
    with load(name)() as simulator:
        simulator.fault(Fault("rate_limit", retry_after=retry_after, headers={"X-More": "1"}))
        answer = Answer(0, {}, b"")
        with raw(simulator, "GET", "/") as connection:
            head, _, body = read_all(connection).partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            answer = Answer(int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), body)
        assert answer.status == 429
        said = answer.headers.get("retry-after") or answer.json.get("retry_after")  # Kommo says it in the body
        assert retry_after is None or str(said) == "7"
        assert retry_after is not None or "retry-after" not in answer.headers
        assert answer.headers["x-more"] == "1"
        assert answer.json


def test_the_429_of_close_and_hubspot_have_their_own_shapes() -> None:
    with CloseSimulator() as close, HubSpotSimulator() as hubspot:
        for simulator in (close, hubspot):
            simulator.fault(Fault("rate_limit", retry_after=None))
        assert call(close, "GET", LIST).json["error"].keys() == {"message", "rate_limit", "rate_window", "rate_reset"}
        body = call(hubspot, "GET", "/crm/v3/pipelines/deals").json
        assert body.keys() == {"status", "message", "errorType", "correlationId", "policyName"}


def test_nothing_listens_on_a_closed_port() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(closed_port()).port or 0), timeout=5)


# Bytes as they come


def raw(simulator: Simulator, method: str, path: str) -> socket.socket:
    """A connection on which one request was sent; the server closes it after its answer."""
    address = urlsplit(simulator.url)
    connection = socket.create_connection((address.hostname, address.port or 0), timeout=5)
    credentials = [f"{name}: {value}" for name, value in simulator.authorization(simulator.demo_account).items()]
    lines = (f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *credentials, "", "")
    connection.sendall("\r\n".join(lines).encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)
