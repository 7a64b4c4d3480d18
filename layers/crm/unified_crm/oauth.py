"""OAuth 2 access that does not run out: an account's access token is renewed ahead of its end, and after a 401.

However many functions find at once that a token has run out, it is renewed once: the threads of a process wait for
each other, and processes for who holds the lease, an item `refresh#{account id}` of the table that the environment
variable IDEMPOTENCY_TABLE names. A lease ends by itself after OAUTH_LEASE_SECONDS (15). Without the variable, only the
threads of one process are coordinated.

A provider that refuses to renew has its refusal kept, as the item `reauth#{account id}` with the SHA-256 of the secret
that was refused: as long as this is the account's secret, it is not asked again.

What someone should hear of is told to `listeners`.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from random import uniform
from threading import Lock
from time import monotonic, sleep, time
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from unified_crm import accounts, aws, remote_errors
from unified_crm.accounts import Account
from unified_crm.credentials import OAuth2, secrets_in
from unified_crm.deadline import Deadline
from unified_crm.errors import (
    CredentialsUnavailable,
    NeedsReauth,
    ProviderBadReply,
    ProviderError,
    ProviderTimeout,
    RemoteError,
)
from unified_crm.provider import Reply, TokenEndpoint
from unified_crm.transport import Observe, Transport

MARGIN_SECONDS = 60.0
"""So long before its end an access token is renewed, and up to SPREAD_SECONDS earlier: each process has its own time,
so that not all come at once."""
SPREAD_SECONDS = 30.0
LEASE_SECONDS = 15.0
ASKING = 2 / 3
"""The part of a lease in which the provider must have answered. The rest is for storing what it said."""
LEAST_SECONDS = 2.0
"""With less time left than this nothing is begun: the answer could not be stored."""
POLL_SECONDS = (0.1, 0.3)
STORE_TRIES = 3
AGAIN_SECONDS = 10.0
"""How long after a failure what can wait is tried again: renewing ahead of time, storing what only the process has."""
MARK_CACHE_SECONDS = 30.0
MARK_DAYS = 90
_REMEMBERED = 1000


class Event(NamedTuple):
    """Something that happened to an account's access; `name` is fit to be a metric's.

    `RefreshTokenLost`: the provider gave a new refresh token, and it could not be stored. This process goes on with it
    and tries to store it again, but where it ends before that, the account must be authorized again.
    """

    name: Literal["TokenRefreshed", "TokenRefused", "RefreshTokenLost"]
    account: str
    provider: str


listeners: list[Callable[[Event], None]] = []
"""Who is told of each event, in the thread of the call that it happened to."""


def fresh(account: Account, deadline: Deadline, observe: Observe = lambda _: None) -> Account:
    """The account with an access token that is good for now: itself where nothing is to be done.

    While the old token is good still, a renewal that fails, or that another function is at, holds nobody up. Raises
    NeedsReauth where the provider has refused to renew, CredentialsUnavailable or ProviderError where the token has run
    out and cannot be renewed just now; the provider has done nothing then that the caller asked for.
    """
    account = _unsaved(account)
    if _grant(account) is None:
        return account
    if _memory().refused.get(account.id, _UNKNOWN).fingerprint == account.fingerprint:
        _stop_refused(account)
    if _ends_within(account, 0):
        return _renew(account, deadline, observe, wait=True)
    if not _ends_within(account, MARGIN_SECONDS + _memory().spread) or monotonic() < _memory().later.get(account.id, 0):
        return account
    try:
        return _renew(account, Deadline(deadline.left() / 2), observe, wait=False)
    except (CredentialsUnavailable, ProviderError):
        _put_off(account)
        return account


def renewed(account: Account, deadline: Deadline, observe: Observe = lambda _: None) -> Account | None:
    """After a 401: the account with another access token than the one refused, None where there is no way to get one.

    Raises as `fresh` does.
    """
    if _grant(account) is None:
        return None
    found = _renew(account, deadline, observe, wait=True)
    return found if found.credentials != account.credentials else None


# One at a time


def _renew(account: Account, deadline: Deadline, observe: Observe, wait: bool) -> Account:
    """The account with another access token than it has. `wait` for whoever is at it, else CredentialsUnavailable."""
    lock = _lock(account.id)
    if not lock.acquire(timeout=deadline.left() if wait else 0):
        raise _busy()
    try:
        # What another thread stored is in the cache. What another process did shows past it.
        for past_cache in (False, True):
            current = _stored(account, past_cache)
            if _supersedes(current, account):
                return current
            _stop_refused(current)
        return _renew_under_lease(account, deadline, observe, wait)
    finally:
        lock.release()


def _renew_under_lease(account: Account, deadline: Deadline, observe: Observe, wait: bool) -> Account:
    life = float(os.environ.get("OAUTH_LEASE_SECONDS") or LEASE_SECONDS)
    patience = Deadline(min(life + 5, deadline.left() - LEAST_SECONDS))
    if patience.left() == 0:
        raise ProviderTimeout(
            f"There was no time left to renew the access to {account.provider.label}.", may_have_acted=False
        )
    while patience.left() > 0:
        seconds = min(life, deadline.left())
        asking = Deadline(seconds * ASKING)
        with _lease(account, seconds) as won:
            if won:
                current = _stored(account, past_cache=True)
                if _supersedes(current, account):
                    return current
                _stop_refused(current, past_cache=True)
                return _refresh(current, asking, observe)
        pause = uniform(*POLL_SECONDS)  # noqa: S311 - spreads calls, no secret
        if not wait:
            break
        sleep(pause)
        current = _stored(account, past_cache=True)
        if _supersedes(current, account):
            return current
    raise _busy()


def _stored(account: Account, past_cache: bool) -> Account:
    return _unsaved(accounts.load(account.id, account.tenant, past_cache=past_cache))


def _supersedes(current: Account, used: Account) -> bool:
    """Whether `current` can be used where `used` cannot any more."""
    if not isinstance(current.credentials, OAuth2) or not isinstance(used.credentials, OAuth2):
        return current.credentials != used.credentials
    return current.credentials.access_token != used.credentials.access_token and not _ends_within(current, 0)


def _ends_within(account: Account, seconds: float) -> bool:
    ends = account.credentials.expires_at if isinstance(account.credentials, OAuth2) else None
    if ends is None:
        return False
    return ends.replace(tzinfo=ends.tzinfo or UTC) <= datetime.now(UTC) + timedelta(seconds=seconds)


def _busy() -> CredentialsUnavailable:
    return CredentialsUnavailable(
        "The account's access is being renewed just now; nothing was sent to the provider.",
        headers={"retry-after": "1"},
    )


# Asking the provider


class _Grant(NamedTuple):
    """What an access token is renewed with."""

    endpoint: TokenEndpoint
    refresh_token: str
    client_id: str
    client_secret: str | None


def _grant(account: Account) -> _Grant | None:
    held, endpoint = account.credentials, account.provider.oauth
    if endpoint is None or not isinstance(held, OAuth2) or held.refresh_token is None or held.client_id is None:
        return None
    secret = held.client_secret.get_secret_value() if held.client_secret else None
    return _Grant(endpoint, held.refresh_token.get_secret_value(), held.client_id, secret)


def _refresh(account: Account, deadline: Deadline, observe: Observe) -> Account:
    grant = _grant(account)
    if grant is None:  # the stored credentials are others by now
        raise _busy()
    try:
        return _keep(account, grant, *_ask(account, grant, deadline, observe))
    except _Refused:
        current = _stored(account, past_cache=True)
        if current.fingerprint == account.fingerprint:
            _mark(account)
            _tell("TokenRefused", account)
            raise _needs_reauth(account) from None
        # Someone has renewed it meanwhile, or authorized the account again.
        if _supersedes(current, account):
            return current
        raise _busy() from None


class _Refused(Exception):
    """The provider will not give a token for this refresh token."""


def _ask(account: Account, grant: _Grant, deadline: Deadline, observe: Observe) -> tuple[Mapping[str, Any], datetime]:
    """The tokens that the provider gives, and when they were asked for. Raises _Refused or ProviderError.

    Where no answer came, the same refresh token is tried once more: the provider may not have acted, and if it has, it
    is the refusal of the second that tells.
    """
    fields = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token, **grant.endpoint.extra}
    if grant.endpoint.redirect_uri and "redirect_uri" in account.settings:
        fields["redirect_uri"] = account.settings["redirect_uri"]
    headers, secrets = {}, list(secrets_in(account.credentials))
    if grant.endpoint.client_auth == "basic":
        basic = b64encode(f"{grant.client_id}:{grant.client_secret or ''}".encode()).decode()
        headers["authorization"] = f"Basic {basic}"
        secrets.append(basic)
    else:
        fields |= {"client_id": grant.client_id}
        fields |= {"client_secret": grant.client_secret} if grant.client_secret else {}
    url = accounts.at_origin(account.provider, grant.endpoint.url.format_map(account.settings))
    more = {name: text.format_map(account.settings) for name, text in account.provider.headers.items()}
    transport = Transport(url, headers, secrets, account.provider.label, observe, headers=more)
    form = grant.endpoint.body == "form"

    def ask(until: Deadline) -> tuple[Mapping[str, Any], datetime]:
        asked = datetime.now(UTC)
        try:
            return _tokens(account, transport.post(fields, until, form=form)), asked
        except ProviderError as error:
            error.may_have_acted = False  # in nothing that the caller asked for
            raise

    try:
        return ask(deadline.keep(deadline.left() / 2))
    except ProviderError as error:
        if isinstance(error, RemoteError) or deadline.left() < POLL_SECONDS[1]:
            raise
    sleep(uniform(*POLL_SECONDS))  # noqa: S311 - spreads calls, no secret
    return ask(deadline)


def _tokens(account: Account, reply: Reply) -> Mapping[str, Any]:
    """`access_token`, and `refresh_token`, `expires_in` (seconds) and the rest where the reply has them."""
    if reply.status >= 400:
        said = reply.content()
        # A page in the place of an answer is not the provider's, and no refusal to remember.
        if isinstance(said, dict) and (reply.status in (400, 401) or said.get("error") == "invalid_grant"):
            raise _Refused
        if reply.status == 429:
            raise remote_errors.explain(account.provider, reply, "POST")
        # A status of this address says nothing of what the caller asked for: a 404 here is no missing pipeline.
        raise ProviderBadReply(f"{account.provider.label} answered {reply.status} when asked for an access token.")
    found = {
        re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key): value for key, value in reply.object().items()
    }
    try:
        tokens = {"access_token": found.get("access_token"), "refresh_token": found.get("refresh_token") or None}
        OAuth2.model_validate({"type": "oauth2", **tokens})
    except ValidationError:
        raise ProviderBadReply(f"{account.provider.label} answered without a token.") from None
    return found


def _keep(account: Account, grant: _Grant, tokens: Mapping[str, Any], asked: datetime) -> Account:
    """The account with its new tokens: stored first, and used then."""
    seconds = str(tokens.get("expires_in"))
    changes: dict[str, Any] = {
        "access_token": tokens["access_token"],
        "refresh_token": tokens.get("refresh_token") or grant.refresh_token,
        "expires_at": None,
    }
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", seconds):
        changes["expires_at"] = (asked + timedelta(seconds=float(seconds))).isoformat().replace("+00:00", "Z")
    settings = {}
    for each in account.provider.settings:
        if each.name == grant.endpoint.base_url_key:
            value = tokens.get(each.name)
            settings = {each.name: value} if each.allows(value, accounts.host_suffixes(account.provider)) else {}
    unsaved = _memory().unsaved.get(account.id)
    base = unsaved.base if unsaved else account
    for tried in range(STORE_TRIES):
        if tried:
            sleep(uniform(*POLL_SECONDS) * tried)  # noqa: S311 - spreads calls, no secret
        with suppress(CredentialsUnavailable):
            stored = accounts.store(base, changes, settings)
            _memory().unsaved.pop(account.id, None)
            _tell("TokenRefreshed", account)
            return stored
    credentials = OAuth2.model_validate({**account.credentials.model_dump(), **changes})
    found = account._replace(credentials=credentials, settings={**account.settings, **settings})
    _memory().unsaved[account.id] = _Unsaved(base, changes, settings, found, monotonic() + AGAIN_SECONDS)
    _tell("TokenRefreshed", account)
    if changes["refresh_token"] != grant.refresh_token:
        _tell("RefreshTokenLost", account)
    return found


def _tell(name: Literal["TokenRefreshed", "TokenRefused", "RefreshTokenLost"], account: Account) -> None:
    for listener in listeners:
        listener(Event(name, account.id, account.provider.name))


# What a process remembers


@dataclass
class _Unsaved:
    """Tokens that could not be stored. `base` is the account as it is stored, `found` as it should be."""

    base: Account
    credentials: Mapping[str, Any]
    settings: Mapping[str, Any]
    found: Account
    again: float


class _Refusal(NamedTuple):
    """The fingerprint of a secret that was refused, None where there is none, as it was known until a moment."""

    fingerprint: str | None
    until: float


_UNKNOWN = _Refusal(None, 0)


@dataclass
class _Memory:
    spread: float = field(default_factory=lambda: uniform(0, SPREAD_SECONDS))  # noqa: S311 - spreads calls, no secret
    unsaved: dict[str, _Unsaved] = field(default_factory=dict)
    refused: dict[str, _Refusal] = field(default_factory=dict)
    later: dict[str, float] = field(default_factory=dict)


@cache
def _memory() -> _Memory:
    return _Memory()


def forget() -> None:
    """This process knows of no refusal and of no renewal, and has a time of its own at which it renews."""
    _memory.cache_clear()
    _tables.cache_clear()


@lru_cache(_REMEMBERED)
def _lock(_: str) -> Lock:
    return Lock()


def _unsaved(account: Account) -> Account:
    """The account with the tokens that could not be stored, as long as nobody has stored others."""
    memory = _memory()
    unsaved = memory.unsaved.get(account.id)
    if unsaved is None:
        return account
    if unsaved.base.fingerprint != account.fingerprint:
        memory.unsaved.pop(account.id, None)
        return account
    if monotonic() >= unsaved.again:
        unsaved.again = monotonic() + AGAIN_SECONDS
        with suppress(CredentialsUnavailable):
            stored = accounts.store(unsaved.base, unsaved.credentials, unsaved.settings)
            memory.unsaved.pop(account.id, None)
            return stored
    return unsaved.found


# What all processes know


@contextmanager
def _lease(account: Account, seconds: float) -> Iterator[bool]:
    """Whether the right to renew this account's access, for so many seconds, was won; given back at the end."""
    table, owner, now = os.environ.get("IDEMPOTENCY_TABLE"), str(uuid4()), time()
    key = {"id": {"S": f"refresh#{account.id}"}}
    me = {":me": {"S": owner}}
    if table is None:
        yield True
        return
    held = False
    try:
        # Its own owner too, for the client sends it again where the answer was lost.
        _tables().put_item(
            TableName=table,
            Item={
                **key,
                "owner": {"S": owner},
                "expires": {"N": str(int((now + seconds) * 1000))},
                "expiration": {"N": str(int(now + seconds) + 3600)},
            },
            ConditionExpression="attribute_not_exists(id) OR expires < :now OR #owner = :me",
            ExpressionAttributeNames={"#owner": "owner"},
            ExpressionAttributeValues={":now": {"N": str(int(now * 1000))}, **me},
        )
        won = held = True
    except (ClientError, BotoCoreError) as error:
        won = False
        if not (
            isinstance(error, ClientError) and error.response["Error"]["Code"] == "ConditionalCheckFailedException"
        ):
            # Two that renew at once can spoil a grant for good where refresh tokens are used up, and else nothing.
            if account.provider.oauth is None or account.provider.oauth.rotates:
                raise _busy() from error
            won = True
    try:
        yield won
    finally:
        if held:
            with suppress(ClientError, BotoCoreError):  # it ends by itself
                _tables().delete_item(
                    TableName=table,
                    Key=key,
                    ConditionExpression="#owner = :me",
                    ExpressionAttributeNames={"#owner": "owner"},
                    ExpressionAttributeValues=me,
                )


