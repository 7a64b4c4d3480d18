"""An account's OAuth 2 access is renewed in time, once, and what the provider gave is not lost."""

from __future__ import annotations

import http.client
import json
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from threading import Timer
from time import monotonic, time
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from local.simulators.base import Fault, Received, Simulator, Tokens, closed_port
from local.simulators.highlevel import HighLevelSimulator
from local.simulators.kommo import KommoSimulator
from local.simulators.pipedrive import PipedriveSimulator
from local.world import IDEMPOTENCY_TABLE, PREFIX, REGION, World
from tests.unit.servers import Exchange, serving
from unified_crm import accounts, oauth, providers
from unified_crm.accounts import Account
from unified_crm.credentials import OAuth2, secrets_in
from unified_crm.deadline import Deadline
from unified_crm.errors import (
    CredentialsUnavailable,
    NeedsReauth,
    NotFound,
    ProviderBadReply,
    ProviderError,
    ProviderTimeout,
    RemoteError,
)
from unified_crm.oauth import Event

ENDED, DUE, GOOD = -5, 30, 600
"""Seconds until an access token's end."""


def _another_process() -> None:
    """Forget what a process remembers, but for its connections."""
    oauth._memory.cache_clear()
    oauth._lock.cache_clear()
    accounts._secrets().kept.clear()


def _other_connections() -> None:
    oauth._tables.cache_clear()
    accounts._secrets.cache_clear()
    _another_process()


class Place:
    """Accounts of the simulators, the store behind them, and what was heard of them."""

    def __init__(self, world: World, tables: Any, secrets: Any) -> None:
        self.world, self.tables, self.secrets = world, tables, secrets
        self.events: list[Event] = []

    def simulator(self, name: str) -> Simulator:
        found = self.world.simulators[name]
        assert isinstance(found, Simulator)
        return found

    def account(self, name: str = "close", ends: float | None = ENDED, **credentials: Any) -> Account:
        """A new account whose access token ends in so many seconds."""
        (stored,) = [each for each in self.simulator(name).accounts if each["credentials"]["type"] == "oauth2"]
        account_id = str(uuid4())
        self.store(account_id, stored, ends, **credentials)
        return accounts.load(account_id, "demo")

    def store(self, account_id: str, stored: dict[str, Any], ends: float | None, **credentials: Any) -> None:
        moment = ends if ends is None else (datetime.now(UTC) + timedelta(seconds=ends)).isoformat()
        held = {**stored["credentials"], "expires_at": moment, **credentials}
        secret = json.dumps({**stored, "credentials": held, "note": "the operator's own"})
        name = f"{PREFIX}/accounts/{account_id}"
        try:
            self.secrets.create_secret(Name=name, SecretString=secret)
        except self.secrets.exceptions.ResourceExistsException:
            self.secrets.put_secret_value(SecretId=name, SecretString=secret)

    def stored(self, account: Account) -> Any:
        text = self.secrets.get_secret_value(SecretId=f"{PREFIX}/accounts/{account.id}")["SecretString"]
        return json.loads(text)

    def asked(self, name: str = "close") -> list[Received]:
        """The requests for a token."""
        simulator = self.simulator(name)
        assert simulator.tokens
        return [each for each in simulator.received if each.path == simulator.tokens.path]

    def lease(self, account: Account, seconds: float, owner: str = "another") -> None:
        item = {"id": f"refresh#{account.id}", "owner": owner}
        ends = {"expires": {"N": str(int((time() + seconds) * 1000))}}
        self.tables.put_item(
            TableName=IDEMPOTENCY_TABLE, Item={**{name: {"S": text} for name, text in item.items()}, **ends}
        )

    def item(self, kind: str, account: Account) -> Any:
        key = {"id": {"S": f"{kind}#{account.id}"}}
        return self.tables.get_item(TableName=IDEMPOTENCY_TABLE, Key=key).get("Item")

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.events]


@pytest.fixture(scope="module")
def aws(running_world: World) -> Iterator[tuple[Any, Any]]:
    """DynamoDB and Secrets Manager, past what is tested."""
    options: dict[str, Any] = {"region_name": REGION, "endpoint_url": running_world.aws_url}
    options |= {"aws_access_key_id": "local", "aws_secret_access_key": "local", "config": Config(proxies={})}
    with ExitStack() as stack:
        yield (
            stack.enter_context(closing(boto3.client("dynamodb", **options))),
            stack.enter_context(closing(boto3.client("secretsmanager", **options))),
        )


