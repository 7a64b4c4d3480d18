"""From an account's id and a tenant to a provider and its credentials."""

from __future__ import annotations

import json
import traceback
from base64 import b64encode
from collections.abc import Iterator
from time import monotonic
from typing import Any
from uuid import uuid4

import boto3
import pytest

from local.simulators.base import closed_port
from local.world import PREFIX, REGION, World
from tests.unit.servers import Exchange, Server, serving
from unified_crm import accounts, aws, providers
from unified_crm.accounts import Account, base_url, load
from unified_crm.credentials import Bearer, OAuth2
from unified_crm.deadline import Deadline
from unified_crm.errors import AccountUnusable, CredentialsUnavailable, InternalError, NotFound, UnifiedError
from unified_crm.provider import Request

SECRET = "sesame-open-4711"
GOOD: dict[str, Any] = {
    "provider": "close",
    "tenant": "acme",
    "credentials": {"type": "api_key", "api_key": SECRET},
    "settings": {"layout": 5},
}


@pytest.fixture
def secrets(world: World) -> Iterator[Any]:
    client = boto3.client(
        "secretsmanager",
        endpoint_url=world.aws_url,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    yield client
    client.close()


class Vault:
    """Stores accounts as they are given, well-formed or not."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def store(self, content: Any, account_id: str | None = None) -> str:
        account_id = account_id or str(uuid4())
        form = {"SecretBinary" if isinstance(content, bytes) else "SecretString": content}
        if not isinstance(content, bytes | str):
            form = {"SecretString": json.dumps(content)}
        self.client.create_secret(Name=f"{PREFIX}/accounts/{account_id}", **form)
        return account_id

    def change(self, account_id: str, content: Any) -> None:
        self.client.put_secret_value(SecretId=f"{PREFIX}/accounts/{account_id}", SecretString=json.dumps(content))


@pytest.fixture
def vault(secrets: Any) -> Vault:
    return Vault(secrets)


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Secrets Manager does not answer."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_port())
    accounts._secrets.cache_clear()
    yield
    accounts._secrets.cache_clear()


def _everything(error: BaseException) -> str:
    """All that a log could show of an error."""
    return "".join(traceback.format_exception(error)) + repr(vars(error))


def test_an_account_is_read_whole(vault: Vault) -> None:
    account_id = vault.store(GOOD)
    account = load(account_id, "acme")
    assert (account.id, account.tenant, account.provider.name) == (account_id, "acme", "close")
    assert account.settings == {"layout": 5}
    assert SECRET not in repr(account)


@pytest.mark.parametrize("settings", [{}, {"settings": None}, {"settings": {}}])
def test_settings_may_be_left_out(vault: Vault, settings: dict[str, Any]) -> None:
    stored = {key: value for key, value in GOOD.items() if key != "settings"} | settings
    assert load(vault.store(stored), "acme").settings == {}


def test_a_secret_stored_as_bytes_is_read_too(vault: Vault) -> None:
    assert load(vault.store(json.dumps(GOOD).encode()), "acme").provider.name == "close"


@pytest.mark.parametrize(
    ("credentials", "kind"),
    [
        ({"type": "bearer", "token": SECRET}, Bearer),
        ({"type": "oauth2", "access_token": SECRET, "expires_at": "2030-01-02T03:04:05Z"}, OAuth2),
    ],
)
def test_every_type_of_credentials_is_told_apart(vault: Vault, credentials: dict[str, str], kind: type) -> None:
    account = load(vault.store({**GOOD, "provider": "hubspot", "credentials": credentials}), "acme")
    assert isinstance(account.credentials, kind)


# As if it did not exist


@pytest.mark.usefixtures("world")
def test_an_account_that_is_not_there_is_not_found() -> None:
    account_id = str(uuid4())
    with pytest.raises(NotFound, match=f"^No integrated account {account_id}$"):
        load(account_id, "acme")


def test_an_account_of_another_tenant_looks_exactly_like_a_missing_one(vault: Vault) -> None:
    there, missing = vault.store(GOOD), str(uuid4())
    shown = []
    for account_id in (there, missing):
        with pytest.raises(NotFound) as caught:
            load(account_id, "other")
        error = caught.value
        shown.append(
            (
                error.message.replace(account_id, "…"),
                error.code,
                error.status,
                error.details,
                error.insight,
                error.headers,
            )
        )
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    "stored",
    [
        {**GOOD, "provider": "nowhere"},
        {**GOOD, "credentials": {"type": "bearer"}},
        {**GOOD, "credentials": {"type": "password"}},
        {**GOOD, "credentials": None},
        {**GOOD, "settings": "text"},
        {"tenant": "acme"},
        {**GOOD, "provider": "hubspot"},
    ],
)
def test_an_unusable_account_of_another_tenant_looks_like_a_missing_one_too(vault: Vault, stored: Any) -> None:
    with pytest.raises(NotFound):
        load(vault.store(stored), "other")


@pytest.mark.parametrize("tenant", ["Acme", "acme ", "acm", "", "*"])
def test_a_tenant_is_compared_whole_and_by_case(vault: Vault, tenant: str) -> None:
    with pytest.raises(NotFound):
        load(vault.store(GOOD), tenant)


def test_an_account_that_is_being_deleted_is_not_found(vault: Vault) -> None:
    account_id = vault.store(GOOD)
    vault.client.delete_secret(SecretId=f"{PREFIX}/accounts/{account_id}", RecoveryWindowInDays=7)
    with pytest.raises(NotFound):
        load(account_id, "acme")


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("account_id", ["", "a b", "../x", "x" * 600, "é", "a'b"])
def test_an_id_that_can_be_no_secrets_name_is_not_found(account_id: str) -> None:
    with pytest.raises(NotFound):
        load(account_id, "acme")


def test_a_tokens_own_accounts_are_the_only_ones(vault: Vault) -> None:
    mine, other = vault.store(GOOD), vault.store(GOOD)
    assert load(mine, "acme", {mine}).id == mine
    assert load(mine, "acme", {other, mine}).id == mine
    for allowed in ({other}, set[str]()):
        with pytest.raises(NotFound):
            load(mine, "acme", allowed)


@pytest.mark.usefixtures("no_aws")
def test_a_tokens_own_accounts_are_checked_before_secrets_manager_is_asked() -> None:
    with pytest.raises(NotFound):  # and not CredentialsUnavailable
        load(str(uuid4()), "acme", {"another"})


# What cannot be used


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("", "the whole"),
        ("{", "the whole"),
        (SECRET, "the whole"),
        ("[]", "the whole"),
        ("null", "the whole"),
        (b"\xff\xfe", "the whole"),
        ({}, "provider; tenant; credentials"),
        ({**GOOD, "tenant": ""}, "tenant"),
        ({**GOOD, "tenant": None}, "tenant"),
        ({**GOOD, "credentials": None}, "credentials"),
        ({**GOOD, "credentials": SECRET}, "credentials"),
        ({**GOOD, "credentials": {"api_key": SECRET}}, "credentials"),
        ({**GOOD, "credentials": {"type": SECRET, "api_key": SECRET}}, "credentials"),
        ({**GOOD, "credentials": {"type": "api_key", "key": SECRET}}, "credentials.api_key.api_key"),
        ({**GOOD, "credentials": {"type": "api_key", "api_key": f"{SECRET}\n{SECRET}"}}, "credentials.api_key.api_key"),
        ({**GOOD, "credentials": {"type": "api_key", "api_key": [SECRET]}}, "credentials.api_key.api_key"),
        ({**GOOD, "settings": SECRET}, "settings"),
    ],
)
def test_a_malformed_account_is_unusable_and_the_place_named(vault: Vault, content: Any, where: str) -> None:
    if content == "":
        content = " "  # Secrets Manager takes no empty text
    account_id = vault.store(content)
    with pytest.raises(AccountUnusable, match=f"{account_id} is malformed: {where}$") as caught:
        load(account_id, "acme")
    assert (caught.value.status, caught.value.code) == (503, "account_unusable")
    assert SECRET not in _everything(caught.value)


@pytest.mark.parametrize(
    "provider", ["nowhere", "", "Close", "../close", "close.py", "unified_crm", "x" * 300, "close\n"]
)
def test_an_unknown_provider_is_unusable(vault: Vault, provider: str) -> None:
    with pytest.raises(AccountUnusable, match="unknown provider") as caught:
        load(vault.store({**GOOD, "provider": provider}), "acme")
    assert SECRET not in _everything(caught.value)


def test_credentials_of_a_type_that_the_provider_does_not_take_are_unusable(vault: Vault) -> None:
    with pytest.raises(AccountUnusable, match="HubSpot takes credentials of type bearer or oauth2") as caught:
        load(vault.store({**GOOD, "provider": "hubspot"}), "acme")
    assert "has api_key" in caught.value.message
    assert SECRET not in _everything(caught.value)


# Secrets Manager is down


@pytest.mark.usefixtures("no_aws")
def test_where_secrets_manager_does_not_answer_the_call_can_be_sent_again_soon() -> None:
    started = monotonic()
    with pytest.raises(CredentialsUnavailable) as caught:
        load(str(uuid4()), "acme")
    assert monotonic() - started < 5
    assert (caught.value.status, caught.value.retryable, caught.value.headers) == (503, True, {"retry-after": "1"})


def _as_aws(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    for name, value in {"ENDPOINT_URL": server.url, "DEFAULT_REGION": REGION, "ACCESS_KEY_ID": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    accounts._secrets.cache_clear()


UNREADABLE = {
    "cut short": (100, b'{"Name":"x","SecretString":"{\\"provider\\":'),
    "a page": (0, b"<html>log in</html>"),
    "nothing": (0, b""),
    "no secret": (0, b"{}"),
    "null": (0, b"null"),
    "a list": (0, b"[]"),
    "not UTF-8": (0, b'{"SecretString":"\xff"}'),
    "a secret that is null": (0, b'{"SecretString":null}'),
    "a secret that is a number": (0, b'{"SecretString":5}'),
    "a secret that is an object": (0, b'{"SecretString":{"a":1}}'),
}


@pytest.mark.parametrize(("missing", "body"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.usefixtures("no_aws")
def test_where_secrets_manager_answers_what_is_no_secret_the_call_can_be_sent_again_soon(
    missing: int, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where what stands before it is out of order. botocore passes a body on that broke off."""
    account_id, whole = str(uuid4()), json.dumps({"SecretString": json.dumps(GOOD)}).encode()
    bodies = iter([(missing, body), (0, whole)])

    def talk(exchange: Exchange) -> bool:
        less, content = next(bodies)
        exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content) + less}\r\n\r\n".encode() + content)
        return not less

    with serving(talk) as server:
        _as_aws(monkeypatch, server)
        with pytest.raises(CredentialsUnavailable) as caught:
            load(account_id, "acme")
        assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "1"})
        assert load(account_id, "acme").id == account_id, "and it is not kept"


