"""The operator's command line: against moto's server and the simulators, in this process and in one of its own."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic, time
from typing import Any
from uuid import uuid4

import boto3
import pytest

from local import simulators
from local.simulators.base import Fault, Simulator, closed_port
from local.world import IDEMPOTENCY_TABLE, PREFIX, TABLE, World
from tests.conftest import CLOSE, HUBSPOT, SECRETS, Http
from tests.unit.servers import answering, serving
from unified_crm.admin.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
LAYER = ROOT / "layers" / "crm"
KEY = "sesame-open-4711"
COMMAND = (sys.executable, "-W", "error", "-m", "unified_crm.admin")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """What a list shows, without its header."""
        return [re.split(r"\s{2,}", line) for line in self.out.splitlines()[1:]]


Admin = Callable[..., Done]


def shows_no_secret(done: Done, arguments: tuple[str, ...], lines: str) -> Done:
    """No line that was typed in as a secret is shown again, and no demo credential; nor is there a traceback."""
    secrets = {line.strip() for line in lines.splitlines() if len(line.strip()) >= 12} | set(SECRETS) | {KEY}
    shown = done.out + done.err
    assert not [each for each in secrets if each in shown], f"{arguments[:2]} shows a secret"
    assert "Traceback" not in shown
    return done


@pytest.fixture
def admin(world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Admin:
    """Runs a command here. `lines` are its standard input, which is no terminal."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)  # so that what a command sets is put back

    def run(*arguments: str, lines: str = "") -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode()), encoding="utf-8"))
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = int(str(stop.code))
        shown = capsys.readouterr()
        return shows_no_secret(Done(code, shown.out, shown.err), arguments, lines)

    return run


@pytest.fixture
def vault(world: World) -> Iterator[Any]:  # noqa: ARG001 - the environment is the world's
    client = boto3.client("secretsmanager")
    yield client
    client.close()


@pytest.fixture
def tenant() -> str:
    """A tenant that nobody else has: all tests share one AWS."""
    return f"tenant-{uuid4().hex[:8]}"


def stored(vault: Any, account_id: str, prefix: str = PREFIX) -> Any:
    return json.loads(vault.get_secret_value(SecretId=f"{prefix}/accounts/{account_id}")["SecretString"])


def store(vault: Any, content: Any, account_id: str | None = None) -> str:
    account_id = account_id or str(uuid4())
    text = content if isinstance(content, str) else json.dumps(content)
    vault.create_secret(Name=f"{PREFIX}/accounts/{account_id}", SecretString=text)
    return account_id


def count(vault: Any) -> int:
    pages = vault.get_paginator("list_secrets").paginate(IncludePlannedDeletion=True)
    return sum(len(page["SecretList"]) for page in pages)


def close_account(tenant: str, **more: Any) -> dict[str, Any]:
    return {"provider": "close", "tenant": tenant, "credentials": {"type": "api_key", "api_key": KEY}, **more}


def simulator(world: World, name: str) -> Simulator:
    found = world.simulators[name]
    assert isinstance(found, Simulator)
    return found


# accounts add


def test_an_added_account_and_a_created_token_answer_a_call(
    admin: Admin, vault: Any, world: World, http: Http, tenant: str
) -> None:
    token_of = simulator(world, "kommo").demo_account["credentials"]["token"]
    added = admin(
        "accounts", "add", "--provider", "kommo", "--tenant", tenant, "--setting", "subdomain=demo", lines=token_of
    )
    assert added.code == 0
    account_id = added.out.strip()
    assert re.fullmatch(r"[0-9a-f-]{36}\n", added.out)
    assert "one line each: credentials.token\n" in added.err
    assert stored(vault, account_id) == {
        "provider": "kommo",
        "tenant": tenant,
        "credentials": {"type": "bearer", "token": token_of},
        "settings": {"subdomain": "demo"},
    }
    created = admin("tokens", "create", "--tenant", tenant)
    assert http(
        "GET", f"/unified/crm/pipelines?integrated_account_id={account_id}", token=created.out.strip()
    ).status == 200  # fmt: skip
    assert http("GET", f"/unified/crm/pipelines?integrated_account_id={CLOSE}", token=created.out.strip()).status == 404