def _stop_refused(account: Account, past_cache: bool = False) -> None:
    """Raise NeedsReauth where the provider has refused this very secret; known for MARK_CACHE_SECONDS."""
    refused, table = _memory().refused, os.environ.get("IDEMPOTENCY_TABLE")
    known = refused.get(account.id, _UNKNOWN)
    if table is not None and (past_cache or monotonic() >= known.until):
        with suppress(ClientError, BotoCoreError):
            item = _tables().get_item(TableName=table, Key={"id": {"S": f"reauth#{account.id}"}}, ConsistentRead=True)
            found = item.get("Item", {}).get("secret", {}).get("S")
            known = _remember(account.id, found)
    if known.fingerprint == account.fingerprint and (table is not None or monotonic() < known.until):
        raise _needs_reauth(account)


def _mark(account: Account) -> None:
    _remember(account.id, account.fingerprint)
    if table := os.environ.get("IDEMPOTENCY_TABLE"):
        with suppress(ClientError, BotoCoreError):  # the next one asks the provider once more
            _tables().put_item(
                TableName=table,
                Item={
                    "id": {"S": f"reauth#{account.id}"},
                    "secret": {"S": account.fingerprint},
                    "expiration": {"N": str(int(time()) + MARK_DAYS * 24 * 3600)},
                },
            )


def _put_off(account: Account) -> None:
    """A renewal ahead of time that failed is not tried again at once: each call would wait for it in vain."""
    later = _memory().later
    if len(later) >= _REMEMBERED:
        later.clear()
    later[account.id] = monotonic() + AGAIN_SECONDS


def _remember(account_id: str, fingerprint: str | None) -> _Refusal:
    refused = _memory().refused
    if len(refused) >= _REMEMBERED:
        refused.clear()
    known = refused[account_id] = _Refusal(fingerprint, monotonic() + MARK_CACHE_SECONDS)
    return known


def _needs_reauth(account: Account) -> NeedsReauth:
    return NeedsReauth(
        f"{account.provider.label} refused to renew the access of integrated account {account.id}: "
        "it must be authorized again."
    )


@cache
def _tables() -> Any:
    return aws.client("dynamodb", read_timeout=2)