@pytest.fixture
def place(world: World, aws: tuple[Any, Any]) -> Iterator[Place]:
    place = Place(world, *aws)
    oauth.listeners.append(place.events.append)
    _another_process()
    yield place
    oauth.listeners.remove(place.events.append)
    _another_process()


def _token(account: Account) -> str:
    assert isinstance(account.credentials, OAuth2)
    return account.credentials.access_token.get_secret_value()


def _fresh(account: Account, seconds: float = 20) -> Account:
    return oauth.fresh(account, Deadline(seconds))


# In time


@pytest.mark.parametrize("name", ["close", "hubspot"])
def test_a_token_that_has_run_out_is_renewed_and_stored(place: Place, name: str) -> None:
    account = place.account(name)
    found = _fresh(account)
    assert _token(found) != _token(account)
    assert place.simulator(name).refreshes == 1
    stored = place.stored(account)
    assert stored["credentials"]["access_token"] == _token(found)
    rotated = stored["credentials"]["refresh_token"] != account.credentials.refresh_token.get_secret_value()  # type: ignore[union-attr]
    assert rotated == (name == "close")
    assert stored["note"] == "the operator's own"
    life = datetime.fromisoformat(stored["credentials"]["expires_at"]) - datetime.now(UTC)
    assert life.total_seconds() == pytest.approx({"close": 3600, "hubspot": 1800}[name], abs=10)
    assert accounts.load(account.id, "demo") == found, "the cache has it too"
    assert accounts.load(account.id, "demo", past_cache=True) == found
    assert place.item("refresh", account) is None, "the lease is given back"
    assert place.names == ["TokenRefreshed"]
    assert _fresh(found) is found


@pytest.mark.parametrize(("ends", "renewed"), [(DUE, True), (59, True), (95, False), (GOOD, False), (None, False)])
def test_a_token_is_renewed_ahead_of_its_end_and_not_earlier(place: Place, ends: float | None, renewed: bool) -> None:
    account = place.account(ends=ends)
    assert (_token(_fresh(account)) != _token(account)) == renewed
    assert len(place.asked()) == renewed


def test_each_process_has_its_own_time_ahead(place: Place) -> None:  # noqa: ARG001 - its memory is put back
    spreads = []
    for _ in range(20):
        _another_process()
        spreads.append(oauth._memory().spread)
    assert len(set(spreads)) > 1
    assert all(0 <= each <= oauth.SPREAD_SECONDS for each in spreads)


def test_a_moment_without_a_time_zone_is_utc(place: Place) -> None:
    account = place.account(expires_at=(datetime.now(UTC) - timedelta(seconds=5)).replace(tzinfo=None).isoformat())
    assert _token(_fresh(account)) != _token(account)


@pytest.mark.parametrize("missing", [{"refresh_token": None}, {"client_id": None}])
def test_what_cannot_be_renewed_is_left_to_the_provider(place: Place, missing: dict[str, Any]) -> None:
    account = place.account(**missing)
    assert _fresh(account) is account
    assert oauth.renewed(account, Deadline(20)) is None
    assert not place.asked()


def test_other_credentials_are_left_alone(place: Place) -> None:
    account = accounts.load(place.simulator("close").demo_account_id, "demo")
    assert _fresh(account) is account
    assert oauth.renewed(account, Deadline(20)) is None


def test_after_a_401_there_is_another_token(place: Place) -> None:
    account = place.account(ends=GOOD)
    place.simulator("close").expire_tokens()
    found = oauth.renewed(account, Deadline(20))
    assert found
    assert _token(found) != _token(account)
    again = oauth.renewed(account, Deadline(20))
    assert again == found, "the one that is there is taken"
    assert place.simulator("close").refreshes == 1


# As the provider wants to be asked


class _Kommo(KommoSimulator):
    tokens = Tokens("/oauth2/access_token", body="json", extra={"redirect_uri": "https://acme.example/back"})


class _Pipedrive(PipedriveSimulator):
    tokens = Tokens("/oauth/token", client_auth="basic", adds={"api_domain": "https://other.pipedrive.com"})