@pytest.mark.parametrize("name", simulators.names())
def test_an_account_of_each_provider_can_be_added_and_is_fine(
    admin: Admin, world: World, name: str, tenant: str
) -> None:
    provider = simulator(world, name)
    for demo in (provider.demo_account, *provider.accounts):
        kind = demo["credentials"]["type"]
        fields = {
            "api_key": ("api_key",),
            "bearer": ("token",),
            "oauth2": ("access_token", "refresh_token", "expires_at", "client_id", "client_secret"),
        }[kind]
        credentials = {**demo["credentials"], "expires_at": ""}
        settings = [f"--setting={key}={value}" for key, value in (demo["settings"] or {}).items()]
        if kind == "oauth2" and name == "kommo" and not any("redirect_uri" in each for each in settings):
            settings.append("--setting=redirect_uri=https://example.com/back")
        added = admin(
            *("accounts", "add", "--provider", name, "--tenant", tenant, "--type", kind),
            *settings,
            lines="".join(f"{credentials.get(field) or ''}\n" for field in fields),
        )
        assert added.code == 0, added.err
        before = len(provider.received)
        checked = admin("accounts", "check", added.out.strip())
        assert (checked.code, checked.err) == (0, "")
        assert re.fullmatch(r"Fine: \w+ answered\.\n", checked.out)
        (asked,) = provider.received[before:]
        assert asked.method == "GET"


def test_required_settings_that_were_not_given_are_asked_for_first(admin: Admin, vault: Any, tenant: str) -> None:
    arguments = ("accounts", "add", "--provider", "activecampaign", "--tenant", tenant)
    added = admin(*arguments, lines=f"https://acme.api-us1.com\n{KEY}\n")
    assert "one line each: settings.base_url, credentials.api_key\n" in added.err
    assert stored(vault, added.out.strip())["settings"] == {"base_url": "https://acme.api-us1.com"}


def test_an_oauth_account_is_asked_for_all_that_a_refresh_needs(admin: Admin, vault: Any, tenant: str) -> None:
    arguments = ("accounts", "add", "--provider", "kommo", "--tenant", tenant, "--type", "oauth2")
    lines = f"acme\nhttps://example.com/back\n{KEY}-1\n{KEY}-2\n2030-01-31T12:00:00Z\nan-id\n{KEY}-3\n"
    added = admin(*arguments, lines=lines)
    assert added.err.count("\n") == 1
    assert "credentials.access_token, credentials.refresh_token (may be empty)" in added.err
    found = stored(vault, added.out.strip())
    assert found["settings"] == {"subdomain": "acme", "redirect_uri": "https://example.com/back"}
    assert found["credentials"] == {
        "type": "oauth2",
        "access_token": f"{KEY}-1",
        "refresh_token": f"{KEY}-2",
        "expires_at": "2030-01-31T12:00:00+00:00",
        "client_id": "an-id",
        "client_secret": f"{KEY}-3",
    }


def test_what_is_left_empty_is_not_stored_and_its_price_is_said(admin: Admin, vault: Any, tenant: str) -> None:
    added = admin("accounts", "add", "--provider", "hubspot", "--tenant", tenant, "--type", "oauth2", lines=KEY)
    assert "Without refresh_token, client_id, client_secret" in added.err
    assert stored(vault, added.out.strip())["credentials"] == {"type": "oauth2", "access_token": KEY}


def test_a_type_that_was_not_chosen_is_said_with_its_alternatives(admin: Admin, tenant: str) -> None:
    added = admin("accounts", "add", "--provider", "close", "--tenant", tenant, lines=KEY)
    assert "type api_key. Close also takes others: --type bearer, --type oauth2." in added.err


