"""What is sent again, how often and when, and what never is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, cast
from uuid import uuid4

import boto3
import pytest
from pydantic import SecretStr

from local.simulators.base import Fault, closed_port
from local.world import PREFIX, REGION, World
from tests.unit import toy
from tests.unit.servers import Exchange, Server, Talk, answering, at_most, ok, serving
from unified_crm import accounts, providers
from unified_crm.accounts import Account
from unified_crm.circuit import Circuits
from unified_crm.credentials import Bearer
from unified_crm.deadline import Deadline
from unified_crm.errors import (
    CredentialsUnavailable,
    ProviderBadReply,
    ProviderError,
    ProviderTimeout,
    ProviderUnreachable,
    RemoteError,
)
from unified_crm.provider import Provider, RateLimit, Reply, Request, Rule
from unified_crm.sender import JITTER, Sender
from unified_crm.transport import Exchange as Seen

GET = Request("GET", "/things")
POST = Request("POST", "/things", json={"name": "x"})
DELETE = Request("DELETE", "/things/t1")
PATCH = Request("PATCH", "/things/t1", json={"name": "y"})


def _method(request: Request) -> str:
    return request.method


def _answer(status: int, head: str = "", body: bytes = b'{"error": "no"}') -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


SLOW_DOWN = _answer(429, "Retry-After: 1\r\n")


def _reset(_: Exchange) -> bool:
    return False


def _cut(exchange: Exchange) -> bool:
    exchange.send(ok(b'{"things": []}')[:-4])
    return False


def _late(exchange: Exchange) -> bool:
    exchange.hang()
    return False


def _script(*talks: bytes | Talk) -> Talk:
    """Each talk is for one request; the last is for all that follow."""

    def talk(exchange: Exchange) -> bool:
        each = talks[min(len(exchange.server.requests), len(talks)) - 1]
        return (answering(each, keep=True) if isinstance(each, bytes) else each)(exchange)

    return talk


FAILURES: dict[str, bytes | Talk] = {
    "502": _answer(502),
    "503": _answer(503),
    "504": _answer(504),
    "reset": _reset,
    "cut": _cut,
}


class Case:
    """A sender in front of a server, and what was seen of its calls. The circuit stays out of the way."""

    def __init__(self, server: Server, declared: Provider, circuits: Circuits) -> None:
        self.server, self.seen = server, list[Seen]()
        credentials = Bearer(type="bearer", token=SecretStr(toy.TOKEN))
        settings = {"subdomain": "acme", "domain": "kommo.com"} if declared.name == "kommo" else {}
        self.sender = Sender(Account("a", "demo", declared, credentials, settings), self.seen.append, circuits)

    def send(self, request: Request = GET, seconds: float = 10, **more: Any) -> Reply:
        return self.sender.send(request, Deadline(seconds), **more)

    @property
    def count(self) -> int:
        return len(self.server.requests)

    @property
    def statuses(self) -> list[int | None]:
        return [each.status for each in self.seen]


@contextmanager
def _case(
    monkeypatch: pytest.MonkeyPatch,
    *talks: bytes | Talk,
    declared: Provider | None = None,
    circuits: Circuits | None = None,
) -> Iterator[Case]:
    declared = declared or toy.provider()
    with serving(_script(*talks)) as server:
        monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({declared.name: server.url}))
        yield Case(server, declared, circuits or Circuits(1000))


# Reads


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("times", [1, 2])
def test_a_read_is_sent_again_after_a_failure_that_can_be_over(
    monkeypatch: pytest.MonkeyPatch, failure: str, times: int
) -> None:
    with _case(monkeypatch, *[FAILURES[failure]] * times, ok()) as case:
        assert case.send().status == 200
        assert case.count == times + 1
        assert case.statuses[-1] == 200
        assert len(case.seen) == times + 1


@pytest.mark.parametrize(
    ("failure", "error"), [(_answer(503), RemoteError), (_reset, ProviderBadReply)], ids=["503", "reset"]
)
def test_a_read_is_sent_again_twice_and_not_more(
    monkeypatch: pytest.MonkeyPatch, failure: bytes | Talk, error: type[ProviderError]
) -> None:
    with _case(monkeypatch, failure) as case:
        started = monotonic()
        with pytest.raises(error):
            case.send()
        assert case.count == 3
        assert JITTER[0] * 2 <= monotonic() - started < JITTER[1] * 3 + 0.5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500, 501, 505, 521])
def test_a_read_is_not_sent_again_after_another_answer(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with _case(monkeypatch, _answer(status)) as case:
        with pytest.raises(RemoteError):
            case.send()
        assert case.count == 1


def test_a_read_that_timed_out_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with _case(monkeypatch, _late) as case:
        with at_most(0.4), pytest.raises(ProviderTimeout):
            case.send(seconds=0.4)
        assert case.count == 1


@pytest.mark.parametrize("answer", [_answer(302, "Location: /\r\n"), ok(b"<html>")], ids=["redirect", "page"])
def test_an_answer_that_would_be_the_same_again_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    with _case(monkeypatch, answer) as case:
        with pytest.raises(ProviderBadReply):
            _ = case.send().json
        assert case.count == 1


def test_pauses_differ_and_stay_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    moments: list[float] = []

    def note(exchange: Exchange) -> bool:
        moments.append(monotonic())
        return answering(_answer(503), keep=True)(exchange)

    pauses: list[float] = []
    with _case(monkeypatch, note) as case:
        for _ in range(5):
            moments.clear()
            with pytest.raises(RemoteError):
                case.send()
            first, second, third = moments
            assert JITTER[0] <= second - first < JITTER[1] + 0.3
            assert JITTER[0] <= third - second < JITTER[1] * 2 + 0.3
            pauses.append(round(second - first, 3))
    assert len(set(pauses)) > 2, "no jitter"


@pytest.mark.parametrize("answer", [_answer(503), SLOW_DOWN, _reset], ids=["503", "429", "reset"])
def test_nothing_is_sent_again_where_too_little_time_would_be_left(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | Talk
) -> None:
    with _case(monkeypatch, answer) as case:
        with at_most(0), pytest.raises(ProviderError):
            case.send(seconds=1)
        assert case.count == 1


@pytest.mark.parametrize(("seconds", "count"), [(1, 2), (2, 2), (3, 1), (60, 1)])
def test_a_503_that_asks_for_a_wait_gets_it_or_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, seconds: int, count: int
) -> None:
    with _case(monkeypatch, _answer(503, f"Retry-After: {seconds}\r\n"), ok()) as case:
        started = monotonic()
        if count == 1:
            with pytest.raises(RemoteError) as caught:
                case.send()
            assert caught.value.headers["retry-after"] == str(seconds)
        else:
            case.send()
            assert seconds <= monotonic() - started < seconds + 0.5
        assert case.count == count


# Writes


@pytest.mark.parametrize("request_", [POST, PATCH, DELETE], ids=_method)
@pytest.mark.parametrize("failure", [*FAILURES, "500", "page"])
def test_a_write_is_not_sent_again_once_it_was_sent(
    monkeypatch: pytest.MonkeyPatch, failure: str, request_: Request
) -> None:
    failures = {**FAILURES, "500": _answer(500), "page": ok(b"<html>")}
    with _case(monkeypatch, failures[failure], ok()) as case:
        with pytest.raises(ProviderError) as caught:
            case.send(request_)
        assert caught.value.may_have_acted
        assert case.count == 1


def test_a_write_that_timed_out_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with _case(monkeypatch, _late, ok()) as case:
        with pytest.raises(ProviderTimeout):
            case.send(POST, seconds=0.4)
        assert case.count == 1


@pytest.mark.parametrize(("method", "attempts"), [("GET", 3), ("POST", 2), ("PATCH", 2), ("DELETE", 2)])
def test_without_a_connection_a_write_is_tried_once_more_and_a_read_twice(
    monkeypatch: pytest.MonkeyPatch, method: str, attempts: int
) -> None:
    with _case(monkeypatch, ok()) as case:
        monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({"toy": closed_port()}))
        away = Case(case.server, toy.provider(), Circuits(1000))
        with pytest.raises(ProviderUnreachable) as caught:
            away.send(Request(method, "/things"))
        assert not caught.value.may_have_acted
        assert [each.error for each in away.seen] == ["provider_unreachable"] * attempts


# Rate limits


@pytest.mark.parametrize("request_", [GET, POST, PATCH, DELETE], ids=_method)
def test_a_short_wait_that_a_429_asks_for_is_taken(monkeypatch: pytest.MonkeyPatch, request_: Request) -> None:
    with _case(monkeypatch, SLOW_DOWN, ok()) as case:
        started = monotonic()
        assert case.send(request_).status == 200
        assert 1 <= monotonic() - started < 1.5
        assert case.statuses == [429, 200]


def test_no_more_than_two_seconds_are_waited_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with _case(monkeypatch, SLOW_DOWN) as case:
        started = monotonic()
        with pytest.raises(RemoteError) as caught:
            case.send(POST)
        assert 2 <= monotonic() - started < 2.5
        assert case.count == 3
        assert (caught.value.code, caught.value.headers["retry-after"]) == ("rate_limited", "1")


def test_a_wait_of_two_seconds_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with _case(monkeypatch, _answer(429, "Retry-After: 2\r\n")) as case:
        with at_most(2), pytest.raises(RemoteError):
            case.send()
        assert case.count == 2


@pytest.mark.parametrize("head", ["Retry-After: 3\r\n", "RateLimit: limit=1, remaining=0, reset=30\r\n"])
def test_a_longer_wait_is_the_callers(monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    with _case(monkeypatch, _answer(429, head)) as case:
        with at_most(0), pytest.raises(RemoteError, match="no"):
            case.send()
        assert case.count == 1


def test_a_wait_after_which_no_time_for_the_call_is_left_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with _case(monkeypatch, SLOW_DOWN, ok()) as case:
        with at_most(0), pytest.raises(RemoteError):
            case.send(seconds=1.9)
        assert case.count == 1


def test_where_a_provider_blocks_who_goes_on_nothing_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = toy.provider(rate_limit=RateLimit(limit=1, blocks=True))
    with _case(monkeypatch, SLOW_DOWN, ok(), declared=declared) as case:
        with at_most(0), pytest.raises(RemoteError):
            case.send()
        assert case.count == 1


def test_kommo_is_a_provider_that_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    with _case(monkeypatch, SLOW_DOWN, ok(), declared=providers.load("kommo")) as case:
        with pytest.raises(RemoteError):
            case.send()
        assert case.count == 1


def test_a_block_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = toy.provider(errors=(Rule("rate_limited", 403, "no"),))
    with _case(monkeypatch, _answer(403, "Retry-After: 1\r\n"), ok(), declared=declared) as case:
        with pytest.raises(RemoteError) as caught:
            case.send()
        assert (caught.value.code, case.count) == ("rate_limited", 1)


def test_all_reasons_together_send_a_request_three_times_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    with _case(monkeypatch, SLOW_DOWN, _answer(503), _reset, ok()) as case:
        with pytest.raises(ProviderBadReply):
            case.send()
        assert case.statuses == [429, 503, None]


def test_each_request_has_attempts_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = _answer(503)
    with _case(monkeypatch, failure, failure, ok(), failure, failure, ok()) as case:
        case.send()
        case.send()
        assert case.count == 6


def test_when_a_request_began_is_when_it_was_last_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another one made while this one waited is not what this one made."""
    with _case(monkeypatch, SLOW_DOWN, _reset) as case:
        started = monotonic()
        with pytest.raises(ProviderBadReply):
            case.send(POST)
        assert 1 <= case.sender.began - started < 1.5