class _HighLevel(HighLevelSimulator):
    tokens = Tokens("/oauth/token", extra={"user_type": "Location"}, camel_case=True)


class _Strange(PipedriveSimulator):
    tokens: ClassVar[Tokens] = Tokens("/oauth/token", client_auth="basic", adds={"api_domain": "https://evil.example"})


@pytest.fixture
def stand(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type[Simulator]], Simulator]]:
    """Puts a simulator in the place of the world's."""
    with ExitStack() as stack:

        def start(kind: type[Simulator]) -> Simulator:
            simulator = stack.enter_context(kind())
            origins = {**json.loads(place.world.environment["PROVIDER_BASE_URLS"]), kind.name: simulator.url}
            monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps(origins))
            monkeypatch.setitem(place.world.simulators, kind.name, simulator)
            return simulator

        yield start


@pytest.mark.parametrize("kind", [_Kommo, _Pipedrive, _HighLevel])
def test_each_declared_form_is_understood(
    place: Place, stand: Callable[[type[Simulator]], Simulator], kind: type[Simulator]
) -> None:
    simulator = stand(kind)
    (stored,) = [each for each in simulator.accounts if each["credentials"]["type"] == "oauth2"]
    account_id = str(uuid4())
    extra = {"redirect_uri": "https://acme.example/back"} if kind is _Kommo else {}
    place.store(account_id, {**stored, "settings": {**stored["settings"], **extra}}, ENDED)
    account = accounts.load(account_id, "demo")
    found = _fresh(account)
    assert _token(found) != _token(account)
    (asked,) = place.asked(kind.name)
    assert asked.raw_query == ""
    assert simulator.refreshes == 1
    if kind is _Pipedrive:
        assert (
            found.settings["api_domain"]
            == "https://other.pipedrive.com"
            == place.stored(account)["settings"]["api_domain"]
        )


def test_an_origin_that_is_not_the_providers_is_not_kept(
    place: Place, stand: Callable[[type[Simulator]], Simulator]
) -> None:
    stand(_Strange)
    account = place.account("pipedrive")
    found = _fresh(account)
    assert _token(found) != _token(account)
    assert found.settings == account.settings
    assert "evil" not in json.dumps(place.stored(account))


@pytest.mark.parametrize("name", [each for each in providers.names() if providers.load(each).oauth])
def test_no_token_address_has_a_query(name: str) -> None:
    endpoint = providers.load(name).oauth
    assert endpoint
    assert not urlsplit(endpoint.url).query
    assert endpoint.url.startswith("https://")


def test_the_secrets_go_in_the_body_and_nowhere_else(place: Place) -> None:
    _fresh(place.account())
    (asked,) = place.asked()
    sent = parse_qs(asked.body.decode())
    assert set(sent) == {"grant_type", "refresh_token", "client_id", "client_secret"}
    rest = asked.path + asked.raw_query + str(asked.headers)
    assert not [secret for secret in place.simulator("close").secrets() if secret in rest]


# Once


def test_the_threads_of_a_process_renew_once(place: Place) -> None:
    account = place.account()
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: _token(_fresh(account)), range(40)))
    assert len(set(found)) == 1
    assert place.simulator("close").refreshes == 1


def test_what_another_process_has_stored_is_taken(place: Place) -> None:
    account = place.account()
    place.store(account.id, place.stored(account), GOOD, access_token="another-token", refresh_token="another-refresh")
    assert _token(_fresh(account)) == "another-token"
    assert not place.asked()


def test_other_credentials_that_stand_there_by_now_are_taken(place: Place) -> None:
    account = place.account()
    stored = {**place.simulator("close").demo_account}
    place.secrets.put_secret_value(SecretId=f"{PREFIX}/accounts/{account.id}", SecretString=json.dumps(stored))
    assert _fresh(account).credentials.type == "api_key"


def test_who_holds_the_lease_is_waited_for(place: Place) -> None:
    account = place.account()
    place.lease(account, 10)
    stored = place.stored(account)
    moments = []

    def store() -> None:
        place.store(account.id, stored, GOOD, access_token="another-token")
        moments.append(monotonic())

    timer = Timer(0.6, store)
    timer.start()
    started = monotonic()
    assert _token(_fresh(account)) == "another-token"
    ended = monotonic()
    assert ended - started > 0.5
    timer.join()
    assert ended - moments[0] < 1.4  # from when it was there, however late this machine came to it
    assert not place.asked()
    assert place.item("refresh", account), "the other's lease is left to it"