@pytest.mark.parametrize(
    ("arguments", "lines", "code", "said"),
    [
        ((), "", 1, "credentials.api_key was not given"),
        ((), "\n", 1, "credentials.api_key is empty"),
        ((), f"{KEY}-é\n", 1, "credentials.api_key is not usable (printable ASCII, and not empty)"),
        ((), f"{KEY}\x1b[2J\n", 1, "credentials.api_key is not usable"),
        (("--type", "oauth2"), f"{KEY}\n\n{KEY}-soon\n\n\n", 1, "credentials.expires_at is not usable (RFC 3339"),
        (("--type", "oauth2"), f"{KEY}\n\n2030-01-31T12:00:00\n\n\n", 1, "RFC 3339 with a time zone"),
        (("--type", KEY), "", 2, "--type: must be one of api_key, bearer, oauth2"),
        (("--id", KEY), "", 2, "--id: must be a UUID"),
        (("--setting", KEY), "", 2, "--setting: must be NAME=VALUE"),
        (("--setting", f"api_key={KEY}"), "", 2, "Close has no settings"),
        (("--provider", KEY), "", 2, "--provider: must be one of activecampaign, close"),
        (("--provider", "hubspot", "--type", "api_key"), "", 2, "HubSpot takes credentials of type bearer or oauth2"),
        (("--provider", "kommo", "--setting", "subdomain=a.b"), "", 1, "settings.subdomain is not allowed"),
        (("--provider", "kommo", "--setting", "subdomain=a", "--setting", "subdomain=b"), "", 2, "given twice"),
        (("--provider", "kommo"), f"evil.example\n{KEY}\n", 1, "settings.subdomain is not allowed"),
        (("--provider", "kommo"), f"\n{KEY}\n", 1, "settings.subdomain is empty"),
        (("--tenant", ""), "", 2, "--tenant: must be a printable text"),
        (("--tenant", "a\nb"), "", 2, "--tenant: must be a printable text"),
        (("--replace",), KEY, 2, "--replace wants the --id"),
        (("--api-key", KEY), "", 2, "--api-key is not known here. A secret is never an argument"),
        ((f"--token={KEY}",), "", 2, "--token is not known here"),
        ((KEY,), "", 2, "a word is not known here"),
        ((f"--replace={KEY}",), "", 2, "--replace"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_stored(
    admin: Admin, vault: Any, tenant: str, arguments: tuple[str, ...], lines: str, code: int, said: str
) -> None:
    before = count(vault)
    done = admin("accounts", "add", "--provider", "close", "--tenant", tenant, *arguments, lines=lines)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert count(vault) == before


def test_what_is_no_text_is_refused(admin: Admin, monkeypatch: pytest.MonkeyPatch, tenant: str) -> None:
    class Binary(io.TextIOWrapper):
        def readline(self, *_: Any) -> str:  # type: ignore[override]
            return b"\xff\xfe".decode()

    admin("accounts", "list", "--tenant", tenant)
    monkeypatch.setattr(sys, "stdin", Binary(io.BytesIO()))
    assert main(["accounts", "add", "--provider", "close", "--tenant", tenant]) == 1


def test_an_id_is_taken_once_and_replaced_only_by_its_tenant(admin: Admin, vault: Any, tenant: str) -> None:
    account_id = str(uuid4())
    add = ("accounts", "add", "--provider", "close", "--id", account_id.upper(), "--tenant")
    assert admin(*add, tenant, "--replace", lines=KEY).err.endswith(
        f"There is no integrated account {account_id} under {PREFIX}/accounts/.\n"
    )
    assert admin(*add, tenant, lines=KEY).out.strip() == account_id
    again = admin(*add, tenant, lines=f"{KEY}-2")
    assert again.code == 1
    assert f"There is an integrated account {account_id} already; --replace" in again.err
    other = admin(*add, "somebody", "--replace", lines=f"{KEY}-3")
    assert other.code == 1
    assert "belongs to another tenant; nothing was changed" in other.err
    assert stored(vault, account_id)["credentials"]["api_key"] == KEY
    assert admin(*add, tenant, "--replace", lines=f"{KEY}-4").code == 0
    assert stored(vault, account_id)["credentials"]["api_key"] == f"{KEY}-4"


def test_a_key_of_ones_own_encrypts_the_secret(admin: Admin, vault: Any, tenant: str) -> None:
    add = ("accounts", "add", "--provider", "close", "--tenant", tenant, "--prefix", "elsewhere", "--kms-key", "mine")
    account_id = admin(*add, lines=KEY).out.strip()
    assert vault.describe_secret(SecretId=f"elsewhere/accounts/{account_id}")["KmsKeyId"] == "mine"


# accounts list


def test_a_list_shows_what_accounts_are_and_never_a_secret(admin: Admin, vault: Any, tenant: str) -> None:
    oauth = {"type": "oauth2", "access_token": KEY, "expires_at": "2020-01-01T00:00:00Z"}
    plain = store(vault, close_account(tenant))
    late = store(vault, {"provider": "hubspot", "tenant": tenant, "credentials": oauth, "settings": {"b": 1, "a": KEY}})
    good = store(vault, close_account(tenant, credentials={**oauth, "expires_at": "2999-01-01T00:00:00Z"}))
    bad = store(vault, {"provider": "close", "tenant": tenant, "credentials": {"type": "api_key", "key": KEY}})
    foreign = store(vault, close_account("somebody-else"))
    hopeless = store(vault, f"{KEY}, which is no JSON")
    gone = store(vault, close_account(tenant))
    vault.delete_secret(SecretId=f"{PREFIX}/accounts/{gone}")
    listed = admin("accounts", "list", "--tenant", tenant)
    assert listed.out.startswith("ID ")
    assert sorted(listed.rows) == sorted(
        [
            [plain, tenant, "close", "api_key", "-", "-"],
            [late, tenant, "hubspot", "oauth2", "a,b", "yes"],
            [good, tenant, "close", "oauth2", "-", "no"],
            [bad, tenant, "malformed", "-", "-", "-"],
        ]
    )
    everything = admin("accounts", "list")
    assert {foreign, hopeless, CLOSE, HUBSPOT} <= {row[0] for row in everything.rows}
    assert [hopeless, "-", "malformed", "-", "-", "-"] in everything.rows


def test_a_list_has_all_pages_and_no_account_of_another_prefix(admin: Admin, vault: Any) -> None:
    for number in range(103):  # a page has 100
        vault.create_secret(Name=f"many/accounts/{number:03}", SecretString=json.dumps(close_account("many")))
    vault.create_secret(Name="many/others/1", SecretString="{}")
    vault.create_secret(Name="more-than-many/accounts/1", SecretString="{}")
    listed = admin("accounts", "list", "--prefix", "many")
    assert [row[0] for row in listed.rows] == [f"{number:03}" for number in range(103)]


def test_a_list_of_nothing_says_so(admin: Admin, tenant: str) -> None:
    done = admin("accounts", "list", "--tenant", tenant)
    assert (done.code, done.out, done.err) == (0, "", "There are none.\n")


def test_what_a_terminal_would_obey_is_not_shown(admin: Admin, vault: Any, tenant: str) -> None:
    account_id = store(vault, close_account(tenant + "\x1b[2J\n\ud800"))
    try:
        assert "\x1b" not in admin("accounts", "list").out
    finally:
        vault.delete_secret(SecretId=f"{PREFIX}/accounts/{account_id}", ForceDeleteWithoutRecovery=True)


# accounts check


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no JSON", "is malformed: the whole"),
        ({"provider": "close"}, "is malformed: tenant; credentials"),
        ({"provider": "close", "tenant": "x", "credentials": {"type": "api_key"}}, "credentials.api_key.api_key"),
        ({"provider": "close", "tenant": "x", "credentials": {"type": KEY}}, "is malformed: credentials"),
        (close_account("x", provider="nowhere"), "names an unknown provider"),
        (close_account("x", provider="hubspot"), "HubSpot takes credentials of type bearer or oauth2"),
        (close_account("x", provider="activecampaign"), "settings.base_url is missing"),
        (
            close_account("x", provider="activecampaign", settings={"base_url": f"https://{KEY}.example"}),
            "settings.base_url is not allowed",
        ),
    ],
)
def test_a_check_says_what_is_wrong_with_what_is_stored(admin: Admin, vault: Any, content: Any, said: str) -> None:
    done = admin("accounts", "check", store(vault, content))
    assert (done.code, done.out) == (1, "")
    assert said in done.err


def test_a_check_of_an_account_that_is_not_there_says_so(admin: Admin, vault: Any, tenant: str) -> None:
    absent = admin("accounts", "check", str(uuid4()))
    assert absent.code == 1
    assert re.fullmatch(rf"There is no integrated account \S+ under {PREFIX}/accounts/\.\n", absent.err)
    gone = store(vault, close_account(tenant))
    vault.delete_secret(SecretId=f"{PREFIX}/accounts/{gone}")
    deleted = admin("accounts", "check", gone)
    assert deleted.code == 1
    assert f"Integrated account {gone} is being deleted; `aws secretsmanager restore-secret`" in deleted.err
    add = admin("accounts", "add", "--provider", "close", "--tenant", tenant, "--id", gone, lines=KEY)
    assert add.code == 1
    odd = store(vault, close_account(tenant), str(uuid4()).upper())
    assert "its id is no UUID in lower case" in admin("accounts", "check", odd).err
    assert admin("accounts", "check", f"../{KEY} ").code == 2


def test_a_check_sees_what_is_stored_now(admin: Admin, world: World, vault: Any, tenant: str) -> None:
    good = {**simulator(world, "close").demo_account, "tenant": tenant}
    account_id = store(vault, good)
    assert admin("accounts", "check", account_id).code == 0
    vault.put_secret_value(SecretId=f"{PREFIX}/accounts/{account_id}", SecretString=json.dumps(close_account(tenant)))
    refused = admin("accounts", "check", account_id)
    assert refused.code == 1
    assert refused.err.startswith("Close refused the credentials. It said: ")


def test_a_check_names_the_scopes_that_are_missing(admin: Admin, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(simulator(world, "hubspot").world, "scopes", ["crm.schemas.contacts.read"])
    done = admin("accounts", "check", HUBSPOT)
    assert done.code == 1
    assert done.err.startswith("The credentials lack a scope at HubSpot: crm.schemas.deals.read. It said: ")


def test_a_check_names_the_scopes_that_are_needed_where_the_provider_does_not(
    admin: Admin, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = simulator(world, "pipedrive")
    monkeypatch.setitem(provider.world, "scopes", [])
    done = admin("accounts", "check", provider.demo_account_id)
    assert done.code == 1
    assert "lack a scope at Pipedrive; it needs deals:read, admin. " in done.err


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("rate_limit", retry_after=7, repeat=9), "Close wants fewer calls: try again after 7 seconds."),
        (Fault("status", status=500, repeat=9), "Close is down: it answered 500."),
        (Fault("status", status=403, body={"error": "no\x1b[2J"}), "does not let this account list pipelines"),
        (Fault("status", status=402, body={"error": "Pay."}), "Close answered 402. It said: Pay."),
        (Fault("html"), "What Close answered cannot be used: "),
        (Fault("wrong_type"), "What Close answered cannot be used: "),
        (Fault("redirect"), "a redirect (302), which is not followed"),
    ],
)
def test_a_check_says_what_the_provider_did(admin: Admin, world: World, fault: Fault, said: str) -> None:
    simulator(world, "close").fault(fault)
    done = admin("accounts", "check", CLOSE)
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert "\x1b" not in done.err