# Access that has run out


class Grant:
    """An OAuth 2 account of Close, whose secret is in the local world, with the token that it was loaded with."""

    def __init__(self, world: World) -> None:
        self.simulator = cast(Any, world.simulators["close"])
        self.seen: list[Seen] = []
        (secret,) = self.simulator.accounts
        client = boto3.client(
            "secretsmanager",
            endpoint_url=world.aws_url,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        account_id = str(uuid4())
        client.create_secret(Name=f"{PREFIX}/accounts/{account_id}", SecretString=json.dumps(secret))
        client.close()
        self.account = accounts.load(account_id, "demo")
        self.sender = Sender(self.account, self.seen.append, Circuits(1000))

    def send(self, method: str = "GET", **more: Any) -> Reply:
        body = {"name": "Sales"} if method == "POST" else None
        return self.sender.send(Request(method, "/pipeline/", json=body), Deadline(10), **more)

    @property
    def calls(self) -> list[tuple[str, int | None]]:
        return [(each.method + " " + each.path.rsplit("/", 2)[-2], each.status) for each in self.seen]


@pytest.fixture
def grant(world: World) -> Iterator[Grant]:
    made = Grant(world)
    yield made
    made.simulator.reset()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_after_a_401_the_token_is_renewed_and_the_request_sent_again(grant: Grant, method: str) -> None:
    grant.simulator.expire_tokens()
    assert grant.send(method).status < 300
    assert grant.calls[0] == (f"{method} pipeline", 401)
    assert grant.calls[-1][0] == f"{method} pipeline"
    assert grant.simulator.refreshes == 1
    assert len(grant.simulator.pipelines()) == (method == "POST")
    grant.send()
    assert grant.simulator.refreshes == 1


def test_that_is_done_once(grant: Grant) -> None:
    grant.simulator.fault(Fault("status", path="*/pipeline/", status=401, body={"error": "no"}, repeat=9))
    for _ in range(2):
        with pytest.raises(RemoteError) as caught:
            grant.send()
        assert (caught.value.code, caught.value.status) == ("needs_reauth", 401)
    assert grant.simulator.refreshes == 1
    assert [call for call, _ in grant.calls].count("GET pipeline") == 3


@pytest.mark.parametrize("always", [False, True])
def test_where_the_renewal_is_refused_the_call_that_met_it_says_so(grant: Grant, always: bool) -> None:
    grant.simulator.expire_tokens()
    grant.simulator.revoke_tokens()
    with pytest.raises(RemoteError) as caught:
        grant.send("POST", always=always)
    assert (caught.value.status, caught.value.code, caught.value.may_have_acted) == (401, "needs_reauth", False)
    assert [call for call, _ in grant.calls].count("POST pipeline") == 1


def test_where_the_renewal_fails_nothing_has_happened(grant: Grant) -> None:
    grant.simulator.expire_tokens()
    grant.simulator.fault(Fault("status", path="*/token/", status=503, body={"error": "down"}, repeat=9))
    with pytest.raises(ProviderError) as caught:
        grant.send("POST")
    assert (caught.value.status, caught.value.may_have_acted) == (502, False)
    assert [call for call, _ in grant.calls].count("POST pipeline") == 1


def test_where_credentials_cannot_be_read_it_is_no_refusal(grant: Grant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_port())
    accounts._secrets.cache_clear()
    grant.simulator.expire_tokens()
    try:
        with pytest.raises(CredentialsUnavailable):
            grant.send()
        with pytest.raises(RemoteError):  # what takes back knows a provider's error only
            Sender(grant.account, circuits=Circuits(1000)).send(Request("GET", "/pipeline/"), Deadline(10), always=True)
    finally:
        accounts._secrets.cache_clear()


def test_an_account_without_a_refresh_token_gets_its_401(monkeypatch: pytest.MonkeyPatch) -> None:
    with _case(monkeypatch, _answer(401)) as case:
        with pytest.raises(RemoteError) as caught:
            case.send()
        assert (caught.value.status, case.count) == (401, 1)


# In flows


def _calls(tool: toy.Toy) -> list[str]:
    return [each.split("/")[0].strip() for each in tool.simulator.calls]


def test_a_create_that_meets_a_429_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with toy.running(monkeypatch) as tool:
        tool.simulator.fault(Fault("rate_limit", at=1), Fault("rate_limit", at=3))
        assert tool.create().outcome == "created"
        assert tool.simulator.names == ["whole", "one", "two"]
        assert _calls(tool) == ["POST whole"] * 2 + ["POST one"] * 2 + ["POST two", "GET"]


def test_a_pipeline_made_by_others_during_a_wait_is_not_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    with toy.running(monkeypatch) as tool:
        tool.simulator.fault(Fault("rate_limit"), Fault("status", at=2, status=502, body={"error": "broken"}))
        with pytest.raises(RemoteError, match="broken"):
            tool.create(values={"name": "whole"})
        assert tool.simulator.names == []