@pytest.mark.parametrize(("how", "seconds"), [("throttled", 5), ("slow", 9)])
@pytest.mark.usefixtures("no_aws")
def test_where_secrets_manager_is_throttled_or_slow_the_call_can_be_sent_again_soon(
    how: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
    answer = f"HTTP/1.1 400 Bad Request\r\nx-amzn-ErrorType: ThrottlingException\r\nContent-Length: {len(body)}\r\n\r\n"

    def talk(exchange: Exchange) -> bool:
        if how == "slow":
            exchange.hang()
            return False
        exchange.send(answer.encode() + body)
        return True

    with serving(talk) as server:
        _as_aws(monkeypatch, server)
        started = monotonic()
        with pytest.raises(CredentialsUnavailable) as caught:
            load(str(uuid4()), "acme")
        assert monotonic() - started < seconds
        assert len(server.requests) == 2
    assert (caught.value.status, caught.value.retryable, caught.value.headers) == (503, True, {"retry-after": "1"})


@pytest.mark.usefixtures("world")
def test_where_secrets_manager_is_asked_without_permission_nothing_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    aws.forget()
    accounts.forget()
    try:
        with pytest.raises(CredentialsUnavailable):
            load(str(uuid4()), "acme")
    finally:
        aws.forget()
        accounts.forget()


# The cache


def test_a_secret_that_was_read_is_used_again_for_a_while(vault: Vault) -> None:
    account_id = vault.store(GOOD)
    load(account_id, "acme")
    vault.change(account_id, {**GOOD, "settings": {"layout": 6}})
    assert load(account_id, "acme").settings == {"layout": 5}
    accounts._secrets.cache_clear()
    assert load(account_id, "acme").settings == {"layout": 6}


def test_the_cache_does_not_pass_over_the_tenant_or_the_tokens_accounts(vault: Vault) -> None:
    account_id = vault.store(GOOD)
    load(account_id, "acme")
    with pytest.raises(NotFound):
        load(account_id, "other")
    with pytest.raises(NotFound):
        load(account_id, "acme", ())


def test_an_account_that_was_missing_is_found_once_it_is_there(vault: Vault) -> None:
    account_id = str(uuid4())
    with pytest.raises(NotFound):
        load(account_id, "acme")
    assert load(vault.store(GOOD, account_id), "acme").id == account_id


def test_the_cache_does_not_grow_without_end(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "_CACHED_SECRETS", 2)
    accounts.forget()
    ids = [vault.store(GOOD) for _ in range(6)]
    for account_id in [*ids, ids[4]]:
        load(account_id, "acme")
    kept = [name.rpartition("/")[2] for name in accounts._secrets().kept]
    assert kept == ids[4:]
    accounts.forget()


# Where the calls go

CLOSE, HUBSPOT = providers.load("close"), providers.load("hubspot")


@pytest.mark.parametrize("value", [None, "", "{}", '{"hubspot": "http://127.0.0.1:1"}'])
def test_without_an_origin_of_its_own_a_provider_is_called_at_home(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("PROVIDER_BASE_URLS", raising=False)
    if value is not None:
        monkeypatch.setenv("PROVIDER_BASE_URLS", value)
    assert base_url(CLOSE, {}) == CLOSE.base_url == "https://api.close.com/api/v1"


@pytest.mark.parametrize(
    ("origin", "base"),
    [
        ("http://127.0.0.1:9101", "http://127.0.0.1:9101/api/v1"),
        ("https://proxy.example", "https://proxy.example/api/v1"),
        ("http://127.0.0.1:9101/", "http://127.0.0.1:9101/api/v1"),
        ("http://127.0.0.1:9101/elsewhere?x=1#y", "http://127.0.0.1:9101/api/v1"),
    ],
)
def test_an_origin_changes_all_but_the_path(monkeypatch: pytest.MonkeyPatch, origin: str, base: str) -> None:
    monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({"close": origin, "hubspot": origin}))
    assert base_url(CLOSE, {}) == base
    assert base_url(HUBSPOT, {}) == base.removesuffix("/api/v1")


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "[]",
        "null",
        "5",
        '"http://127.0.0.1"',
        '{"close": null}',
        '{"close": 5}',
        '{"close": ""}',
        '{"close": "127.0.0.1:9101"}',
        '{"close": "ftp://127.0.0.1"}',
        '{"close": "http://"}',
        '{"close": "http://["}',
        '{"close": "https://api.close.com", "hubspot": "nonsense"}',
        '{"close": ["http://127.0.0.1"]}',
    ],
)
def test_a_setting_that_is_no_object_of_origins_is_our_fault(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PROVIDER_BASE_URLS", value)
    with pytest.raises(InternalError, match="PROVIDER_BASE_URLS must be"):
        base_url(CLOSE, {})


def test_a_transport_speaks_with_the_accounts_credentials_and_redacts_them(vault: Vault, world: World) -> None:
    account: Account = load(vault.store(GOOD), "acme")
    reply = account.transport().send(Request("GET", "/pipeline/"), Deadline(5))
    (received,) = world.simulators["close"].received  # type: ignore[attr-defined]
    assert reply.status == 401
    assert received.headers["authorization"] == "Basic " + b64encode(f"{SECRET}:".encode()).decode()


def test_no_error_here_is_a_bare_exception(vault: Vault) -> None:
    for content in ("{", '{"provider": 1}', json.dumps({**GOOD, "provider": "\u0000"})):
        with pytest.raises(UnifiedError):
            load(vault.store(content), "acme")