def test_a_check_says_that_a_provider_cannot_be_reached(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({"close": closed_port()}))
    done = admin("accounts", "check", CLOSE)
    assert done.code == 1
    assert done.err.startswith("Close could not be reached: ")


def test_a_check_asks_for_one_page_only_and_renews_no_token(
    admin: Admin, world: World, vault: Any, tenant: str
) -> None:
    provider = simulator(world, "close")
    for number in range(120):
        provider.seed(f"Pipeline {number}", ["One"])
    asked = len(provider.received)
    assert admin("accounts", "check", CLOSE).code == 0
    assert len(provider.received) == asked + 1
    tokens = {"access_token": KEY, "refresh_token": f"{KEY}-2", "client_id": "i", "client_secret": f"{KEY}-3"}
    oauth = {"type": "oauth2", **tokens, "expires_at": "2020-01-01T00:00:00Z"}
    done = admin("accounts", "check", store(vault, close_account(tenant, credentials=oauth)))
    assert "Close refused the credentials. The access token ran out at 2020-01-01T00:00:00Z, and a call" in done.err
    assert [each.method for each in provider.received[asked + 1 :]] == ["GET"]


# accounts remove


def test_a_removed_account_can_be_restored_for_a_month(admin: Admin, vault: Any, tenant: str) -> None:
    account_id = store(vault, close_account(tenant))
    unasked = admin("accounts", "remove", account_id, lines="y\n")
    assert (unasked.code, unasked.err) == (2, "Nobody can be asked here: add --yes.\n")
    assert admin("accounts", "remove", account_id, "--yes").code == 0
    name = f"{PREFIX}/accounts/{account_id}"
    days = (vault.describe_secret(SecretId=name)["DeletedDate"].timestamp() - time()) / 86400
    assert 29.9 < days < 30.1
    again = admin("accounts", "remove", account_id, "--yes")
    assert again.code == 1
    assert "is being deleted" in again.err
    assert admin("accounts", "remove", account_id, "--yes", "--now").code == 0
    gone = admin("accounts", "remove", account_id, "--yes", "--now")
    assert gone.code == 1
    assert f"There is no integrated account {account_id}" in gone.err