def test_what_was_stored_just_before_the_lease_was_won_is_used(place: Place) -> None:
    """Another process renewed it and gave the lease back, after this one had last looked at the secret."""
    account = place.account()
    stored = place.stored(account)
    events = oauth._tables().meta.events

    def another(**_: Any) -> None:
        place.store(account.id, stored, GOOD, access_token="another-token")

    events.register_first("before-call.dynamodb.PutItem", another)
    try:
        assert _token(_fresh(account)) == "another-token"
    finally:
        events.unregister("before-call.dynamodb.PutItem", another)
    assert not place.asked()


def test_a_lease_that_ran_out_is_nobodys(place: Place) -> None:
    account = place.account()
    place.lease(account, 0.7)
    started = monotonic()
    assert _token(_fresh(account)) != _token(account)
    assert monotonic() - started > 0.6
    assert place.item("refresh", account) is None


def test_waiting_ends_with_the_time_that_there_is(place: Place) -> None:
    account = place.account()
    place.lease(account, 30)
    with pytest.raises(CredentialsUnavailable) as caught:
        _fresh(account, 3)
    assert caught.value.headers == {"retry-after": "1"}
    assert not place.asked()


def test_nothing_is_begun_that_could_not_be_ended(place: Place) -> None:
    with pytest.raises(ProviderTimeout) as caught:
        _fresh(place.account(), 1.5)
    assert not caught.value.may_have_acted
    assert not place.asked()


def test_a_token_that_is_good_still_waits_for_nobody(place: Place) -> None:
    account = place.account(ends=DUE)
    place.lease(account, 30)
    started = monotonic()
    assert _fresh(account) is account
    assert _fresh(account) is account
    assert monotonic() - started < 1


# What the provider says


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=400, body={"error": "invalid_grant"}),
        Fault("status", status=401, body={"error": "invalid_client"}),
        Fault(
            "status", status=400, body={"status": "BAD_REFRESH_TOKEN", "message": "missing or unknown refresh token"}
        ),
        Fault("status", status=403, body={"error": "invalid_grant"}),
    ],
)
def test_a_refusal_is_remembered_as_long_as_the_secret_stays(place: Place, fault: Fault) -> None:
    account = place.account()
    place.simulator("close").fault(fault)
    for process in range(3):
        with pytest.raises(NeedsReauth) as caught:
            _fresh(accounts.load(account.id, "demo"))
        assert (caught.value.status, caught.value.code, caught.value.retryable) == (503, "needs_reauth", False)
        assert account.id in caught.value.message
        if process:
            _another_process()
    with pytest.raises(NeedsReauth):
        oauth.renewed(account, Deadline(20))
    assert len(place.asked()) == 1
    assert place.names == ["TokenRefused"]
    assert place.item("reauth", account)["secret"]["S"] == account.fingerprint
    place.store(account.id, place.stored(account), ENDED, client_secret="close-demo-client-secret-55b0", new="yes")
    _another_process()
    assert _token(_fresh(accounts.load(account.id, "demo"))) != _token(account)


def test_a_refusal_after_a_401_holds_though_the_token_looks_good(place: Place) -> None:
    account = place.account(ends=GOOD)
    place.simulator("close").revoke_tokens()
    with pytest.raises(NeedsReauth):
        oauth.renewed(account, Deadline(20))
    with pytest.raises(NeedsReauth):
        _fresh(account)
    assert len(place.asked()) == 1


def test_a_refusal_of_what_is_not_stored_any_more_is_none(place: Place) -> None:
    """Secrets Manager may show for a moment what was there before."""
    account = place.account(refresh_token="used-up")
    stored = place.stored(account)
    place.simulator("close").fault(Fault("drip", path="/oauth2/token/", seconds=1, every=0.005))
    timer = Timer(0.4, lambda: place.store(account.id, stored, GOOD, access_token="another-token"))
    timer.start()
    assert _token(_fresh(account)) == "another-token"
    timer.join()
    assert place.names == []
    assert place.item("reauth", account) is None