# tokens


def test_a_token_lets_in_until_it_is_revoked(admin: Admin, http: Http, tenant: str) -> None:
    created = admin("tokens", "create", "--tenant", tenant)
    token = created.out.strip()
    assert re.fullmatch(r"[\w-]{43}\n", created.out)
    assert token not in created.err
    lists = f"/unified/crm/pipelines?integrated_account_id={CLOSE}"
    assert http("GET", lists, token=token).status == 404
    hashed = sha256(token.encode()).hexdigest()
    assert admin("tokens", "list", "--tenant", tenant).rows == [[hashed[:12], tenant, "never", "all"]]
    assert admin("tokens", "revoke", "-", lines=f"{token}\n").code == 2
    revoked = admin("tokens", "revoke", "-", "--yes", lines=f"{token}\n")
    assert revoked.code == 0
    assert f"Revoked {hashed[:12]} of tenant {tenant}." in revoked.err
    assert http("GET", lists, token=token).status == 403
    assert admin("tokens", "revoke", "-", "--yes", lines=f"{token}\n").err.endswith("There is no such token.\n")


def test_a_token_ends_and_is_for_its_accounts_only(admin: Admin, world: World, http: Http) -> None:
    options = ("--account", CLOSE.upper(), "--account", CLOSE, "--expires-in", "90d")
    token = admin("tokens", "create", "--tenant", "demo", *options).out.strip()
    (row,) = [row for row in admin("tokens", "list").rows if row[0] == sha256(token.encode()).hexdigest()[:12]]
    assert row[3] == CLOSE
    tables = boto3.resource("dynamodb")
    item = tables.Table(TABLE).get_item(Key={"token_hash": sha256(token.encode()).hexdigest()})["Item"]
    tables.meta.client.close()
    assert abs(int(item["expires_at"]) - time() - 90 * 86400) < 60
    assert http("GET", f"/unified/crm/pipelines?integrated_account_id={CLOSE}", token=token).status == 200
    assert http("GET", f"/unified/crm/pipelines?integrated_account_id={HUBSPOT}", token=token).status == 404
    world.add_token("over-and-done-with", "ended-tenant", expires_at=1)
    assert admin("tokens", "list", "--tenant", "ended-tenant").rows[0][2] == "1970-01-01T00:00:01Z (expired)"


def test_a_token_is_revoked_by_the_beginning_of_its_hash_if_only_one_begins_so(admin: Admin, tenant: str) -> None:
    tables = boto3.resource("dynamodb")
    table = tables.Table(TABLE)
    for letter in "ab":
        table.put_item(Item={"token_hash": "feedface" + letter * 56, "tenant": tenant, "expires_at": 10**30})
    both = admin("tokens", "revoke", "feedface", "--yes")
    assert (both.code, both.err) == (1, "2 tokens begin like that; give more letters.\n")
    assert [row[2] for row in admin("tokens", "list", "--tenant", tenant).rows] == ["malformed", "malformed"]
    assert admin("tokens", "revoke", "feedfacea", "--yes").code == 0
    assert admin("tokens", "revoke", "feedface", "--yes").code == 0
    assert "Item" not in table.get_item(Key={"token_hash": "feedface" + "b" * 56})
    tables.meta.client.close()


@pytest.mark.parametrize("start", ["feedfac", "", "FEEDFACE", "a" * 65, f"{KEY}-is-the-token-itself"])
def test_what_is_no_beginning_of_a_hash_is_refused_and_not_shown(admin: Admin, start: str) -> None:
    done = admin("tokens", "revoke", start, "--yes")
    assert done.code == 2
    assert "or - for a token on standard input" in done.err