@pytest.mark.parametrize(
    "fault",
    [
        Fault("reset"),
        Fault("cut", after=True),
        Fault("empty"),
        Fault("html"),
        Fault("wrong_type"),
        Fault("status", status=503),
        Fault("status", status=400, body="<html>"),
        Fault("status", body={"error": "invalid_request"}, status=404),
        Fault("status", status=200, body={"error": "something"}),
        Fault("status", status=200, body={"access_token": "not\nsendable"}),
        Fault("redirect", location="https://evil.example/"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_an_answer_that_is_none_is_asked_for_once_more(place: Place, fault: Fault) -> None:
    account = place.account("hubspot")
    place.simulator("hubspot").fault(fault)
    assert _token(_fresh(account)) != _token(account)
    assert len(place.asked("hubspot")) == 2
    assert all(not each.raw_query for each in place.asked("hubspot"))


def test_two_answers_that_are_none_are_an_error_that_did_nothing(place: Place) -> None:
    account = place.account()
    place.simulator("close").fault(Fault("status", status=404, body={"error": "no such"}, repeat=2))
    with pytest.raises(ProviderBadReply) as caught:
        _fresh(account)
    assert not caught.value.may_have_acted
    assert len(place.asked()) == 2
    assert place.item("reauth", account) is None
    assert place.item("refresh", account) is None


def test_a_refresh_token_that_was_used_up_without_an_answer_needs_a_person(place: Place) -> None:
    account = place.account()
    place.simulator("close").fault(Fault("reset", after=True))
    with pytest.raises(NeedsReauth):
        _fresh(account)
    assert len(place.asked()) == 2
    assert place.simulator("close").refreshes == 1


def test_a_rate_limit_is_told_and_not_tried_against(place: Place) -> None:
    place.simulator("close").fault(Fault("rate_limit", retry_after=7))
    with pytest.raises(RemoteError) as caught:
        _fresh(place.account())
    assert (caught.value.code, caught.value.headers["retry-after"]) == ("rate_limited", "7")
    assert not caught.value.may_have_acted
    assert len(place.asked()) == 1


def test_a_provider_that_is_away_spoils_no_token_that_is_good(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({"close": closed_port()}))
    account = place.account(ends=DUE)
    seen: list[Any] = []
    for _ in range(3):
        assert oauth.fresh(account, Deadline(20), seen.append) is account
    assert [each.path for each in seen] == ["/oauth2/token/"] * 2, "not tried again with each call"
    with pytest.raises(ProviderError) as caught:
        _fresh(place.account())
    assert not caught.value.may_have_acted


def test_no_error_shows_a_secret(place: Place) -> None:
    account = place.account("hubspot")
    secrets = secrets_in(account.credentials)
    echo = {"message": " ".join(secrets)}
    place.simulator("hubspot").fault(Fault("status", status=429, body=echo))
    with pytest.raises(RemoteError) as caught:
        _fresh(account)
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value)) + repr(account)
    assert "[redacted]" in shown
    assert not [secret for secret in secrets if secret in shown]


# When what is around fails


@pytest.fixture
def failing(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """AWS, but for the operations named in the list, which are refused."""
    names: list[str] = []
    target = urlsplit(place.world.aws_url).netloc

    def talk(exchange: Exchange) -> bool:
        head, _, body = exchange.request.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        headers = {name.lower(): value for name, value in fields.items()}
        status, answer = 400, b'{"__type": "AccessDeniedException"}'
        if headers["x-amz-target"] not in names:
            connection = http.client.HTTPConnection(target)
            connection.request("POST", "/", body, headers)
            reply = connection.getresponse()
            status, answer = reply.status, reply.read()
            connection.close()
        kind = headers["content-type"]
        exchange.send(
            f"HTTP/1.1 {status} .\r\nContent-Type: {kind}\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer
        )
        return True

    with serving(talk) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        _other_connections()
        yield names
    monkeypatch.undo()
    _other_connections()


PUT_SECRET = "secretsmanager.PutSecretValue"
PUT_LEASE = "DynamoDB_20120810.PutItem"
GET_MARK = "DynamoDB_20120810.GetItem"
DROP_LEASE = "DynamoDB_20120810.DeleteItem"


def test_a_token_that_could_not_be_stored_is_used_reported_and_stored_later(
    place: Place, failing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = place.account()
    failing.append(PUT_SECRET)
    found = _fresh(account)
    assert _token(found) != _token(account)
    assert place.names == ["TokenRefreshed", "RefreshTokenLost"]
    assert place.stored(account)["credentials"]["access_token"] == _token(account)
    assert _token(_fresh(accounts.load(account.id, "demo"))) == _token(found)
    failing.clear()
    assert _token(_fresh(accounts.load(account.id, "demo"))) == _token(found)
    assert place.stored(account)["credentials"]["access_token"] == _token(account), "not tried again at once"
    monkeypatch.setattr(oauth._memory().unsaved[account.id], "again", 0)
    assert _token(_fresh(accounts.load(account.id, "demo"))) == _token(found)
    assert place.stored(account)["credentials"]["access_token"] == _token(found)
    assert not oauth._memory().unsaved
    assert place.simulator("close").refreshes == 1


def test_a_token_that_was_never_stored_can_be_renewed_again(place: Place, failing: list[str]) -> None:
    account = place.account()
    failing.append(PUT_SECRET)
    found = _fresh(account)
    failing.clear()
    again = oauth.renewed(found, Deadline(20))
    assert again
    assert len({_token(account), _token(found), _token(again)}) == 3
    assert place.stored(account)["credentials"]["access_token"] == _token(again)
    assert place.simulator("close").refreshes == 2


def test_what_someone_else_has_stored_goes_before_what_could_not_be(place: Place, failing: list[str]) -> None:
    account = place.account()
    failing.append(PUT_SECRET)
    _fresh(account)
    place.store(account.id, place.stored(account), GOOD, access_token="another-token", refresh_token="another-refresh")
    found = _fresh(accounts.load(account.id, "demo", past_cache=True))
    assert _token(found) == "another-token"
    assert not oauth._memory().unsaved


def test_a_refresh_token_that_stays_is_not_lost(place: Place, failing: list[str]) -> None:
    failing.append(PUT_SECRET)
    account = place.account("hubspot")
    assert _token(_fresh(account)) != _token(account)
    assert place.names == ["TokenRefreshed"]


def test_without_leases_only_what_cannot_be_spoiled_is_renewed(place: Place, failing: list[str]) -> None:
    failing += [PUT_LEASE, GET_MARK, DROP_LEASE]
    account = place.account("hubspot")
    assert _token(_fresh(account)) != _token(account)
    with pytest.raises(CredentialsUnavailable):
        _fresh(place.account("close"))
    good = place.account("close", DUE)
    assert _fresh(good) is good
    assert not place.asked("close")


def test_a_lease_that_cannot_be_given_back_ends_by_itself(place: Place, failing: list[str]) -> None:
    failing.append(DROP_LEASE)
    account = place.account()
    assert _token(_fresh(account)) != _token(account)
    left = int(place.item("refresh", account)["expires"]["N"]) / 1000 - time()
    assert 5 < left < oauth.LEASE_SECONDS


def test_a_refusal_that_cannot_be_kept_holds_in_its_process(place: Place, failing: list[str]) -> None:
    account = place.account("hubspot")
    place.simulator("hubspot").revoke_tokens()
    failing += [PUT_LEASE, GET_MARK]
    for _ in range(2):
        with pytest.raises(NeedsReauth):
            _fresh(account)
    assert len(place.asked("hubspot")) == 1


def test_without_a_table_a_process_is_on_its_own(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IDEMPOTENCY_TABLE")
    account = place.account()
    assert _token(_fresh(account)) != _token(account)
    other = place.account("hubspot")
    place.simulator("hubspot").revoke_tokens()
    for _ in range(2):
        with pytest.raises(NeedsReauth):
            _fresh(other)
    assert len(place.asked("hubspot")) == 1


def test_an_account_that_is_deleted_meanwhile_is_not_made_anew(place: Place) -> None:
    account = place.account()
    place.secrets.delete_secret(SecretId=f"{PREFIX}/accounts/{account.id}", ForceDeleteWithoutRecovery=True)
    with pytest.raises(NotFound):
        _fresh(account)
    assert not place.asked()


def test_credentials_that_someone_stored_meanwhile_are_not_written_over(place: Place) -> None:
    account = place.account()
    place.store(account.id, place.stored(account), GOOD, access_token="another-token", refresh_token="another-refresh")
    found = accounts.store(account, {"access_token": "mine", "refresh_token": "mine"}, {})
    assert _token(found) == "another-token" == place.stored(account)["credentials"]["access_token"]