@pytest.mark.parametrize("text", ["90", "d", "0d", "-1d", "1.5h", "9999999d", "90 d"])
def test_a_time_that_is_none_is_refused(admin: Admin, text: str, tenant: str) -> None:
    assert admin("tokens", "create", "--tenant", tenant, f"--expires-in={text}").code == 2


def test_the_table_is_the_stacks_own_where_none_is_named(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, tenant: str
) -> None:
    monkeypatch.delenv("TOKENS_TABLE")
    none = admin("tokens", "list")
    assert (none.code, none.out) == (1, "")
    assert "TOKENS_TABLE is not set, and there is no stack unified-crm to ask" in none.err
    stacks = boto3.client("cloudformation")
    topic = {"Topic": {"Type": "AWS::SNS::Topic"}}
    for name, outputs in (("unified-crm", {"TokensTableName": {"Value": TABLE}}), ("bare", {"Other": {"Value": "x"}})):
        stacks.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": topic, "Outputs": outputs}))
    try:
        assert admin("tokens", "create", "--tenant", tenant).code == 0
        assert len(admin("tokens", "list", "--tenant", tenant).rows) == 1
        assert len(admin("tokens", "list", "--tenant", tenant, "--table", TABLE, "--stack", "bare").rows) == 1
        assert "The stack bare has no output TokensTableName" in admin("tokens", "list", "--stack", "bare").err
    finally:
        for name in ("unified-crm", "bare"):
            stacks.delete_stack(StackName=name)
        stacks.close()


# AWS


def test_a_table_that_is_not_there_is_named(admin: Admin) -> None:
    done = admin("tokens", "list", "--table", "nowhere")
    assert (done.code, done.err) == (1, "There is no table nowhere in this AWS account and region.\n")
    other = admin("tokens", "create", "--tenant", "x", "--table", IDEMPOTENCY_TABLE)
    assert (other.code, other.out) == (1, "")
    assert re.fullmatch(r"AWS answered ValidationException to PutItem\.\n", other.err)


@pytest.mark.parametrize(
    "arguments",
    [("accounts", "list"), ("accounts", "check", CLOSE), ("tokens", "list"), ("tokens", "create", "--tenant", "x")],
    ids=" ".join,
)
def test_aws_that_does_not_answer_is_one_sentence(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_port())
    done = admin(*arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err == "AWS could not be reached at AWS_ENDPOINT_URL (EndpointConnectionError).\n"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "no address")
    assert admin(*arguments).err == "The address in AWS_ENDPOINT_URL is none.\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDeniedException", "AWS does not permit CreateSecret with these AWS credentials.\n"),
        ("UnrecognizedClientException", "AWS refuses these AWS credentials: wrong, or expired"),
        ("LimitExceededException", "AWS answered LimitExceededException to CreateSecret.\n"),
    ],
)
def test_what_aws_refuses_is_said_without_its_own_text(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    body = json.dumps({"__type": code, "message": f"{KEY} is not authorized"}).encode()
    head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close\r\n"
    with serving(answering(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        done = admin("accounts", "add", "--provider", "close", "--tenant", "x", lines=KEY)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


# A process of its own


def environment(**more: str | None) -> dict[str, str]:
    found = {**os.environ, "PYTHONPATH": str(LAYER.relative_to(ROOT)), **more}
    return {name: value for name, value in found.items() if value is not None}


def process(*arguments: str, lines: str = "", **more: str | None) -> Done:
    ran = subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(**more),
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return shows_no_secret(Done(ran.returncode, ran.stdout, ran.stderr), arguments, lines)


def test_it_runs_from_the_repository(world: World, vault: Any, tenant: str) -> None:  # noqa: ARG001 - its environment
    added = process("accounts", "add", "--provider", "close", "--tenant", tenant, lines=f"{KEY}\n")
    assert added.code == 0
    account_id = added.out.strip()
    assert stored(vault, account_id)["credentials"]["api_key"] == KEY
    refused = process("accounts", "check", account_id)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("Close refused the credentials. ")
    assert process("accounts", "check").code == 2
    assert process("accounts", "remove", account_id, "--yes", "--now").code == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "There are no AWS credentials here: set "),
        ({"AWS_SECRET_ACCESS_KEY": None}, "There are no AWS credentials here: set "),
        ({"AWS_REGION": None, "AWS_DEFAULT_REGION": None}, "No AWS region is set: set AWS_REGION.\n"),
        ({"AWS_PROFILE": "nobody"}, "There is no AWS profile of the name in AWS_PROFILE.\n"),
    ],
)
@pytest.mark.parametrize("noun", ["accounts", "tokens"])
def test_what_aws_wants_and_is_not_set_is_one_sentence(
    world: World,  # noqa: ARG001 - its environment
    noun: str,
    more: dict[str, Any],
    said: str,
) -> None:
    done = process(noun, "list", **more)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(said)
    assert done.err.count("\n") == 1


def test_the_region_may_have_either_name(world: World) -> None:  # noqa: ARG001 - its environment
    assert process("accounts", "list", AWS_DEFAULT_REGION=None, AWS_REGION="us-east-1").rows
    assert process("accounts", "check", CLOSE, AWS_DEFAULT_REGION=None, AWS_REGION="us-east-1").code == 0


class Terminal:
    """The command at a terminal: what was shown, keys that are pressed once something is."""

    SCRIPT = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT, *COMMAND, *arguments],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.shown = ""

    def expect(self, text: str) -> None:
        assert self.process.stdout is not None
        end = monotonic() + 30
        while text not in self.shown:
            piece = os.read(self.process.stdout.fileno(), 1000)
            assert piece, self.shown
            assert monotonic() < end
            self.shown += piece.decode()

    def press(self, keys: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(keys.encode())
        self.process.stdin.flush()

    def end(self) -> int:
        out, _ = self.process.communicate(timeout=30)
        self.shown += out.decode()
        return self.process.returncode


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo terminals")
def test_at_a_terminal_secrets_are_typed_unseen_and_questions_answered(
    world: World,  # noqa: ARG001 - its environment
    vault: Any,
    tenant: str,
) -> None:
    adding = Terminal("accounts", "add", "--provider", "kommo", "--tenant", tenant)
    adding.expect("settings.subdomain (the account's own label, acme of acme.kommo.com): ")
    adding.press("acme\n")
    adding.expect("credentials.token: ")
    adding.press("\n")
    adding.shown = ""
    adding.expect("credentials.token: ")
    adding.press(f"{KEY}\n")
    assert adding.end() == 0
    assert KEY not in adding.shown
    account_id = adding.shown.split()[-1]
    assert stored(vault, account_id)["credentials"]["token"] == KEY

    for answer, code, said in (("\n", 1, "Nothing was changed."), ("y\n", 0, "Removed.")):
        removing = Terminal("accounts", "remove", account_id)
        removing.expect(f"Remove integrated account {account_id}? It can be restored for 30 days. [y/N] ")
        removing.press(answer)
        assert removing.end() == code
        assert said in removing.shown

    for keys, code in (("\x04", 1), ("\x03", 130)):
        leaving = Terminal("accounts", "add", "--provider", "close", "--tenant", tenant)
        leaving.expect("credentials.api_key: ")
        leaving.press(keys)
        assert leaving.end() == code
        assert "Traceback" not in leaving.shown


# Its place


def test_nothing_else_imports_it() -> None:
    folder = LAYER / "unified_crm" / "admin"
    others = [
        path for path in (*LAYER.rglob("*.py"), *(ROOT / "functions").rglob("*.py")) if folder not in path.parents
    ]
    for path in others:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = getattr(node, "module", "") or ""
            assert not any("admin" in f"{module}.{name}".split(".") for name in names), path


def test_a_cold_start_loads_none_of_it() -> None:
    script = "import sys, api.app; print(*sorted({'unified_crm.admin', 'argparse', 'getpass'} & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment(PYTHONPATH=os.pathsep.join(("layers/crm", "functions")), AWS_DEFAULT_REGION="us-east-1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "unified_crm.admin" not in ran.stdout
